"""The units one after the other in the driver's own process, without Ray: breakpoints of a debugger work."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from emodarts.experiment.unit_spec import UnitSpec
from sweeps.execution.sweep_spec import SweepSpec
from sweeps.execution.worker import run_unit_locally
from sweeps.units.system_queues import SystemQueues


def run_units_locally(sweep: SweepSpec, queues: SystemQueues, on_unit_end: Callable[[UnitSpec], None]) -> None:
    """Run the units of the queues until none is left; the rows are those that workers would have written.

    What is no unit's failure (a mistake in the code, Ctrl-C) is raised where it happens, and the unit runs at the next
    start.
    """
    while not queues.finished:
        try:
            with queues.stopping_on_error():
                unit = queues.next_unit()
                if unit is None:
                    return
                _run(unit, sweep, queues)
                on_unit_end(unit)
        finally:
            queues.interrupt_all()


def _run(unit: UnitSpec, sweep: SweepSpec, queues: SystemQueues) -> None:
    queue = queues.queue_of(unit)

    def report(rung: dict[str, Any]) -> None:
        if queue.should_prune(unit, rung["rung"], rung["epochs"]):
            raise SystemExit

    with suppress(SystemExit):  # pruned: the queue has committed it
        queue.on_unit_end(unit, run_unit_locally(unit, sweep, report))
