"""One Optuna study in memory: it proposes configurations, and holds what the result tables hold of them."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState

from emodarts.records import TrialRecord
from emodarts.seeds import derive_seed
from sweeps.settings import SweepSettings
from sweeps.study import samplers
from sweeps.study.search_space import Distribution, SearchSpace
from sweeps.study.warm_start import PriorTrial

_DIRECTIONS = {"dev_uar": optuna.study.StudyDirection.MAXIMIZE, "parameters": optuna.study.StudyDirection.MINIMIZE}
_STATES = {
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class _SharedDistributions(dict[str, Distribution]):
    """Distributions that many trials of a study have in common: Optuna's copies of them were half of a restart."""

    def __deepcopy__(self, memo: object) -> "_SharedDistributions":
        return self


class OptunaStudy:
    """The configurations of a study by their numbers; the preset's own is the first one proposed.

    `prior`: trials of other studies, the best first. As many of these as there are start-up trials come next, and all
    of them teach the sampler.
    """

    def __init__(self, name: str, settings: SweepSettings, space: SearchSpace, prior: Sequence[PriorTrial] = ()):
        self.name, self.settings, self.space, self.prior = name, settings, space, prior
        self.trial_count = 0  # configurations that there are
        self.next_number = 0  # of the next one: no number is used twice, though files of it are gone
        self._distributions: dict[tuple[str, ...], _SharedDistributions] = {}  # by names
        self.study = self._create_study()
        self.first = [space.default_parameters()]
        for trial in prior:
            own = {path: trial.parameters[path] for path in space.distributions_of(trial.parameters)}
            if own not in self.first and len(self.first) < settings.startup:
                self.first.append(own)

    def add_trial(
        self, trial: TrialRecord, reports: dict[int, float], costs: Mapping[str, float] | None = None
    ) -> None:
        """Restore a configuration from the tables; `reports`: by step, what it reported before its end; `costs` of its
        network, where it is complete.
        """
        self.study.add_trial(self._frozen(trial, reports, costs))
        self.trial_count, self.next_number = self.trial_count + 1, self.next_number + 1

    def add_gap(self) -> None:
        """Pass over the number of a configuration whose row is gone: nothing is known of it but that it was used."""
        self.study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))
        self.next_number += 1

    def ask(self) -> dict[str, Any]:
        """The parameters of the next configuration: the preset's own, then what the sampler proposes."""
        # A sampler for each proposal, seeded by names: a restart draws what an undisturbed run would have drawn.
        seed = derive_seed(self.settings.seed, "sampler", self.name, self.next_number) % 2**31
        sampler = samplers.make_sampler(self.settings, self.space, seed)
        number, self.next_number = self.next_number, self.next_number + 1
        self.trial_count += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.study.sampler = sampler
            if number < len(self.first):
                self.study.enqueue_trial(self.first[number])
            elif self.prior:
                informed = self._with_prior_trials()
                informed.sampler = sampler
                self.study.enqueue_trial(self.space.suggest(informed.ask()))
            return {**self.space.suggest(self.study.ask()), **self.space.measured}

    def _create_study(self) -> optuna.Study:
        directions = [_DIRECTIONS[objective] for objective in self.settings.objectives]
        return optuna.create_study(study_name=self.name, directions=directions)

    def _with_prior_trials(self) -> optuna.Study:
        """A copy of the study behind the prior trials, whose values are brought to its level.

        The level is what its own configurations have more than the same ones among the prior trials, on average.
        """
        own = [(trial.params, trial.values[0]) for trial in self.trials if trial.state == TrialState.COMPLETE]
        pairs = [value - p.value for p in self.prior for params, value in own if params.items() <= p.parameters.items()]
        values = pairs or [value for _, value in own]
        level = sum(values) / max(1, len(values))
        study = self._create_study()
        for trial in self.prior:
            record = TrialRecord("", self.name, 0, 0, trial.parameters, "complete", values=(trial.value + level,))
            study.add_trial(self._frozen(record, {}, trial.costs))
        study.add_trials(self.trials)
        return study

    def report(self, number: int, step: int, value: float) -> None:
        """What a running configuration has reached: pruned ones are judged by it."""
        if self._takes_reports:
            optuna.trial.Trial(self.study, self.trials[number]._trial_id).report(value, step)

    def tell(self, trial: TrialRecord, costs: Mapping[str, float] | None = None) -> None:
        """How a configuration ended, and what its network costs."""
        values = list(trial.values) if trial.status == "complete" else None
        running = optuna.trial.Trial(self.study, self.trials[trial.trial]._trial_id)
        for name, violation in self._violations(trial, costs).items():
            running.set_constraint(name, violation)
        self.study.tell(trial.trial, values, state=_STATES[trial.status])

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """All configurations, not to be changed."""
        return self.study.get_trials(deepcopy=False)

    def _frozen(
        self, trial: TrialRecord, reports: dict[int, float], costs: Mapping[str, float] | None
    ) -> optuna.trial.FrozenTrial:
        distributions = self.space.distributions_of(trial.parameters)  # none of what was measured
        frozen = optuna.trial.create_trial(
            state=_STATES[trial.status],
            params={path: trial.parameters[path] for path in distributions},
            distributions=distributions,
            values=list(trial.values) if trial.status == "complete" else None,
            intermediate_values=reports if self._takes_reports else {},
            constraints=self._violations(trial, costs),
        )
        frozen.distributions = self._distributions.setdefault(
            tuple(distributions), _SharedDistributions(frozen.distributions)
        )
        return frozen

    def _violations(self, trial: TrialRecord, costs: Mapping[str, float] | None) -> dict[str, float]:
        """By constraint, how far a complete configuration lies beyond it; 0 or less: it keeps to it."""
        if trial.status != "complete" or costs is None:
            return {}
        return {str(constraint): constraint.violation(costs) for constraint in self.settings.parsed_constraints}

    @property
    def _takes_reports(self) -> bool:
        return len(self.settings.objectives) == 1  # Optuna takes no reports for several
