"""The units one after the other in the driver's own process, without Ray: a debugger stops where one says."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from emodarts.errors import EmodartsError
from emodarts.records import EpochRecord
from sweeps.execution.worker import SweepSpec, run_unit_locally
from sweeps.units.system_queues import SystemQueues
from sweeps.units.unit import Unit, UnitOutcome

Report = dict[str, Any]


def run_units_locally(plan: SweepSpec, systems: SystemQueues, ended: Callable[[Unit, Report], None]) -> None:
    """Run the units that the systems' studies hand out, until they have none left; `ended` hears how each one ended.

    The rows are those that workers would have written. What is no unit's failure (a mistake in the code, Ctrl-C) is
    raised where it happens, and the unit waits for the next start.
    """
    while not systems.finished:
        try:
            unit = systems.next_unit()
            if unit is None:
                return
            _run(unit, plan, systems, ended)
        except EmodartsError as error:  # of the results, or of a proposal
            systems.stop(str(error))
        finally:
            for running in systems.running:
                systems.give_back(running)


def _run(unit: Unit, plan: SweepSpec, systems: SystemQueues, ended: Callable[[Unit, Report], None]) -> None:
    reported: Report = {}

    def report(told: Report) -> None:
        reported.update(told)
        epochs = tuple(EpochRecord(**epoch) for epoch in told["epochs"])
        if systems.rung(unit, told["rung"], epochs):
            raise SystemExit

    try:
        reported = run_unit_locally(asdict(unit), plan, report)
        systems.end(unit, UnitOutcome(**reported))
    except SystemExit:
        systems.give_back(unit)  # pruned: the studies have written it down
    ended(unit, reported)
