"""The trainable of Ray Tune. torch is imported where it runs: the driver, which names it, needs neither the seconds nor
the memory of that.
"""

import ctypes
import gc
import sys
import time
from dataclasses import asdict
from typing import Any

from ray import tune

from emodarts.garbage_collection import without_garbage_collection
from emodarts.storage import Storage
from sweeps.execution.faults import NODE, PlaceFaultError
from sweeps.execution.places import current_place, seconds_set_aside
from sweeps.execution.stop_requests import DRIVER, StopListener
from sweeps.execution.sweep_spec import SweepSpec

AVOIDED_SECONDS = 20.0  # time enough for another place to take the unit
_DOUBLINGS = 5  # of it, at most


def run_unit(config: dict[str, Any], sweep: SweepSpec) -> None:
    """The trainable of Ray Tune: runs and commits `config["unit"]` (a UnitSpec), and reports how it ended.

    On a place that is set aside it holds what it was given there, so that no unit comes to it, and runs nothing; for a
    while as well where this place struck the unit before (`config["avoid"]`), the longer the oftener it came back
    (`config["parkings"]`), and the unit goes to another one. Raises PlaceFaultError for what the place did to the unit:
    Tune then ends this process, and no unit comes into it again. That the node is drained is such a fault, once the
    unit has stopped at its next batch; one that stops with its driver waits for its process to be ended.
    """
    here = current_place()
    tune.report({"status": "running", "place": here})
    seconds = seconds_set_aside(Storage.open(sweep.results), sweep.sweep, here)
    if here in config["avoid"]:
        # Longer each time: Tune ends a worker that is still starting elsewhere when this one is free before it.
        seconds = max(seconds, AVOIDED_SECONDS * 2 ** min(config["parkings"], _DOUBLINGS))
    if seconds > 0:
        tune.report({"status": "parked"})
        time.sleep(seconds)
        return
    with without_garbage_collection():  # imports of seconds
        import torch._dynamo  # noqa: F401 - PyTorch's optimisers do

        from emodarts.checkpoints import StopRequested
        from sweeps.execution.worker import run_unit_locally

    try:
        with StopListener() as listener:
            try:
                outcome = run_unit_locally(config["unit"], sweep, tune.report, here, listener.should_stop)
            except StopRequested:
                if listener.reason == DRIVER:
                    tune.report({"status": "stopped"})  # which ends this thread
                raise PlaceFaultError(NODE, str(listener.reason)) from None
    except PlaceFaultError as error:
        tune.report({"status": "struck", "kind": error.kind, "reason": error.reason})
        raise
    _release_memory()
    tune.report(asdict(outcome))


def _release_memory() -> None:
    """Give back what the last unit left: a worker runs many, and batches of ever new lengths fragment the heap."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
        if trim is not None:
            trim(0)
