"""What Ray Tune asks for its next trial: a thin layer over the studies. It keeps no state of its own on disk.

Tune's own OptunaSearch tells partial results as complete, cannot prune, and keeps its state in a pickle.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from emodarts.errors import EmodartsError
from sweeps.units.system_queues import SystemQueues
from sweeps.units.unit import Unit, UnitOutcome


class UnitSearcher(Searcher):
    """Each Tune trial is one unit of work. At most `slots()` are in flight: Tune itself is let take any number."""

    def __init__(self, systems: SystemQueues, slots: Callable[[], int]):
        super().__init__(metric="dev_uar", mode="max")
        self.systems, self.slots = systems, slots
        self.units: dict[str, Unit] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The configuration of the next Tune trial, None to wait, FINISHED at the end."""
        if len(self.units) >= self.slots() and not self.systems.stopped:
            return None
        try:
            unit = self.systems.next_unit()
        except EmodartsError as error:
            self.systems.stop(str(error))
            unit = None
        if unit is None:
            return Searcher.FINISHED if self.systems.finished else None  # type: ignore[return-value]
        self.units[trial_id] = unit
        return {"unit": asdict(unit)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass the outcome on. A trial that was stopped has no outcome: it goes on at the next start.

        One whose workers died has ended in `scheduler.WorkerDeaths`, which knows why.
        """
        unit = self.units.pop(trial_id, None)
        if unit is None or error:
            return
        status = (result or {}).get("status")
        try:
            if result is not None and status in ("complete", "failed", "pruned"):
                self.systems.end(
                    unit, UnitOutcome(status, result.get("dev_uar"), result.get("size"), result.get("reason"))
                )
            else:
                self.systems.give_back(unit)
        except EmodartsError as failure:
            self.systems.stop(str(failure))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing to do: the scheduler hears of rungs."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the result tables are the only state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the studies are rebuilt from the result tables."""
