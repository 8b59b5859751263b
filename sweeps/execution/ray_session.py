"""Ray for a sweep: its own on this machine, or a cluster that it joins, and Ray Tune over the queues' units."""

import logging
import os
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from emodarts.errors import EmodartsError
from emodarts.processors import choose_device
from sweeps.data.placement import runtime_environment
from sweeps.execution.tune_hooks import (
    MAX_DEATHS,
    StopWithQueues,
    UnitScheduler,
    UnitSearcher,
    WorkerFailureCallback,
    unit_of,
)
from sweeps.settings import NO_RAY, RaySettings, ResourceSettings
from sweeps.units.outcomes import unit_title
from sweeps.units.system_queues import SystemQueues

_DEFAULT_GPUS_PER_TRIAL = 0.25
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of units that died: their queues take note of them
    # Tune would have one worker start at a time, and an autoscaler see one unit that waits: ConcurrencyLimiter has
    # the bound.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
}
_CONNECT_TIMEOUT = 10.0  # s that a cluster's address has to answer
_NODES_INTERVAL = 5.0  # s between two looks at the nodes of a cluster


def joins_cluster(settings: RaySettings) -> bool:
    """Whether a running cluster is joined."""
    return settings.address not in (None, "local", NO_RAY)


@contextmanager
def session(settings: RaySettings, resources: ResourceSettings, console: Console) -> Iterator[None]:
    """Ray, started here or joined, until the end of the block. Raises EmodartsError where a cluster does not answer."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Tune prints a traceback for every worker that dies; what became of it stands in the tables and is said here.
    for logger, level in (("ray", logging.ERROR), ("ray.tune", logging.CRITICAL)):
        logging.getLogger(logger).setLevel(level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            context = _start(settings, resources)
            if context.dashboard_url:
                console.print(f"dashboard: http://{context.dashboard_url} (on {socket.gethostname()})", highlight=False)
            yield
        finally:
            ray.shutdown()


def _start(settings: RaySettings, resources: ResourceSettings) -> Any:
    common: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": runtime_environment(resources.cpus_per_trial, joins_cluster(settings)),
    }
    if joins_cluster(settings):
        return _join(str(settings.address), common)
    if settings.dashboard_port is not None:
        common["dashboard_port"] = settings.dashboard_port
    context = ray.init(address="local", include_dashboard=settings.dashboard, **common)
    token = Path.home() / ".ray" / "auth_token"
    if token.exists():
        token.chmod(0o600)  # Ray makes it readable for everybody
    return context


def _join(address: str, common: dict[str, Any]) -> Any:
    advice = "is the cluster up (`ray status`)? ray.address=local starts Ray on this machine instead"
    host, _, port = address.rpartition(":")
    if port.isdigit() and "://" not in address:
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT).close()
        except OSError as error:
            raise EmodartsError(f"ray.address={address} does not answer ({error}): {advice}") from error
    try:
        return ray.init(address=address, **common)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EmodartsError(
            f"ray.address={address} cannot be joined ({str(error).splitlines()[0]}): {advice}"
        ) from error


def trial_resources(resources: ResourceSettings) -> dict[str, float]:
    """The resources of a unit. Where the settings name no GPUs, a quarter of one if the cluster has any."""
    gpus = resources.gpus_per_trial
    if gpus is None:
        wants_gpu = resources.device == "auto" or resources.device.startswith("cuda")
        has_gpu = ray.cluster_resources().get("GPU", 0) > 0 and (
            resources.device != "auto" or choose_device("auto") != "mps"
        )
        gpus = _DEFAULT_GPUS_PER_TRIAL if wants_gpu and has_gpu else 0
    return {"cpu": resources.cpus_per_trial, "gpu": gpus}


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
) -> None:
    """Run a trainable for each unit of the queues, until they have none left or are stopped.

    `trainable` gets `{"unit": UnitSpec}` and reports as `worker.run_unit` does; `resources` are those of a unit. Tune's
    own files are deleted at the end: the result tables are all that is kept.
    """
    _let_a_worker_die_for_memory()
    try:
        with tempfile.TemporaryDirectory(prefix="emodarts-tune-", ignore_cleanup_errors=True) as folder:
            tune.Tuner(
                tune.with_resources(trainable, resources),
                tune_config=tune.TuneConfig(
                    search_alg=UnitSearcher(queues, ConcurrencyLimiter(resources, max_concurrent_trials)),
                    scheduler=UnitScheduler(queues),
                    num_samples=-1,
                    reuse_actors=True,
                    trial_name_creator=lambda trial: unit_title(unit_of(trial).key),
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="units",
                    storage_path=folder,
                    callbacks=[WorkerFailureCallback(queues), *callbacks],
                    stop=StopWithQueues(queues),
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=MAX_DEATHS - 1),
                ),
            ).fit()
    finally:
        queues.interrupt_all()  # stopped with the experiment: they wait for the next start


def _let_a_worker_die_for_memory() -> None:
    """Make Tune take a worker that Ray killed for its memory as one that died.

    Tune (of Ray 2.60) knows deaths by RayActorError, which OutOfMemoryError is not, and ends the whole experiment with
    "unexpected exception".
    """
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import OutOfMemoryError, RayActorError

    failed = RayActorManager._actor_task_failed
    if getattr(failed, "knows_memory", False):
        return

    def failed_or_killed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=f"killed for its memory: {str(exception).splitlines()[0]}")
        failed(self, tracked_actor_task, exception)

    failed_or_killed.knows_memory = True  # type: ignore[attr-defined]
    RayActorManager._actor_task_failed = failed_or_killed  # type: ignore[method-assign]
