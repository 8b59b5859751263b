"""The systems of a sweep side by side: each has a queue of its own, and all take turns."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from emodarts.errors import EmodartsError
from emodarts.experiment.unit_spec import UnitSpec
from sweeps.study.samplers import describe_proposals
from sweeps.units.outcomes import UnitOutcome, unit_id
from sweeps.units.unit_queue import UnitQueue


class SystemQueues:
    """The queues of several systems: hands out units from that which is furthest behind, knows when all have ended."""

    def __init__(self, queues: Iterable[UnitQueue]):
        self.by_system = {queue.system: queue for queue in queues}

    def __iter__(self) -> Iterator[UnitQueue]:
        return iter(self.by_system.values())

    def queue_of(self, unit: UnitSpec) -> UnitQueue:
        """The queue that handed out a unit; it takes what becomes of the unit."""
        return self.by_system[unit.key.system]

    def outcome_of(self, unit: UnitSpec) -> UnitOutcome | None:
        """How a unit ended, if it has."""
        return self.queue_of(unit).outcomes.get(unit_id(unit.key))

    def next_unit(self) -> UnitSpec | None:
        """The next unit of the system that is furthest behind; None: nothing for now (see `finished`)."""
        by_progress = sorted(self, key=lambda queue: (queue.units_ended + len(queue.running)) / queue.units_total)
        return next((unit for queue in by_progress if (unit := queue.next_unit()) is not None), None)

    def stop(self, reason: str) -> None:
        """End the sweep without an outcome for what runs."""
        for queue in self:
            queue.stop(reason)

    @contextmanager
    def stopping_on_error(self) -> Iterator[None]:
        """An EmodartsError of the block (the results cannot be written, a proposal is refused) stops the sweep."""
        try:
            yield
        except EmodartsError as error:
            self.stop(str(error))

    def interrupt_all(self) -> None:
        """All that runs was stopped before its end: it runs at the next start."""
        for queue in self:
            queue.running.clear()

    def describe_proposals(self, slots: int) -> list[str]:
        """How the studies of each system are to be filled with so many units at once, a line a system."""
        studies = max(1, sum(len(queue.studies) for queue in self))
        return [
            f"{queue.system}: {describe_proposals(queue.settings, queue.specs.space, -(-slots // studies))}"
            for queue in self
            if queue.studies and not queue.complete
        ]

    @property
    def stopped(self) -> str | None:
        """Why the sweep was stopped."""
        return next((queue.stopped for queue in self if queue.stopped), None)

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will be handed out any more."""
        return all(queue.finished for queue in self)

    @property
    def complete(self) -> bool:
        """Whether every trial and seed that the settings ask for has ended."""
        return all(queue.complete for queue in self)

    @property
    def failing(self) -> list[str]:
        """The systems that only fail (`sweep.max_failures`), or have ended without a result."""
        return [queue.system for queue in self if queue.only_fails or (queue.complete and queue.none_complete)]

    @property
    def failing_in_a_row(self) -> list[str]:
        """The systems with results whose last units all failed, as many as end a sweep (`sweep.max_failures`)."""
        return [queue.system for queue in self if queue.fails_in_a_row and not (queue.complete or queue.only_fails)]

    @property
    def without_choice(self) -> list[str]:
        """The systems none of whose complete configurations keeps to the constraints."""
        constrained = [queue for queue in self if queue.settings.constraints and queue.studies]
        return [queue.system for queue in constrained if not any(map(queue.history.ranked, queue.studies))]

    @property
    def units_ended(self) -> int:
        """How many units have ended, over all starts."""
        return sum(queue.units_ended for queue in self)

    @property
    def units_total(self) -> int:
        """How many units the settings ask for."""
        return sum(queue.units_total for queue in self)
