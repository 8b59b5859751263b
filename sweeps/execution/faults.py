"""What its place does to a unit is not the unit's end: CUDA errors, memory, a lost worker or node, storage away.

`fault_kind` tells such an error from one of the unit's own; `FaultPolicy` decides what becomes of a unit that was
struck, and of the place that strikes. No part of Ray is needed here, and no clock but the one that is passed in.
"""

import re
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from emodarts.errors import EmodartsError
from emodarts.experiment.unit_spec import UnitSpec
from emodarts.storage import StorageError

GPU_MEMORY, GPU, HOST_MEMORY, WORKER, STORAGE = "GPU memory", "GPU", "host memory", "worker", "storage"
NODE = "node"  # it is drained, and units stop at their next batch
STRIKES = 3  # of a unit, without progress in between, and it has failed by itself
QUICK_FAULTS = 3  # in a row, of different units, and their place is set aside
SET_ASIDE_SECONDS = 600.0
_OF_THE_GPU = re.compile(
    r"CUDA error|CUDA driver error|device-side assert|illegal memory access|CUBLAS_STATUS|cuDNN error|CUDNN_STATUS"
    r"|CUSOLVER_STATUS|CUFFT|HIP error|no CUDA-capable device|No CUDA GPUs|NVML|uncorrectable ECC",
    re.IGNORECASE,
)
_OF_GPU_MEMORY = re.compile(r"(CUDA|HIP) (error: )?out of memory", re.IGNORECASE)
_OF_HOST_MEMORY = re.compile(r"DefaultCPUAllocator|can't allocate memory|Cannot allocate memory", re.IGNORECASE)


class PlaceFaultError(EmodartsError):
    """A unit was struck by its place: it is no end of the unit, which goes on elsewhere from its last checkpoint."""

    def __init__(self, kind: str, reason: str):
        super().__init__(f"struck by its place ({kind}): {reason}")
        self.kind, self.reason = kind, reason


def fault_kind(error: BaseException) -> str | None:
    """What struck a unit; None: the error is the unit's own (settings, data, a loss that is not finite)."""
    import torch  # workers have it; the driver, which needs the policy alone, goes without

    if isinstance(error, RuntimeError) and _OF_GPU_MEMORY.search(str(error)):  # torch.OutOfMemoryError is one
        return GPU_MEMORY
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _OF_HOST_MEMORY.search(str(error))):
        return HOST_MEMORY
    if isinstance(error, torch.AcceleratorError):
        return GPU
    if isinstance(error, StorageError):
        return STORAGE
    return GPU if isinstance(error, RuntimeError) and _OF_THE_GPU.search(str(error)) else None


@dataclass(frozen=True)
class Fault:
    """One strike: what it was, where (None: nobody knows, the unit had not begun), why, and with how much of a GPU."""

    kind: str
    place: str | None
    reason: str
    gpus: float = 0.0


@dataclass(frozen=True)
class FaultDecision:
    """`failed_because`: the unit has failed by itself, and why; None: it goes on. `stop`: why the sweep ends."""

    failed_because: str | None = None
    stop: str | None = None


