"""Ray for a sweep: its own on this machine, or a cluster that it joins."""

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from emodarts.errors import EmodartsError
from emodarts.processors import choose_device
from sweeps.nodes.environment import runtime_environment
from sweeps.settings import RaySettings, ResourceSettings

_DEFAULT_GPUS_PER_TRIAL = 0.25
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # five files a unit that nobody reads
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of units that died: their queues take note of them
    # Tune would have one worker start at a time, and an autoscaler see one unit that waits: ConcurrencyLimiter has
    # the bound.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
    "RAY_prestart_worker_first_driver": "0",  # one a core, none with `runtime_environment`, which those of units have
}
_CONNECT_TIMEOUT = 10.0  # s that a cluster's address has to answer


@contextmanager
def session(settings: RaySettings, resources: ResourceSettings, console: Console) -> Iterator[None]:
    """Ray, started here or joined, until the end of the block.

    Raises EmodartsError where a cluster does not answer, or where this machine alone has to have a GPU and has none.
    """
    if not settings.joins_cluster:
        check_gpu_here(resources.device)
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
        "runtime_env": runtime_environment(resources.cpus_per_trial, settings.joins_cluster),
    }
    if settings.joins_cluster:
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


def check_gpu_here(device: str) -> None:
    """Raise EmodartsError where `resources.device` names a GPU and this machine, which is all there is, has none."""
    if device.startswith("cuda") and not choose_device("auto").startswith("cuda"):
        raise EmodartsError(
            f"resources.device={device}: this machine has no GPU that torch can use; leave it out (or set "
            "EMODARTS_RESOURCES=auto), or join a cluster that has one: ray.address=auto"
        )


def describe_waiting(requested: dict[str, float], seconds: float, what: str = "a unit") -> str:
    """What is waited for since so many seconds, what the cluster has, and what to do."""
    total, free = ray.cluster_resources(), ray.available_resources()
    wanted = ", ".join(f"{amount:g} {name}" for name, amount in requested.items() if amount)
    have = ", ".join(f"{total.get(name, 0):g} {name}" for name in ("CPU", "GPU"))
    left = ", ".join(f"{free.get(name, 0):g} {name}" for name in ("CPU", "GPU"))
    fits = all(total.get(name, 0) >= amount for name, amount in requested.items())
    advice = (
        "others use it, or nodes are starting: `ray status` tells"
        if fits
        else "nodes may be starting (`ray status`); else add one, or ask for less (resources.cpus_per_trial, "
        "resources.gpus_per_trial, 0 for none)"
    )
    return (
        f"waiting for resources since {seconds / 60:.1f} min: {what} asks for {wanted}; the cluster has {have}, free "
        f"are {left}; {advice}"
    )
