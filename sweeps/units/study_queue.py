"""The units of the configurations that Optuna proposes for a system. Rebuilt from the result tables at each start.

Under `study_per=fold` each outer fold has a study of its own whose objective is that fold's dev UAR; under
`study_per=sweep` one study runs each configuration on all folds. With `sweep.inner` a configuration is judged on inner
splits of its fold, one after the other, and the best are then trained on the fold's own parts. Studies see dev figures
only.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from statistics import mean

from optuna.trial import FrozenTrial

from emodarts.experiment.unit_spec import UnitSpec
from emodarts.garbage_collection import without_garbage_collection
from emodarts.records import SHARED_STUDY, EpochRecord, RungRecord, TrialRecord, fold_study
from emodarts.results.reader import Results
from emodarts.results.writer import SweepWriter
from emodarts.seeds import derive_seed
from sweeps.settings import SweepSettings
from sweeps.study import importances
from sweeps.study.optuna_study import OptunaStudy
from sweeps.study.pruners import AshaRungs, best_dev_uar, race_should_stop, wilcoxon_should_prune
from sweeps.study.warm_start import WarmStart
from sweeps.units.outcomes import UnitId, UnitOutcome, unit_id
from sweeps.units.spec_factory import UnitSpecFactory
from sweeps.units.unit_queue import UnitQueue, now


class StudyQueue(UnitQueue):
    """Hands out the units of proposed configurations; `on_trial_end` gets system, study and each trial that ended."""

    @without_garbage_collection()
    def __init__(
        self,
        settings: SweepSettings,
        specs: UnitSpecFactory,
        writer: SweepWriter,
        results: Results,
        clock: Callable[[], float] = time.time,
        on_trial_end: Callable[[str, str, FrozenTrial], None] = lambda system, study, trial: None,
        warm_start: WarmStart | None = None,
    ):
        folds = tuple(specs.folds)
        by_study: dict[str, tuple[int, ...]] = (
            {fold_study(f): (f,) for f in folds} if settings.study_per == "fold" else {SHARED_STUDY: folds}
        )
        super().__init__(settings, by_study, specs, writer, results, clock)
        self.on_trial_end = on_trial_end
        priors = {s: warm_start.prior_trials(specs.space, specs.system, s) if warm_start else () for s in self.folds}
        self.studies = {study: OptunaStudy(study, settings, specs.space, prior) for study, prior in priors.items()}
        self.asha = AshaRungs(settings)
        self.decisions: dict[tuple[str, int], RungRecord] = {}  # between folds or splits, the last of a configuration
        self.units_spared = 0  # on inner splits, of configurations that ended before their last one
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
        has_ended = (
            self._all_proposed(s) and not (self._missing_finals(s) or self._missing_seeds(s)) for s in self.studies
        )
        return all(has_ended)

    @property
    def _units_requested(self) -> int:
        """Configurations pruned between folds may need fewer."""
        return sum(map(len, self.folds.values())) * units_per_fold(self.settings) - self.units_spared

    def _refill(self) -> None:
        self._propose()
        if self.settings.inner and not self.waiting:
            self._add_finals()
        if not self.waiting:
            self._add_seeds()

    def _on_outcome(self, trial: TrialRecord, unit: UnitId, outcome: UnitOutcome) -> None:
        units = self.history.unit_ids(trial)
        if trial.seed == 0 and outcome.status == "complete" and len(units) > 1:
            step = units.index(unit)
            self.studies[trial.study].report(trial.trial, step, self._reports_by_unit(trial)[step])

    def _on_final_end(self, trial: TrialRecord) -> None:
        """What cannot be trained on the fold's own parts is no winner: its row says so, and the next best follows."""
        outcome = self.outcomes[self.history.final_ids(trial)[0]]
        if outcome.status == "failed":
            self.history.write(replace(trial, status="failed", reason=outcome.reason, values=()))

    def _propose(self) -> None:
        """Ask the study with the fewest configurations for its next one."""
        open_studies = [study for study in self.studies if not self._all_proposed(study)]
        if open_studies:
            study = min(open_studies, key=lambda name: self.studies[name].trial_count)
            number = self.studies[study].next_number
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

    def _missing_finals(self, study: str) -> list[TrialRecord]:
        """Of the configurations that are trained on the fold's own parts, those whose unit there has not ended."""
        best = self.history.ranked(study)[: self.settings.finals] if self.settings.finals else ()
        trials = [self.trials[study][number, 0] for number in best]
        return [t for t in trials if any(unit not in self.outcomes for unit in self.history.final_ids(t))]

    @property
    def _ended_studies(self) -> list[str]:
        return [s for s in self.studies if self._all_proposed(s) and self.history.study_has_ended(s)]

    def _add_finals(self) -> None:
        """Run the winner and the other members of each study that has ended on the fold's own train and dev parts."""
        for trial in (trial for study in self._ended_studies for trial in self._missing_finals(study)):
            self._enqueue_units(trial, self.history.final_ids(trial))

    def _add_seeds(self) -> None:
        """Run the winner, or the members, of each study that has ended with further seeds."""
        for study in self._ended_studies:
            for number, seed in self._missing_seeds(study):
                parameters = self.trials[study][number, 0].parameters
                self._begin(TrialRecord(self.system, study, number, seed, parameters, proposed_at=now()))

    def _begin(self, trial: TrialRecord) -> None:
        self.history.write(trial)
        self._enqueue(trial)

    def _released_units(self, trial: TrialRecord) -> list[UnitId]:
        """The units of a configuration that may run by now: all, or those up to the next decision between them."""
        units, settings = self.history.unit_ids(trial), self.settings
        if trial.seed != 0 or not (settings.inner or settings.pruner == "wilcoxon"):
            return units
        decision, wave = self.decisions.get((trial.study, trial.trial)), 1 if settings.inner else settings.startup_folds
        return units[: wave * (1 if decision is None else decision.rung + 2)]

    def _decide_between_units(self, trial: TrialRecord, outcomes: list[UnitOutcome]) -> None:
        """Prune a configuration after some of its folds or splits, or let it run on further ones."""
        before, study = self.decisions.get((trial.study, trial.trial)), trial.study
        rung = 0 if before is None else before.rung + 1
        values = [self._judged(outcome) for outcome in outcomes]
        if self.settings.inner:
            phase, pruned = "inner", race_should_stop(values, self._values_of_best(study), self.settings.finals)
        else:
            phase, by_fold = "folds", dict(enumerate(values))
            pruned = wilcoxon_should_prune(self.settings, self.studies[study].study, by_fold)
        fraction = len(values) / len(self.history.unit_ids(trial))
        place = (study, trial.trial, trial.seed, None)
        value, split = sum(values) / len(values), rung if self.settings.inner else None
        record = RungRecord(self.system, *place, rung, phase, fraction, value, pruned, now(), split)
        self.writer.write_rung(record)
        self.decisions[study, trial.trial] = record
        if pruned:
            self._close(trial, "pruned", _reason(record))
        else:
            self._enqueue(trial)

    def _values_of_best(self, study: str) -> list[list[float]]:
        """The values of a study's configurations on all splits, those of the best one first."""
        best = (self.trials[study][number, 0] for number in self.history.ranked(study))
        return [[self._judged(self.outcomes[unit]) for unit in self.history.unit_ids(trial)] for trial in best]

    def _judged(self, outcome: UnitOutcome) -> float:
        """What a complete unit is judged by; folds of searches have dev parts, and the folds' test is of dev UARs."""
        value = self.history.judged_by(outcome) if self.settings.inner else outcome.dev_uar
        assert value is not None
        return value

    def _on_trial_end(self, trial: TrialRecord) -> None:
        """Tell the study; where that has ended, too, write its importances."""
        if trial.seed != 0:
            return
        study = self.studies[trial.study]
        self._count_spared(trial)
        study.tell(trial, self.history.costs(trial))
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
                self.decisions[decision.study, decision.trial] = decision
            else:
                self.asha.restore(decision)
                if len(self.folds[decision.study]) == 1:
                    reports.setdefault((decision.study, decision.trial), {})[decision.rung] = decision.value
        for judged in [t for trials in self.trials.values() for t in trials.values() if t.status == "complete"]:
            if any(unit in self.outcomes for unit in self.history.final_ids(judged)):
                self._on_final_end(judged)  # the driver may have died before
        used = {(study, number) for study, number, *_ in self.outcomes}
        used |= {(d.study, d.trial) for d in decisions if d.system == self.system}
        for study, by_number in self.trials.items():
            numbers = {number for name, number in used if name == study} | {number for number, _ in by_number}
            for number in range(max(numbers, default=-1) + 1):
                trial = by_number.get((number, 0))
                if trial is None:
                    self.studies[study].add_gap()
                    continue
                by_rung = reports.get((study, number), {})
                self.studies[study].add_trial(trial, by_rung | self._reports_by_unit(trial), self.history.costs(trial))
                if trial.status != "running":
                    self._count_spared(trial)
        for trial in [trial for study in sorted(self.trials) for trial in self.trials[study].values()]:
            if trial.status == "running":
                self._resume(trial)

    def _reports_by_unit(self, trial: TrialRecord) -> dict[int, float]:
        """By the unit's position, the dev UAR of a configuration on each of several folds; of inner splits the mean of
        what it has up to there, by which samplers rank what was pruned.
        """
        units = self.history.unit_ids(trial)
        outcomes = [self.outcomes.get(unit) for unit in units] if len(units) > 1 else []
        values = {i: self._judged(o) for i, o in enumerate(outcomes) if o is not None and o.dev_uar is not None}
        if not self.settings.inner:
            return values
        return {i: mean(values[j] for j in values if j <= i) for i in values}

    def _count_spared(self, trial: TrialRecord) -> None:
        if self.settings.inner:
            self.units_spared += sum(unit not in self.outcomes for unit in self.history.unit_ids(trial))

    def _resume(self, trial: TrialRecord) -> None:
        """Go on with a configuration that was running when the last driver ended."""
        decision = self.decisions.get((trial.study, trial.trial))
        if decision is not None and decision.pruned and trial.seed == 0:
            self._close(trial, "pruned", _reason(decision))
            return
        self._advance(trial)
        trial = self.trials[trial.study][trial.trial, trial.seed]
        if trial.status == "running" and self._enqueue(trial) and self._was_begun(trial):
            self.history.write(replace(trial, retries=trial.retries + 1))


def units_per_fold(settings: SweepSettings) -> int:
    """How many units the studies have on each fold, at most: trials, the best again on its own parts, further seeds."""
    seeded = min(settings.seeded, settings.trials)
    finals = min(settings.finals, settings.trials)
    return settings.trials * max(1, settings.inner) + finals + (settings.seeds - 1) * seeded


def _reason(record: RungRecord) -> str:
    if record.phase == "inner":
        return f"behind in the race after {record.rung + 1} inner splits, with {record.value:.3f} on average"
    return f"pruned by wilcoxon at {record.fraction:.2g} of the folds"
