"""One Optuna study in memory: it asks for configurations, and knows what the tables know."""

import warnings
from typing import Any

import optuna
from optuna.trial import TrialState

from emodarts.records import TrialRecord
from emodarts.seeds import derive_seed
from sweeps.settings import SweepSettings
from sweeps.study import samplers
from sweeps.study.search_space import SearchSpace

_DIRECTIONS = {
    "dev_uar": optuna.study.StudyDirection.MAXIMIZE,
    "parameters": optuna.study.StudyDirection.MINIMIZE,
}
_STATES = {
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class OptunaStudy:
    """The configurations of a study, by their numbers."""

    def __init__(self, name: str, settings: SweepSettings, space: SearchSpace, default: dict[str, Any]):
        self.name, self.settings, self.space, self.default = name, settings, space, default
        self.count = 0
        self.study = optuna.create_study(
            study_name=name, directions=[_DIRECTIONS[objective] for objective in settings.objectives]
        )

    def add(self, trial: TrialRecord, steps: dict[int, float]) -> None:
        """Take over a configuration from the tables; `steps`: what was reported before its end."""
        done = trial.status == "complete"
        self.study.add_trial(
            optuna.trial.create_trial(
                state=_STATES[trial.status],
                params=trial.parameters,
                distributions=self.space.active(trial.parameters),
                values=list(trial.values) if done else None,
                intermediate_values=steps if self._reports else {},
            )
        )
        self.count += 1

    def ask(self) -> dict[str, Any]:
        """The next configuration: the preset's own as the first, then what the sampler proposes."""
        # A sampler a proposal, seeded by names: a restart draws what an undisturbed run would have drawn.
        seed = derive_seed(self.settings.seed, "sampler", self.name, self.count) % 2**31
        self.study.sampler = samplers.make_sampler(self.settings, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.count == 0:
                self.study.enqueue_trial(self.default)
            self.count += 1
            return self.space.suggest(self.study.ask())

    def report(self, number: int, step: int, value: float) -> None:
        """What a configuration that runs has reached; pruned ones are judged by it."""
        if self._reports:
            optuna.trial.Trial(self.study, self.study.get_trials(deepcopy=False)[number]._trial_id).report(value, step)

    def tell(self, trial: TrialRecord) -> None:
        """How a configuration ended."""
        values = list(trial.values) if trial.status == "complete" else None
        self.study.tell(trial.trial, values, state=_STATES[trial.status])

    @property
    def _reports(self) -> bool:
        return len(self.settings.objectives) == 1  # Optuna takes no reports for several
