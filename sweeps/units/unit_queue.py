"""The units of a system as they are handed out: what waits, runs and has ended. What there is to run, subclasses say.

Every change is in the tables before it counts.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from emodarts.experiment.unit_spec import Rung
from emodarts.records import EpochRecord, TrialRecord, UnitKey
from emodarts.results.writer import SweepWriter
from sweeps.settings import SweepSettings
from sweeps.study.optuna_study import OptunaStudy
from sweeps.units.trial_history import TrialHistory
from sweeps.units.unit import Unit, UnitOutcome, outcome_of

DRIVER = "driver"  # the attempt of what the driver commits in a unit's place


class UnitQueue:
    """Hands out units and takes their outcomes. `folds`: the folds of each study; `key_of` gives the row key of a unit.

    `proposals` has the Optuna study of each study that proposes configurations; `rungs`: where its units may be pruned.
    """

    def __init__(
        self,
        settings: SweepSettings,
        folds: dict[str, tuple[int, ...]],
        writer: SweepWriter,
        key_of: Callable[[Unit], UnitKey],
        system: str = "emodarts",
        clock: Callable[[], float] = time.time,
    ):
        self.settings, self.folds, self.writer, self.clock = settings, folds, writer, clock
        self.key_of, self.system = key_of, system
        self.ledger = TrialHistory(writer, system, folds)
        self.trials, self.outcomes, self.statuses = self.ledger.trials, self.ledger.outcomes, self.ledger.statuses
        self.waiting: deque[Unit] = deque()
        self.running: dict[tuple[str, int, int, int], Unit] = {}
        self.proposals: dict[str, OptunaStudy] = {}
        self.rungs: tuple[Rung, ...] = ()
        self.deadline = None if settings.time_budget_hours is None else clock() + 3600 * settings.time_budget_hours
        self.stopped: str | None = None

    def next_unit(self) -> Unit | None:
        """The next unit to run; None: nothing for now (see `finished`)."""
        if self.stopped or self.is_over_time or self.has_failed:
            return None
        if not self.waiting:
            self._refill()
        if not self.waiting:
            return None
        unit = self.waiting.popleft()
        self.running[unit.key] = unit
        return unit

    def end(self, unit: Unit, outcome: UnitOutcome) -> None:
        """Take a unit's outcome; with a configuration's last unit, its row is written."""
        self.running.pop(unit.key, None)
        if unit.key in self.outcomes:
            return
        self.outcomes[unit.key] = outcome
        self._ended(unit, outcome)

    def give_back(self, unit: Unit) -> None:
        """A unit that was stopped before its end: it waits for the next start."""
        self.running.pop(unit.key, None)

    def restarted(self, unit: Unit) -> None:
        """A unit's worker died, and it is begun again from its last checkpoint."""
        trial = self.trials[unit.study][unit.trial, unit.seed]
        self.ledger.write(replace(trial, retries=trial.retries + 1))

    def died(self, unit: Unit, reason: str) -> None:
        """A unit's workers died for good: it is committed as failed, unless one of them had finished it."""
        stands = self.writer.commit_ended(self.key_of(unit), "failed", reason, (), DRIVER)
        self.end(unit, outcome_of(stands))

    def stop(self, reason: str) -> None:
        """End the sweep without an outcome for what runs: the next start takes it up. The first reason is kept."""
        self.stopped = self.stopped or reason

    def rung(self, unit: Unit, rung: int, epochs: tuple[EpochRecord, ...]) -> bool:
        """Whether a unit that has come to one of its rungs is to be pruned."""
        return False

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will be handed out any more."""
        if self.running:
            return False
        return bool(self.stopped) or self.is_over_time or self.has_failed or self.complete

    @property
    def complete(self) -> bool:
        """Whether everything that the settings ask for has ended."""
        raise NotImplementedError

    @property
    def is_over_time(self) -> bool:
        """Whether `sweep.time_budget_hours` are over."""
        return self.deadline is not None and self.clock() > self.deadline

    @property
    def has_failed(self) -> bool:
        """Whether the sweep only fails (`sweep.max_failures`)."""
        return self.statuses["failed"] >= self.settings.max_failures and self.none_complete

    @property
    def none_complete(self) -> bool:
        """Whether no configuration came to a result."""
        return not self.statuses["complete"]

    @property
    def units_ended(self) -> int:
        """How many units have ended, over all starts."""
        return len(self.outcomes)

    @property
    def units_total(self) -> int:
        """How many units the settings ask for, or that there are already."""
        return max(self._asked, len(self.outcomes) + len(self.running) + len(self.waiting))

    @property
    def _asked(self) -> int:
        raise NotImplementedError

    def _refill(self) -> None:
        """Put into `waiting` what is to run by now."""
        raise NotImplementedError

    def _ended(self, unit: Unit, outcome: UnitOutcome) -> None:
        """What follows from the outcome of a unit, which is kept already."""
        raise NotImplementedError

    def _enqueue(self, trial: TrialRecord, folds: tuple[int, ...]) -> int:
        """Have a configuration wait for those of its folds on which it has not run, nor waits; how many these are."""
        there = {unit.key for unit in self.waiting} | self.running.keys() | self.outcomes.keys()
        rungs = self.rungs if trial.seed == 0 else ()  # further seeds of a winner are never pruned
        units = [Unit(self.system, trial.study, trial.trial, trial.seed, f, trial.parameters, rungs) for f in folds]
        missing = [unit for unit in units if unit.key not in there]
        self.waiting.extend(missing)
        return len(missing)


def now() -> datetime:
    """The time for a configuration's row."""
    return datetime.now(UTC)
