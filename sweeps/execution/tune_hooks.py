"""What Ray Tune asks: for its next trial, whether one is to be pruned, and what becomes of one whose worker died.

No state of its own: the queues decide, and write it down first. Tune's own OptunaSearch tells partial results as
complete, cannot prune, and keeps its state in a pickle.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from emodarts.experiment.unit_spec import UnitSpec
from emodarts.storage import StorageError
from sweeps.units.outcomes import UnitOutcome
from sweeps.units.system_queues import SystemQueues

MAX_DEATHS = 3  # of a unit's workers, then it has failed
_REASON_LENGTH = 400  # characters


def unit_of(trial: Trial) -> UnitSpec:
    """The unit that a Tune trial runs."""
    unit: UnitSpec = trial.config["unit"]
    return unit


class Stateless:
    """A part of Tune's that has nothing to keep in Tune's snapshots of the experiment."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


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

        One whose workers died is ended by `WorkerFailureCallback`, which knows why.
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


class UnitScheduler(Stateless, FIFOScheduler):
    """First come, first served; a unit that reaches a rung goes on or is pruned as its queue says."""

    def __init__(self, queues: SystemQueues):
        super().__init__()  # type: ignore[no-untyped-call]
        self.queues = queues

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """CONTINUE, or STOP for a pruned unit: its worker's present report raises SystemExit."""
        if "rung" in result:
            with self.queues.stopping_on_error():
                unit = unit_of(trial)
                if self.queues.queue_of(unit).should_prune(unit, result["rung"], result["epochs"]):
                    return TrialScheduler.STOP
        return TrialScheduler.CONTINUE


class WorkerFailureCallback(Stateless, tune.Callback):
    """Counts restarts of workers, and ends units whose workers died for good."""

    def __init__(self, queues: SystemQueues):
        self.queues = queues

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A unit's worker died, or its node; Tune begins the unit again."""
        with self.queues.stopping_on_error():
            self.queues.queue_of(unit_of(trial)).on_worker_restart(unit_of(trial))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A unit's workers died again and again. Where the results cannot be written it is not the unit's failure."""
        unit, text = unit_of(trial), _last_error(trial)
        queue, last_line = self.queues.queue_of(unit), (text.strip().splitlines() or ["no reason is known"])[-1]
        reason = last_line[:_REASON_LENGTH]
        if StorageError.__name__ in text:
            self.queues.stop(reason)
        if self.queues.stopped:  # then workers are killed with the experiment, too
            queue.on_unit_interrupted(unit)
            return
        with self.queues.stopping_on_error():
            queue.on_worker_failure(unit, f"its worker died {MAX_DEATHS} times (out of memory? a lost node?): {reason}")


class StopWithQueues(Stateless, tune.Stopper):
    """Ends the experiment as soon as the sweep is stopped: what runs goes on at the next start."""

    def __init__(self, queues: SystemQueues):
        self.queues = queues

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No unit is stopped alone."""
        return False

    def stop_all(self) -> bool:
        """Whether the sweep is stopped."""
        return self.queues.stopped is not None


def _last_error(trial: Trial) -> str:
    """The text of the last of a trial's failures; Tune appends them to a file, which it copies away later."""
    try:
        return Path(trial.error_file).read_text(errors="replace").rpartition("Failure # ")[2]
    except (OSError, TypeError):
        return ""