class FaultPolicy:
    """Counts strikes of units and quick faults of places, and remembers how much of a GPU a shape of unit needs.

    `place_count()`: how many places there are at present. `on_set_aside(place, reason)` is called with each place that
    is set aside, for `SET_ASIDE_SECONDS`.
    """

    def __init__(
        self,
        gpus_per_trial: float,
        place_count: Callable[[], int],
        on_set_aside: Callable[[str, str], None] = lambda place, reason: None,
        clock: Callable[[], float] = time.time,
    ):
        self.gpus_per_trial, self.place_count = gpus_per_trial, place_count
        self.on_set_aside, self.clock = on_set_aside, clock
        self.set_aside: dict[str, float] = {}  # until when
        self._strikes: dict[Hashable, list[Fault]] = {}
        self._quick: dict[str, dict[Hashable, Fault]] = {}  # of a place, since something went well there
        self._gpus: dict[Hashable, float] = {}
        self._marks: dict[Hashable, Hashable] = {}  # of checkpoints, when a unit was struck last

    def gpus_for(self, unit: UnitSpec) -> float:
        """The part of a GPU, or the number of GPUs, that a unit asks for."""
        return self._gpus.get(unit_shape(unit), self.gpus_per_trial)

    def places_to_avoid(self, identity: Hashable) -> tuple[str, ...]:
        """Where a unit was struck since it came on last; none if that is everywhere."""
        places = sorted({strike.place for strike in self._strikes.get(identity, []) if strike.place is not None})
        return tuple(places) if len(places) < self.place_count() else ()

    def on_progress(self, place: str | None) -> None:
        """A unit has ended, or come on, at a place."""
        if place is not None:
            self._quick.pop(place, None)

    def on_fault(self, unit: UnitSpec, identity: Hashable, fault: Fault, mark: Hashable) -> FaultDecision:
        """What becomes of a unit that was struck. `mark` changes with every checkpoint of the unit."""
        if fault.kind == GPU_MEMORY:
            return self._on_gpu_memory(unit, fault)
        has_come_on = bool(mark) and mark != self._marks.get(identity)
        self._marks[identity] = mark
        if has_come_on:
            self._strikes.pop(identity, None)
            self.on_progress(fault.place)
            return FaultDecision()
        strikes = self._strikes.setdefault(identity, [])
        strikes.append(fault)
        places = {strike.place for strike in strikes}
        if len(strikes) >= STRIKES and len(places) >= min(STRIKES, max(1, self.place_count())):
            return self._give_up(identity, strikes)
        self._blame(identity, fault)
        return FaultDecision()

    def _on_gpu_memory(self, unit: UnitSpec, fault: Fault) -> FaultDecision:
        if fault.gpus >= 1:
            return FaultDecision(f"out of GPU memory with a whole GPU to itself: {fault.reason}")
        needed = min(1.0, 2 * fault.gpus) if fault.gpus else 1.0
        self._gpus[unit_shape(unit)] = max(needed, self.gpus_for(unit))  # or what another one needs
        return FaultDecision()

    def _give_up(self, identity: Hashable, strikes: list[Fault]) -> FaultDecision:
        """The unit has failed by itself, and no place is blamed for it; storage that is away is no failure at all."""
        for quick in self._quick.values():
            quick.pop(identity, None)
        last, where = strikes[-1], ", ".join(sorted({str(strike.place) for strike in strikes if strike.place}))
        if last.kind == STORAGE:
            return FaultDecision(stop=last.reason)
        what = f"its {last.kind} died" if last.kind == WORKER else f"{last.kind} fault"
        times = f"{len(strikes)} times without progress" + (f" ({where})" if where else "")
        return FaultDecision(f"{what} {times}: {last.reason}")

    def _blame(self, identity: Hashable, fault: Fault) -> None:
        """Note a quick fault of a place; set it aside after several in a row, of different units."""
        if fault.place is None or self.is_set_aside(fault.place):
            return
        quick = self._quick.setdefault(fault.place, {})
        quick[identity] = fault
        if len(quick) >= QUICK_FAULTS:
            del self._quick[fault.place]
            self.set_aside[fault.place] = self.clock() + SET_ASIDE_SECONDS
            self.on_set_aside(fault.place, fault.reason)

    def is_set_aside(self, place: str) -> bool:
        """Whether a place is set aside now."""
        return self.set_aside.get(place, 0.0) > self.clock()


def unit_shape(unit: UnitSpec) -> Hashable:
    """What the memory of a unit depends on: its system, sizes, and batches."""
    search, training = unit.settings.search, unit.settings.training
    names = (
        *("method", "space", "cells", "nodes", "channels", "sequence_cells", "sequence_nodes", "sequence_width"),
        *("stem_channels", "stem_strides", "optimisation", "unrolled", "batch_size", "crop_seconds", "precision"),
    )
    of_training = ("channels", "sequence_width", "batch_size", "crop_seconds")
    sizes = [getattr(search, name) for name in names] + [getattr(training, name) for name in of_training]
    return (unit.key.system, *map(str, sizes))
