"""The units of one configuration that is settled before the sweep begins: nothing is proposed, pruned or chosen.

Genotypes of another sweep run so, and the published protocol, which has no dev part to choose by.
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
from sweeps.units.outcomes import UnitOutcome, unit_ids
from sweeps.units.spec_factory import UnitSpecFactory
from sweeps.units.unit_queue import UnitQueue, now

_NUMBER = 0  # of the one configuration


class FixedConfigQueue(UnitQueue):
    """Configuration 0 of each study, on its folds, with `sweep.seeds` seeds: the first seed of all studies comes first.

    Optuna has no part in it. A configuration of folds without dev part has no values.
    """

    def __init__(
        self,
        settings: SweepSettings,
        parameters: dict[str, Any],
        folds: dict[str, tuple[int, ...]],
        specs: UnitSpecFactory,
        writer: SweepWriter,
        results: Results | None,
        clock: Callable[[], float] = time.time,
    ):
        super().__init__(replace(settings, trials=1), folds, specs, writer, clock)
        self.parameters = parameters
        if results is not None:
            self.history.restore(results)
        self.pending: deque[tuple[str, int]] = deque()  # study and seed of configurations that are to begin
        for seed in range(settings.seeds):
            for study in folds:
                self._resume(study, seed)

    @property
    def complete(self) -> bool:
        """Whether the configuration has run on every fold with every seed."""
        return not (self.pending or self.waiting or self.running or self.statuses["running"])

    @property
    def _units_requested(self) -> int:
        return sum(map(len, self.folds.values())) * self.settings.seeds

    def _refill(self) -> None:
        while self.pending and not self.waiting:
            self._begin(*self.pending.popleft())

    def _on_outcome(self, key: UnitKey, outcome: UnitOutcome) -> None:
        if self._has_ended(key.study, key.seed):
            self._close(self.trials[key.study][key.trial, key.seed])

    def _resume(self, study: str, seed: int) -> None:
        """Go on where the tables end; the driver may have died between a last unit and its configuration's row."""
        trial = self.trials[study].get((_NUMBER, seed))
        if not self._has_ended(study, seed):
            self.pending.append((study, seed))
        elif trial is not None and trial.status == "running":
            self._close(trial)

    def _begin(self, study: str, seed: int) -> None:
        trial = self.trials[study].get((_NUMBER, seed))
        if trial is None:
            trial = TrialRecord(self.system, study, _NUMBER, seed, self.parameters, proposed_at=now())
        else:  # it was running when the last driver ended, or more folds are requested now
            retries = trial.retries + (trial.status == "running")
            trial = replace(trial, status="running", reason=None, retries=retries, values=(), ended_at=None)
        self.history.write(trial)
        self._enqueue(trial, self.folds[study])

    def _close(self, trial: TrialRecord) -> None:
        outcomes = [self.outcomes[identity] for identity in unit_ids(trial, self.folds[trial.study])]
        failed = next((outcome for outcome in outcomes if outcome.status == "failed"), None)
        if failed is not None:
            trial = replace(trial, status="failed", reason=failed.reason)
        else:
            dev_uars = [outcome.dev_uar for outcome in outcomes if outcome.dev_uar is not None]
            values = (sum(dev_uars) / len(dev_uars),) if len(dev_uars) == len(outcomes) else ()
            trial = replace(trial, status="complete", values=values)
        self.history.write(replace(trial, ended_at=now()))

    def _has_ended(self, study: str, seed: int) -> bool:
        return all((study, _NUMBER, seed, fold) in self.outcomes for fold in self.folds[study])
