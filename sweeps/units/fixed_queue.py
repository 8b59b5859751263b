"""The units of one configuration that is settled before the sweep begins: nothing is proposed, pruned or chosen.

Genotypes of another sweep run so, and the published protocol, which has no dev part to choose by.
"""

from collections import deque
from dataclasses import replace
from typing import Any

from emodarts.records import TrialRecord
from emodarts.results.reader import Results
from emodarts.results.writer import SweepWriter
from sweeps.settings import SweepSettings
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
        results: Results,
    ):
        super().__init__(replace(settings, trials=1, objectives=["dev_uar"], inner=0), folds, specs, writer, results)
        self.parameters = parameters
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

    def _resume(self, study: str, seed: int) -> None:
        """Go on where the tables end; the driver may have died between a last unit and its configuration's row."""
        trial = self.trials[study].get((_NUMBER, seed))
        if trial is None or any(unit not in self.outcomes for unit in self.history.unit_ids(trial)):
            self.pending.append((study, seed))
        elif trial.status == "running":
            self._advance(trial)

    def _refill(self) -> None:
        while self.pending and not self.waiting:
            study, seed = self.pending.popleft()
            before = self.trials[study].get((_NUMBER, seed))
            if before is None:
                trial = TrialRecord(self.system, study, _NUMBER, seed, self.parameters, proposed_at=now())
            else:  # it was running when the last driver ended, or more folds are requested now
                trial = replace(before, status="running", reason=None, values=(), ended_at=None)
            self._enqueue(trial)
            if before is not None and before.status == "running" and self._was_begun(trial):
                trial = replace(trial, retries=trial.retries + 1)
            self.history.write(trial)
