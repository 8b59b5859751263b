"""The units of the configurations that Optuna proposes for a system. Rebuilt from the result tables at each start.

Under `study_per=fold` each outer fold has a study of its own whose objective is that fold's dev UAR; under
`study_per=sweep` one study runs each configuration on all folds. Studies see dev figures only.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

from optuna.trial import FrozenTrial

from emodarts.experiment.unit_spec import UnitSpec
from emodarts.records import SHARED_STUDY, EpochRecord, RungRecord, TrialRecord, fold_study
from emodarts.results.reader import Results
from emodarts.results.writer import SweepWriter
from emodarts.seeds import derive_seed
from sweeps.settings import SweepSettings
from sweeps.study import importances
from sweeps.study.optuna_study import OptunaStudy
from sweeps.study.pruners import AshaRungs, best_dev_uar, wilcoxon_should_prune
from sweeps.units.outcomes import UnitOutcome, unit_id, unit_ids
from sweeps.units.spec_factory import UnitSpecFactory
from sweeps.units.unit_queue import UnitQueue, now


class StudyQueue(UnitQueue):
    """Hands out the units of proposed configurations; `on_trial_end` gets system, study and each trial that ended."""

    def __init__(
        self,
        settings: SweepSettings,
        specs: UnitSpecFactory,
        writer: SweepWriter,
        results: Results,
        clock: Callable[[], float] = time.time,
        on_trial_end: Callable[[str, str, FrozenTrial], None] = lambda system, study, trial: None,
    ):
        folds = tuple(specs.folds)
        by_study: dict[str, tuple[int, ...]] = (
            {fold_study(f): (f,) for f in folds} if settings.study_per == "fold" else {SHARED_STUDY: folds}
        )
        super().__init__(settings, by_study, specs, writer, results, clock)
        self.on_trial_end = on_trial_end
        self.studies = {study: OptunaStudy(study, settings, specs.space) for study in self.folds}
        self.asha = AshaRungs(settings)
        self.fold_decisions: dict[tuple[str, int], RungRecord] = {}  # the last one of each configuration (wilcoxon)
        self._restore(results.rungs())

    def should_prune(self, unit: UnitSpec, rung: int, epochs: tuple[EpochRecord, ...]) -> bool:
        """Whether a unit that has reached one of its rungs is to be pruned; `epochs`: all that it has run.

        The decision, and a pruned unit's commit, are written first. The decision at a rung is taken once.
        """
        key = unit.key
        if unit_id(key) in self.outcomes:
            return True
        phase, fraction = unit.rungs[rung]
        pruned = self.asha.decisions.get((key.study, key.trial, key.fold, rung))
        if pruned is None:
            value = best_dev_uar(phase, epochs)
            pruned = self.asha.decide(key.study, key.trial, key.fold, rung, value)
            place = (key.study, key.trial, key.seed, key.fold)
            self.writer.write_rung(RungRecord(self.system, *place, rung, phase, fraction, value, pruned, now()))
            if len(self.folds[key.study]) == 1:
                self.studies[key.study].report(key.trial, rung, value)
        if pruned or self.trials[key.study][key.trial, key.seed].status == "pruned":  # the latter by another fold
            self._commit(key, "pruned", f"pruned by asha at {fraction:g} of the epochs of {phase}", epochs)
            return True
        return False

    @property
    def complete(self) -> bool:
        """Whether every trial and seed that the settings ask for has ended."""
        if self.statuses["running"]:
            return False
        return all(self._all_proposed(study) and not self._missing_seeds(study) for study in self.studies)

    @property
    def _units_requested(self) -> int:
        """Pruned configurations may need fewer."""
        seeded = min(self.settings.seeded, self.settings.trials)
        return sum(len(f) * (self.settings.trials + (self.settings.seeds - 1) * seeded) for f in self.folds.values())

    def _refill(self) -> None:
        self._propose()
        if not self.waiting:
            self._add_seeds()

    def _on_outcome(self, trial: TrialRecord, fold: int, outcome: UnitOutcome) -> None:
        folds = self.folds[trial.study]
        if trial.seed == 0 and outcome.status == "complete" and len(folds) > 1:
            self.studies[trial.study].report(trial.trial, folds.index(fold), _dev_uar(outcome))

    def _propose(self) -> None:
        """Ask the study with the fewest configurations for its next one."""
        open_studies = [study for study in self.studies if not self._all_proposed(study)]
        if open_studies:
            study = min(open_studies, key=lambda name: self.studies[name].trial_count)
            number = self.studies[study].trial_count
            self._begin(TrialRecord(self.system, study, number, 0, self.studies[study].ask(), proposed_at=now()))

    def _all_proposed(self, study: str) -> bool:
        return self.studies[study].trial_count >= self.settings.trials

    def _missing_seeds(self, study: str) -> list[tuple[int, int]]:
        """The number of the winner, or of each member of the ensemble (`seeds_of`), and a seed that it has not been
        begun with, for each of these.
        """
        if self.settings.seeds == 1:
            return []
        runs = product(self.history.ranked(study)[: self.settings.seeded], range(1, self.settings.seeds))
        return [run for run in runs if run not in self.trials[study]]

    def _add_seeds(self) -> None:
        """Run the winner, or the members, of each study that has ended with further seeds."""
        for study, trials in self.trials.items():
            if self._all_proposed(study) and self.history.study_has_ended(study):
                for number, seed in self._missing_seeds(study):
                    parameters = trials[number, 0].parameters
                    self._begin(TrialRecord(self.system, study, number, seed, parameters, proposed_at=now()))

    def _begin(self, trial: TrialRecord) -> None:
        self.history.write(trial)
        self._enqueue(trial)

    def _released_folds(self, trial: TrialRecord) -> tuple[int, ...]:
        """The folds that a configuration may run on by now: all, or those up to the next decision between folds."""
        folds = self.folds[trial.study]
        if self.settings.pruner != "wilcoxon" or trial.seed != 0:
            return folds
        decision = self.fold_decisions.get((trial.study, trial.trial))
        return folds[: self.settings.startup_folds * (1 if decision is None else decision.rung + 2)]

    def _decide_between_folds(self, trial: TrialRecord, outcomes: list[UnitOutcome]) -> None:
        """Prune a configuration after some of its folds, or let it run on further ones."""
        before = self.fold_decisions.get((trial.study, trial.trial))
        rung = 0 if before is None else before.rung + 1
        values = [_dev_uar(outcome) for outcome in outcomes]
        pruned = wilcoxon_should_prune(self.settings, self.studies[trial.study].study, dict(enumerate(values)))
        fraction = len(values) / len(self.folds[trial.study])
        place = (trial.study, trial.trial, trial.seed, None)
        record = RungRecord(self.system, *place, rung, "folds", fraction, sum(values) / len(values), pruned, now())
        self.writer.write_rung(record)
        self.fold_decisions[trial.study, trial.trial] = record
        if pruned:
            self._close(trial, "pruned", _wilcoxon_reason(record))
        else:
            self._enqueue(trial)

    def _on_trial_end(self, trial: TrialRecord) -> None:
        """Tell the study; where that has ended, too, write its importances."""
        if trial.seed != 0:
            return
        study = self.studies[trial.study]
        study.tell(trial)
        self.on_trial_end(self.system, trial.study, study.trials[trial.trial])
        if self._all_proposed(trial.study) and self.history.study_has_ended(trial.study):
            seed = derive_seed(self.settings.seed, "importances", trial.study) % 2**31
            values = importances.fanova_importances(study.study, study.space, seed)
            self.writer.write_importances(self.system, trial.study, values)

    def _restore(self, decisions: Sequence[RungRecord]) -> None:
        """Take over what the tables hold of this sweep: decisions and trials; running ones go on."""
        reports: dict[tuple[str, int], dict[int, float]] = {}  # of configurations on one fold, by rung
        for decision in decisions:
            if decision.system != self.system or decision.study not in self.folds:
                continue
            if decision.fold is None:
                self.fold_decisions[decision.study, decision.trial] = decision
            else:
                self.asha.restore(decision)
                if len(self.folds[decision.study]) == 1:
                    reports.setdefault((decision.study, decision.trial), {})[decision.rung] = decision.value
        trials = [trial for study in sorted(self.trials) for trial in self.trials[study].values()]
        for trial in trials:
            if trial.seed == 0:
                by_rung = reports.get((trial.study, trial.trial), {})
                self.studies[trial.study].add_trial(trial, by_rung | self._reports_by_fold(trial))
        for trial in trials:
            if trial.status == "running":
                self._resume(trial)

    def _reports_by_fold(self, trial: TrialRecord) -> dict[int, float]:
        """Dev UARs of a configuration on several folds, by the fold's position."""
        folds = self.folds[trial.study]
        outcomes = [self.outcomes.get(identity) for identity in unit_ids(trial, folds)] if len(folds) > 1 else []
        return {i: o.dev_uar for i, o in enumerate(outcomes) if o is not None and o.dev_uar is not None}

    def _resume(self, trial: TrialRecord) -> None:
        """Go on with a configuration that was running when the last driver ended."""
        decision = self.fold_decisions.get((trial.study, trial.trial))
        if decision is not None and decision.pruned and trial.seed == 0:
            self._close(trial, "pruned", _wilcoxon_reason(decision))
            return
        self._advance(trial)
        trial = self.trials[trial.study][trial.trial, trial.seed]
        if trial.status == "running" and self._enqueue(trial):
            self.history.write(replace(trial, retries=trial.retries + 1))


def _wilcoxon_reason(record: RungRecord) -> str:
    return f"pruned by wilcoxon at {record.fraction:.2g} of the folds"


def _dev_uar(outcome: UnitOutcome) -> float:
    """That of a complete unit: folds of searches have dev parts."""
    assert outcome.dev_uar is not None
    return outcome.dev_uar
