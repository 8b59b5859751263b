"""What Ray Tune asks: for its next trial, whether one is to be pruned, and what becomes of one that its place struck.

No state of its own: the queues decide, and write it down first. Tune's own OptunaSearch tells partial results as
complete, cannot prune, and keeps its state in a pickle.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from emodarts.experiment.unit_spec import UnitSpec
from emodarts.records import UnitKey
from emodarts.storage import StorageError
from sweeps.execution.faults import STORAGE, WORKER, Fault, FaultPolicy
from sweeps.units.outcomes import UnitOutcome, unit_id
from sweeps.units.system_queues import SystemQueues

_REASON_LENGTH = 400  # characters


def unit_of(trial: Trial) -> UnitSpec:
    """The unit that a Tune trial runs."""
    unit: UnitSpec = trial.config["unit"]
    return unit


def identity_of(unit: UnitSpec) -> Hashable:
    """What names a unit within its sweep."""
    return unit.key.system, unit_id(unit.key)


class Stateless:
    """A part of Tune's that has nothing to keep in Tune's snapshots of the experiment."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class UnitSearcher(Stateless, Searcher):
    """Each Tune trial is one unit of work; at most `max_concurrent()` are in flight, whatever Tune would take."""

    def __init__(self, queues: SystemQueues, max_concurrent: Callable[[], int], faults: FaultPolicy):
        super().__init__()  # no metric: Tune would ask for it in every report
        self.queues, self.max_concurrent, self.faults = queues, max_concurrent, faults
        self.units: dict[str, UnitSpec] = {}  # in flight, by Tune's trial id
        self.parkings: Counter[Hashable] = Counter()  # by unit

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The configuration of the next Tune trial, None to wait, FINISHED at the end."""
        if len(self.units) >= self.max_concurrent() and not self.queues.stopped:
            return None
        with self.queues.stopping_on_error():
            unit = self.queues.next_unit()
            if unit is not None:
                self.units[trial_id] = unit
                identity = identity_of(unit)
                avoid, parkings = self.faults.places_to_avoid(identity), self.parkings[identity]
                return {"unit": unit, "gpus": self.faults.gpus_for(unit), "avoid": avoid, "parkings": parkings}
        return Searcher.FINISHED if self.queues.finished else None  # type: ignore[return-value]

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A trial on a place that is set aside only holds the place: its unit is handed out again."""
        if result.get("status") == "parked" and (unit := self.units.pop(trial_id, None)) is not None:
            self.parkings[identity_of(unit)] += 1
            self.queues.queue_of(unit).requeue(unit)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass the outcome on. A trial that was stopped has no outcome: it goes on at the next start.

        One that ended with an error was struck by its place: `FaultCallback`, which knows why, goes on with it.
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


class FaultCallback(Stateless, tune.Callback):
    """Takes what places do to units to `FaultPolicy`, and does what that decides. `mark_of`: `checkpoint_mark`."""

    def __init__(self, queues: SystemQueues, faults: FaultPolicy, mark_of: Callable[[UnitKey], Hashable]):
        self.queues, self.faults, self.mark_of = queues, faults, mark_of
        self.places: dict[str, str] = {}  # by Tune's trial id
        self.reports: dict[str, dict[str, Any]] = {}  # what a worker told of the fault that it met
        self.parked: set[str] = set()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Note where a unit runs, and what struck it."""
        status = result.get("status")
        if "place" in result:
            self.places[trial.trial_id] = result["place"]
        elif status == "struck":
            self.reports[trial.trial_id] = result
        elif status == "parked":
            self.parked.add(trial.trial_id)
        else:
            self.faults.on_progress(self.places.get(trial.trial_id))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A unit came to its end: nothing more is to be known of it."""
        self._forget(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A unit was struck: it goes on elsewhere, or has failed by itself."""
        unit, queue = unit_of(trial), self.queues.queue_of(unit_of(trial))
        fault, was_parked = self._fault_of(trial), trial.trial_id in self.parked
        self._forget(trial)
        if was_parked:
            return
        if self.queues.stopped:  # then workers are killed with the experiment, too
            queue.on_unit_interrupted(unit)
            return
        with self.queues.stopping_on_error():
            mark = None if fault.kind == STORAGE else self.mark_of(unit.key)
            decision = self.faults.on_fault(unit, identity_of(unit), fault, mark)
            if decision.stop is not None:
                self.queues.stop(decision.stop)
                queue.on_unit_interrupted(unit)
            elif decision.failed_because is not None:
                queue.on_unit_failed(unit, decision.failed_because)
            else:
                queue.on_unit_struck(unit)

    def _fault_of(self, trial: Trial) -> Fault:
        place, report = self.places.get(trial.trial_id), self.reports.get(trial.trial_id)
        if report is not None:
            return Fault(report["kind"], place, report["reason"], trial.config["gpus"])
        text = _last_error(trial)
        last_line = (text.strip().splitlines() or ["no reason is known"])[-1]
        return Fault(STORAGE if StorageError.__name__ in text else WORKER, place, last_line[:_REASON_LENGTH])

    def _forget(self, trial: Trial) -> None:
        self.places.pop(trial.trial_id, None)
        self.reports.pop(trial.trial_id, None)
        self.parked.discard(trial.trial_id)


class EndedTrialCallback(Stateless, tune.Callback):
    """Has Tune hold nothing of a trial that has ended: neither its unit, nor what it reported."""

    def __init__(self) -> None:
        self.ended: list[Trial] = []

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Other callbacks have still to see it."""
        self.ended.append(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """All have seen those that ended."""
        for trial in self.ended:
            trial.config = trial.evaluated_params = {}
            setattr(trial, "_Trial__unresolved_config", {})  # noqa: B010 (a private name of Tune's, of Ray 2.60)
            trial.experiment_tag = ""
            about = trial.run_metadata
            about.last_result, about.metric_analysis, about.metric_n_steps = {}, {}, {}
        self.ended.clear()


class StopWithQueues(Stateless, tune.Stopper):
    """Ends the experiment as soon as the sweep is stopped (what runs goes on at the next start), or all units have
    ended: trials that hold a place which is set aside are not waited for.
    """

    def __init__(self, queues: SystemQueues):
        self.queues = queues

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No unit is stopped alone."""
        return False

    def stop_all(self) -> bool:
        """Whether the sweep is stopped, or at its end."""
        return self.queues.stopped is not None or self.queues.finished


def _last_error(trial: Trial) -> str:
    """The text of the last of a trial's failures; Tune appends them to a file, which it copies away later."""
    try:
        return Path(trial.error_file).read_text(errors="replace").rpartition("Failure # ")[2]
    except (OSError, TypeError):
        return ""
