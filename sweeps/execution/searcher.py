"""What Ray Tune asks for its next trial: a thin layer over the queues, without any state of its own on disk.

Tune's own OptunaSearch tells partial results as complete, cannot prune, and keeps its state in a pickle.
"""

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from emodarts.experiment.unit_spec import UnitSpec
from sweeps.units.outcomes import UnitOutcome
from sweeps.units.system_queues import SystemQueues


class UnitSearcher(Searcher):
    """Each Tune trial is one unit of work; at most `max_concurrent()` are in flight, whatever Tune would take."""

    def __init__(self, queues: SystemQueues, max_concurrent: Callable[[], int]):
        super().__init__(metric="dev_uar", mode="max")
        self.queues, self.max_concurrent = queues, max_concurrent
        self.units: dict[str, UnitSpec] = {}  # in flight, by Tune's trial id

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The configuration of the next Tune trial, None to wait, FINISHED at the end."""
        if len(self.units) >= self.max_concurrent() and not self.queues.stopped:
            return None
        with self.queues.stopping_on_error():
            unit = self.queues.next_unit()
            if unit is not None:
                self.units[trial_id] = unit
                return {"unit": unit}
        return Searcher.FINISHED if self.queues.finished else None  # type: ignore[return-value]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass the outcome on. A trial that was stopped has no outcome: it goes on at the next start.

        One whose workers died is ended by `scheduler.WorkerFailureCallback`, which knows why.
        """
        unit = self.units.pop(trial_id, None)
        if unit is None or error:
            return
        queue, outcome = self.queues.queue_of(unit), UnitOutcome.of_report(result)
        if outcome is None:
            queue.on_unit_interrupted(unit)
            return
        with self.queues.stopping_on_error():
            queue.on_unit_end(unit, outcome)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the result tables are the only state."""
