"""The systems of a sweep side by side: each has studies of its own, and all take turns."""

from collections.abc import Iterator

from emodarts.records import EpochRecord
from sweeps.units.unit import Unit, UnitOutcome
from sweeps.units.unit_queue import UnitQueue


class SystemQueues:
    """For several systems what studies are for one: hands out units, takes outcomes, knows when all is done."""

    def __init__(self, studies: list[UnitQueue]):
        self.studies = {each.system: each for each in studies}

    def __iter__(self) -> Iterator[UnitQueue]:
        return iter(self.studies.values())

    def next_unit(self) -> Unit | None:
        """The next unit of the system that is furthest behind; None: nothing for now (see `finished`)."""
        for each in sorted(self, key=lambda s: (s.units_ended + len(s.running)) / s.units_total):
            unit = each.next_unit()
            if unit is not None:
                return unit
        return None

    def end(self, unit: Unit, outcome: UnitOutcome) -> None:
        """Take a unit's outcome."""
        self.studies[unit.system].end(unit, outcome)

    def give_back(self, unit: Unit) -> None:
        """A unit that was stopped before its end: it waits for the next start."""
        self.studies[unit.system].give_back(unit)

    def restarted(self, unit: Unit) -> None:
        """A unit's worker died, and it is begun again from its last checkpoint."""
        self.studies[unit.system].restarted(unit)

    def died(self, unit: Unit, reason: str) -> None:
        """A unit's workers died for good."""
        self.studies[unit.system].died(unit, reason)

    def rung(self, unit: Unit, rung: int, epochs: tuple[EpochRecord, ...]) -> bool:
        """Whether a unit that has come to one of its rungs is to be pruned."""
        return self.studies[unit.system].rung(unit, rung, epochs)

    def stop(self, reason: str) -> None:
        """End the sweep without an outcome for what runs."""
        for each in self:
            each.stop(reason)

    def outcome(self, unit: Unit) -> UnitOutcome | None:
        """How a unit ended, if it has."""
        return self.studies[unit.system].outcomes.get(unit.key)

    @property
    def running(self) -> list[Unit]:
        """The units that run."""
        return [unit for each in self for unit in each.running.values()]

    @property
    def stopped(self) -> str | None:
        """Why the sweep was stopped."""
        return next((each.stopped for each in self if each.stopped), None)

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will be handed out any more."""
        return all(each.finished for each in self)

    @property
    def complete(self) -> bool:
        """Whether every trial and seed that the settings ask for has ended."""
        return all(each.complete for each in self)

    @property
    def failing(self) -> list[str]:
        """The systems that only fail (`sweep.max_failures`), or have ended without a result."""
        return [each.system for each in self if each.has_failed or (each.complete and each.none_complete)]

    @property
    def units_ended(self) -> int:
        """How many units have ended, over all starts."""
        return sum(each.units_ended for each in self)

    @property
    def units_total(self) -> int:
        """How many units the settings ask for."""
        return sum(each.units_total for each in self)
