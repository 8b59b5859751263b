"""One Optuna study in memory: it proposes configurations, and holds what the result tables hold of them."""

import warnings
from typing import Any

import optuna
from optuna.trial import TrialState

from emodarts.records import TrialRecord
from emodarts.seeds import derive_seed
from sweeps.settings import SweepSettings
from sweeps.study import samplers
from sweeps.study.search_space import SearchSpace

_DIRECTIONS = {"dev_uar": optuna.study.StudyDirection.MAXIMIZE, "parameters": optuna.study.StudyDirection.MINIMIZE}
_STATES = {
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class OptunaStudy:
    """The configurations of a study by their numbers; the preset's own is the first one proposed."""

    def __init__(self, name: str, settings: SweepSettings, space: SearchSpace):
        self.name, self.settings, self.space = name, settings, space
        self.trial_count = 0
        self.study = optuna.create_study(
            study_name=name, directions=[_DIRECTIONS[objective] for objective in settings.objectives]
        )

    def add_trial(self, trial: TrialRecord, reports: dict[int, float]) -> None:
        """Restore a configuration from the tables; `reports`: by step, what it reported before its end."""
        distributions = self.space.distributions_of(trial.parameters)  # none of what was measured
        self.study.add_trial(
            optuna.trial.create_trial(
                state=_STATES[trial.status],
                params={path: trial.parameters[path] for path in distributions},
                distributions=distributions,
                values=list(trial.values) if trial.status == "complete" else None,
                intermediate_values=reports if self._takes_reports else {},
            )
        )
        self.trial_count += 1

    def ask(self) -> dict[str, Any]:
        """The parameters of the next configuration: the preset's own, then what the sampler proposes."""
        # A sampler for each proposal, seeded by names: a restart draws what an undisturbed run would have drawn.
        seed = derive_seed(self.settings.seed, "sampler", self.name, self.trial_count) % 2**31
        self.study.sampler = samplers.make_sampler(self.settings, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.trial_count == 0:
                self.study.enqueue_trial(self.space.default_parameters())
            self.trial_count += 1
            return {**self.space.suggest(self.study.ask()), **self.space.measured}

    def report(self, number: int, step: int, value: float) -> None:
        """What a running configuration has reached: pruned ones are judged by it."""
        if self._takes_reports:
            optuna.trial.Trial(self.study, self.trials[number]._trial_id).report(value, step)

    def tell(self, trial: TrialRecord) -> None:
        """How a configuration ended."""
        values = list(trial.values) if trial.status == "complete" else None
        self.study.tell(trial.trial, values, state=_STATES[trial.status])

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """All configurations, not to be changed."""
        return self.study.get_trials(deepcopy=False)

    @property
    def _takes_reports(self) -> bool:
        return len(self.settings.objectives) == 1  # Optuna takes no reports for several
