"""Ray Tune over the units of the queues: one Tune trial a unit, and no more at once than the cluster can run."""

import tempfile
import time
from collections.abc import Callable, Hashable
from typing import Any

import ray
from ray import tune
from ray.tune.execution.placement_groups import resource_dict_to_pg_factory
from ray.tune.experiment import Trial

from emodarts.records import UnitKey
from sweeps.execution.faults import FaultPolicy
from sweeps.execution.places import count_places
from sweeps.execution.stop_requests import ask_workers_to_stop_first, withdraw_stop
from sweeps.execution.tune_hooks import (
    EndedTrialCallback,
    FaultCallback,
    StopWithQueues,
    UnitScheduler,
    UnitSearcher,
    unit_of,
)
from sweeps.units.outcomes import unit_title
from sweeps.units.system_queues import SystemQueues

_NODES_INTERVAL = 5.0  # s between two looks at the nodes of a cluster


class ConcurrencyLimiter:
    """How many units may be in flight: `limit`, else as many as the present nodes can run, which are counted again and
    again; at least one.
    """

    def __init__(self, resources: dict[str, float], limit: int | None, clock: Callable[[], float] = time.monotonic):
        self.per_trial = {name.upper(): amount for name, amount in resources.items() if amount > 0}
        self.limit, self.clock = limit, clock
        self.count, self.counted_at = 1, -_NODES_INTERVAL

    def __call__(self) -> int:
        """The present number."""
        if self.limit is not None:
            return self.limit
        if self.clock() - self.counted_at >= _NODES_INTERVAL:
            self.count = max(1, sum(self._capacity(node["Resources"]) for node in ray.nodes() if node["Alive"]))
            self.counted_at = self.clock()
        return self.count

    def _capacity(self, node: dict[str, float]) -> int:
        return int(min(node.get(name, 0.0) / amount + 1e-9 for name, amount in self.per_trial.items()))


def fit(
    trainable: Callable[[dict[str, Any]], None],
    queues: SystemQueues,
    resources: dict[str, float],
    callbacks: list[tune.Callback],
    max_concurrent_trials: int | None = None,
    mark_of: Callable[[UnitKey], Hashable] = lambda key: None,
    on_set_aside: Callable[[str, str], None] = lambda place, reason: None,
) -> None:
    """Run a trainable for each unit of the queues, until they have none left or are stopped.

    `trainable` gets `{"unit": UnitSpec}` and reports as `worker.run_unit` does; `resources` are those of a unit, `gpu`
    until one of its shape needs more. `mark_of` and `on_set_aside`: see `FaultCallback` and `FaultPolicy`. Tune's own
    files are deleted at the end: the result tables are all that is kept.
    """
    _let_a_worker_die_for_memory()
    _describe_no_trials()
    _count_no_callbacks()
    ask_workers_to_stop_first()
    withdraw_stop()
    faults = FaultPolicy(resources.get("gpu", 0.0), count_places, on_set_aside)

    def resources_of(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return resource_dict_to_pg_factory({**resources, "gpu": config["gpus"]})

    try:
        with tempfile.TemporaryDirectory(prefix="emodarts-tune-", ignore_cleanup_errors=True) as folder:
            tune.Tuner(
                tune.with_resources(trainable, resources_of),
                tune_config=tune.TuneConfig(
                    search_alg=UnitSearcher(queues, ConcurrencyLimiter(resources, max_concurrent_trials), faults),
                    scheduler=UnitScheduler(queues),
                    num_samples=-1,
                    reuse_actors=True,
                    trial_name_creator=lambda trial: unit_title(unit_of(trial).key),
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="units",
                    storage_path=folder,
                    callbacks=[FaultCallback(queues, faults, mark_of), *callbacks, EndedTrialCallback()],
                    stop=StopWithQueues(queues),
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=0),  # `FaultPolicy` decides, not Tune
                ),
            ).fit()
    finally:
        withdraw_stop()
        queues.interrupt_all()  # stopped with the experiment: they wait for the next start


def _describe_no_trials() -> None:
    """Keep Tune (of Ray 2.60) from holding 40 kB of text a trial in memory, for snapshots that nobody reads."""
    from ray.tune.execution.tune_controller import TuneController

    TuneController._get_trial_checkpoints = lambda self: {}  # type: ignore[method-assign]


def _count_no_callbacks() -> None:
    """Keep Tune (of Ray 2.60) from importing MLflow and others, which takes seconds, for statistics that are off."""
    from ray.air._internal import usage

    usage.tag_callbacks = lambda callbacks: False


def _let_a_worker_die_for_memory() -> None:
    """Make Tune take a worker that Ray killed for its memory as one that died.

    Tune (of Ray 2.60) knows deaths by RayActorError, which OutOfMemoryError is not, and ends the whole experiment: with
    "unexpected exception", and where it asks a worker that had not yet told anything for its address.
    """
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import OutOfMemoryError, RayActorError

    failed, first_result = RayActorManager._actor_task_failed, Trial._get_default_result_or_future
    if getattr(failed, "knows_memory", False):
        return

    def failed_or_killed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=f"killed for its memory: {str(exception).splitlines()[0]}")
        failed(self, tracked_actor_task, exception)

    def first_result_or_killed(self: Any) -> dict[str, Any] | None:
        try:
            return first_result(self)
        except OutOfMemoryError:
            self._default_result_or_future = None
            return None

    failed_or_killed.knows_memory = True  # type: ignore[attr-defined]
    RayActorManager._actor_task_failed = failed_or_killed  # type: ignore[method-assign]
    Trial._get_default_result_or_future = first_result_or_killed  # type: ignore[method-assign]
