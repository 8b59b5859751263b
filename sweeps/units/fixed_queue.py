"""The units of one configuration that is settled before the sweep begins: nothing is proposed, pruned or chosen.

A genotype that another sweep found runs so, and the published protocol, which has no dev part to choose by.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from emodarts.records import TrialRecord, UnitKey
from emodarts.results.reader import Results
from emodarts.results.writer import SweepWriter
from sweeps.settings import SweepSettings
from sweeps.units.unit import Unit, UnitOutcome
from sweeps.units.unit_queue import UnitQueue, now

_TRIAL = 0


class FixedConfigQueue(UnitQueue):
    """Configuration 0 of each study, on its folds, with `sweep.seeds` seeds: the first seed of all studies comes first.

    Optuna has no part in it. A configuration of folds without dev part has no values.
    """

    def __init__(
        self,
        settings: SweepSettings,
        parameters: dict[str, Any],
        folds: dict[str, tuple[int, ...]],
        writer: SweepWriter,
        results: Results | None,
        key_of: Callable[[Unit], UnitKey],
        system: str = "emodarts",
        clock: Callable[[], float] = time.time,
    ):
        super().__init__(replace(settings, trials=1), folds, writer, key_of, system, clock)
        self.parameters = parameters
        if results is not None:
            self.ledger.adopt(results)
        self.to_begin: deque[tuple[str, int]] = deque()
        for seed in range(settings.seeds):
            for study in folds:
                self._take_up(study, seed)

    @property
    def complete(self) -> bool:
        """Whether the configuration has run on every fold with every seed."""
        return not (self.to_begin or self.waiting or self.running or self.statuses["running"])

    @property
    def _asked(self) -> int:
        return sum(map(len, self.folds.values())) * self.settings.seeds

    def _refill(self) -> None:
        while self.to_begin and not self.waiting:
            self._begin(*self.to_begin.popleft())

    def _ended(self, unit: Unit, outcome: UnitOutcome) -> None:
        if self._has_ended(unit.study, unit.seed):
            self._close(self.trials[unit.study][unit.trial, unit.seed])

    def _take_up(self, study: str, seed: int) -> None:
        """Go on where the tables end; the driver may have died between a last unit and its configuration's row."""
        trial = self.trials[study].get((_TRIAL, seed))
        if not self._has_ended(study, seed):
            self.to_begin.append((study, seed))
        elif trial is not None and trial.status == "running":
            self._close(trial)

    def _begin(self, study: str, seed: int) -> None:
        trial = self.trials[study].get((_TRIAL, seed))
        if trial is None:
            trial = TrialRecord(self.system, study, _TRIAL, seed, self.parameters, proposed_at=now())
        else:  # it was running when the last driver ended, or more folds are asked for now
            again = trial.retries + (trial.status == "running")
            trial = replace(trial, status="running", reason=None, retries=again, values=(), ended_at=None)
        self.ledger.write(trial)
        self._enqueue(trial, self.folds[study])

    def _close(self, trial: TrialRecord) -> None:
        outcomes = [self.outcomes[trial.study, trial.trial, trial.seed, fold] for fold in self.folds[trial.study]]
        failed = next((outcome for outcome in outcomes if outcome.status == "failed"), None)
        if failed is not None:
            ended = replace(trial, status="failed", reason=failed.reason)
        else:
            dev = [outcome.dev_uar for outcome in outcomes if outcome.dev_uar is not None]
            values = (sum(dev) / len(dev),) if len(dev) == len(outcomes) else ()
            ended = replace(trial, status="complete", values=values)
        self.ledger.write(replace(ended, ended_at=now()))

    def _has_ended(self, study: str, seed: int) -> bool:
        return all((study, _TRIAL, seed, fold) in self.outcomes for fold in self.folds[study])
