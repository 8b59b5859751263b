"""The units of a system: which wait, which run and how they ended. Subclasses decide which configurations there are.

Every change is in the tables before it counts.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from emodarts.errors import EmodartsError
from emodarts.experiment.unit_spec import UnitSpec
from emodarts.records import EpochRecord, TrialRecord, UnitKey
from emodarts.results.reader import Results
from emodarts.results.writer import SweepWriter
from sweeps.settings import SweepSettings
from sweeps.study.optuna_study import OptunaStudy
from sweeps.units.checkpoint_folders import units_with_checkpoints
from sweeps.units.outcomes import UnitId, UnitOutcome, failure_reason, unit_id
from sweeps.units.spec_factory import UnitSpecFactory
from sweeps.units.trial_history import TrialHistory

_DRIVER = "driver"  # the attempt of what the driver commits in a worker's place


class UnitQueue:
    """Hands out the units of configurations and takes their outcomes. `folds`: the folds of each study.

    `studies` has the Optuna study of each study that proposes configurations.
    """

    def __init__(
        self,
        settings: SweepSettings,
        folds: dict[str, tuple[int, ...]],
        specs: UnitSpecFactory,
        writer: SweepWriter,
        results: Results,
        clock: Callable[[], float] = time.time,
    ):
        self.settings, self.folds, self.specs, self.writer, self.clock = settings, folds, specs, writer, clock
        self.system = specs.system
        self.history = TrialHistory(
            writer, results, self.system, folds, settings.parsed_constraints, settings.choose_by, settings.inner
        )
        self.trials, self.outcomes, self.statuses = self.history.trials, self.history.outcomes, self.history.statuses
        self.begun = units_with_checkpoints(writer.storage, writer.sweep)  # before this start, and have not ended
        if settings.retry_failed:
            self._withdraw_failures(results)
        self.waiting: dict[UnitId, TrialRecord] = {}  # in the order in which they are handed out
        self.running: dict[UnitId, UnitSpec] = {}
        self.studies: dict[str, OptunaStudy] = {}
        self.deadline = None if settings.time_budget_hours is None else clock() + 3600 * settings.time_budget_hours
        self.stopped: str | None = None
        self.failures_in_a_row = 0  # units, since this start

    def next_unit(self) -> UnitSpec | None:
        """The next unit to run; None: nothing for now (see `finished`)."""
        while not self._has_stopped:
            if not self.waiting:
                self._refill()
            if not self.waiting:
                return None
            identity = next(iter(self.waiting))
            trial = self.waiting.pop(identity)
            try:
                unit = self.specs.make(trial, identity.fold, identity.inner)
            except EmodartsError as error:  # parameters that the settings refuse: the unit fails without having run
                self._commit(
                    self.specs.key_of_unmade(trial, identity.fold, identity.inner), "failed", failure_reason(error)
                )
            else:
                self.running[identity] = unit
                return unit
        return None

    def on_unit_end(self, unit: UnitSpec, outcome: UnitOutcome) -> None:
        """Take a unit's outcome; with a configuration's last unit, its row is written."""
        self._record(unit.key, outcome)

    def on_unit_interrupted(self, unit: UnitSpec) -> None:
        """A unit was stopped before its end: it runs at the next start."""
        self.running.pop(unit_id(unit.key), None)

    def on_unit_struck(self, unit: UnitSpec) -> None:
        """A unit's place ended it before its time: it is handed out again, behind those that wait."""
        self.requeue(unit)
        trial = self.trials[unit.key.study][unit.key.trial, unit.key.seed]
        if self._is_wanted(trial, unit_id(unit.key)):
            self.history.write(replace(trial, retries=trial.retries + 1))

    def requeue(self, unit: UnitSpec) -> None:
        """Hand out again a unit that has not begun, unless its configuration has ended meanwhile."""
        self.running.pop(unit_id(unit.key), None)
        trial = self.trials[unit.key.study][unit.key.trial, unit.key.seed]
        if self._is_wanted(trial, unit_id(unit.key)) and unit_id(unit.key) not in self.outcomes:
            self.waiting[unit_id(unit.key)] = trial

    def on_unit_failed(self, unit: UnitSpec, reason: str) -> None:
        """A unit was struck once too often: it is committed as failed, unless one of its workers had finished it."""
        self._commit(unit.key, "failed", reason)

    def should_prune(self, unit: UnitSpec, rung: int, epochs: tuple[EpochRecord, ...]) -> bool:
        """Whether a unit that has reached one of its rungs is to be pruned; `epochs`: all that it has run."""
        return False

    def stop(self, reason: str) -> None:
        """End the sweep without an outcome for what runs: the next start goes on with it. The first reason counts."""
        self.stopped = self.stopped or reason

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will be handed out any more."""
        return not self.running and (self._has_stopped or self.complete)

    @property
    def complete(self) -> bool:
        """Whether everything that the settings ask for has ended."""
        raise NotImplementedError

    @property
    def only_fails(self) -> bool:
        """Whether as many configurations failed as end a sweep (`sweep.max_failures`), and none is complete."""
        return self.statuses["failed"] >= self.settings.max_failures and self.none_complete

    @property
    def fails_in_a_row(self) -> bool:
        """Whether as many units in a row failed, since this start, as end a sweep (`sweep.max_failures`)."""
        return self.failures_in_a_row >= self.settings.max_failures

    @property
    def none_complete(self) -> bool:
        """Whether no configuration came to a result."""
        return not self.statuses["complete"]

    @property
    def _has_stopped(self) -> bool:
        """Whether nothing more is handed out: stopped, `sweep.time_budget_hours` over, or nothing but failures."""
        is_over_time = self.deadline is not None and self.clock() > self.deadline
        return self.stopped is not None or is_over_time or self.only_fails or self.fails_in_a_row

    @property
    def units_ended(self) -> int:
        """How many units have ended, over all starts."""
        return len(self.outcomes)

    @property
    def units_total(self) -> int:
        """How many units the settings ask for, or how many there are already."""
        return max(self._units_requested, len(self.outcomes) + len(self.running) + len(self.waiting))

    @property
    def _units_requested(self) -> int:
        """How many units the settings ask for."""
        raise NotImplementedError

    def _refill(self) -> None:
        """Put into `waiting` what is to run by now."""
        raise NotImplementedError

    def _is_wanted(self, trial: TrialRecord, unit: UnitId) -> bool:
        """Whether a unit of a configuration is still to run: one that is judged waits for its final unit alone."""
        is_final = trial.status == "complete" and unit in self.history.final_ids(trial)
        return trial.status == "running" or is_final

    def _on_outcome(self, trial: TrialRecord, unit: UnitId, outcome: UnitOutcome) -> None:
        """A unit of a running configuration has ended."""

    def _on_final_end(self, trial: TrialRecord) -> None:
        """The unit on the fold's own parts of a configuration that was judged on inner splits has ended."""

    def _on_trial_end(self, trial: TrialRecord) -> None:
        """A configuration has ended, and its row is written."""

    def _released_units(self, trial: TrialRecord) -> list[UnitId]:
        """The units of a configuration that may run by now."""
        return self.history.unit_ids(trial)

    def _decide_between_units(self, trial: TrialRecord, outcomes: list[UnitOutcome]) -> None:
        """The units released so far of a configuration are complete, and there are others."""
        raise NotImplementedError

    def _withdraw_failures(self, results: Results) -> None:
        """Have failed units run again. Raises EmodartsError where their commits stand in compacted files."""
        for commit in results.commits:
            if commit.status == "failed" and self.outcomes.pop(unit_id(commit.key), None) is not None:
                self.writer.withdraw(commit)
        failed = [trial for study in self.trials.values() for trial in study.values() if trial.status == "failed"]
        for trial in failed:
            again = replace(trial, status="running", reason=None, values=(), ended_at=None, retries=trial.retries + 1)
            self.history.write(again)

    def _was_begun(self, trial: TrialRecord) -> bool:
        """Whether a unit of a configuration, of those that wait, had come to a checkpoint before this start."""
        identities = [i for i in self.history.unit_ids(trial) if i in self.waiting]
        return any(self.specs.key_of_unmade(trial, i.fold, i.inner).name in self.begun for i in identities)

    def _enqueue(self, trial: TrialRecord) -> bool:
        """Have the units of a configuration wait that have not run, nor wait; whether there are any."""
        return self._enqueue_units(trial, self._released_units(trial))

    def _enqueue_units(self, trial: TrialRecord, units: Iterable[UnitId]) -> bool:
        present = (self.waiting, self.running, self.outcomes)
        missing = [unit for unit in units if not any(unit in others for others in present)]
        self.waiting |= dict.fromkeys(missing, trial)
        return bool(missing)

    def _commit(self, key: UnitKey, status: str, reason: str, epochs: tuple[EpochRecord, ...] = ()) -> None:
        """End a unit in its worker's place; what its worker committed before stands."""
        commit = self.writer.commit_ended(key, status, reason, epochs, _DRIVER)
        self._record(commit.key, UnitOutcome.of_commit(commit))

    def _record(self, key: UnitKey, outcome: UnitOutcome) -> None:
        self.running.pop(unit_id(key), None)
        if unit_id(key) in self.outcomes:
            return
        self.outcomes[unit_id(key)] = outcome
        if (commit := outcome.commit_of(key)) is not None:
            self.writer.on_unit_end(commit)
        self.failures_in_a_row = self.failures_in_a_row + 1 if outcome.status == "failed" else 0
        trial = self.trials[key.study][key.trial, key.seed]
        if trial.status == "running":
            self._on_outcome(trial, unit_id(key), outcome)
            self._advance(trial)
        elif self._is_wanted(trial, unit_id(key)):
            self._on_final_end(trial)

    def _advance(self, trial: TrialRecord) -> None:
        """After a unit's end: the end of its configuration, or what follows on further folds or splits."""
        units = self._released_units(trial)
        outcomes = [self.outcomes[unit] for unit in units if unit in self.outcomes]
        reasons = {outcome.status: outcome.reason for outcome in reversed(outcomes)}  # the first of each status
        if "pruned" in reasons:
            self._close(trial, "pruned", reasons["pruned"])
        elif len(outcomes) < len(units):
            return
        elif "failed" in reasons:
            self._close(trial, "failed", reasons["failed"])
        elif len(units) < len(self.history.unit_ids(trial)):
            self._decide_between_units(trial, outcomes)
        else:
            self._close(trial, "complete", None)

    def _close(self, trial: TrialRecord, status: str, reason: str | None) -> None:
        """Write the end of a configuration."""
        for identity in self.history.unit_ids(trial):
            self.waiting.pop(identity, None)
        values = self.history.objective_values(trial, self.settings.objectives) if status == "complete" else ()
        trial = replace(trial, status=status, reason=reason, values=values, ended_at=now())
        self.history.write(trial)
        self._on_trial_end(trial)


def now() -> datetime:
    """The time for a configuration's row."""
    return datetime.now(UTC)
