"""What becomes of a unit that its place struck, and of the place; and which errors are a place's at all."""

from dataclasses import replace

import pytest
import torch

from emodarts.errors import EmodartsError
from emodarts.storage import StorageError
from sweeps.execution import faults
from sweeps.execution.faults import (
    GPU,
    GPU_MEMORY,
    HOST_MEMORY,
    STORAGE,
    WORKER,
    Fault,
    FaultDecision,
    FaultPolicy,
    fault_kind,
)
from tests.support.studies import begin

GOES_ON = FaultDecision()


@pytest.fixture
def units(tmp_path):
    """Four units of one shape, by number."""
    studies = begin(tmp_path, folds=(0, 1, 2, 3), trials=1, study_per="sweep")
    return [studies.next_unit() for _ in range(4)]


def policy(places=3, gpus=0.25, clock=lambda: 0.0):
    aside = []
    made = FaultPolicy(gpus, lambda: places, lambda place, reason: aside.append((place, reason)), clock)
    return made, aside


def strike(at, units, number, place, kind=WORKER, mark=(), gpus=0.25):
    return at.on_fault(units[number], number, Fault(kind, place, f"{kind} at {place}", gpus), mark)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), GPU_MEMORY),
        (RuntimeError("CUDA error: out of memory"), GPU_MEMORY),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), GPU),
        (RuntimeError("CUDA error: unspecified launch failure"), GPU),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), GPU),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), GPU),
        (RuntimeError("No CUDA GPUs are available"), GPU),
        (MemoryError(), HOST_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), HOST_MEMORY),
        (StorageError("cannot write x: Stale file handle"), STORAGE),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x8 and 9x2)"), None),
        (ArithmeticError("the loss is not finite"), None),
        (EmodartsError("search.nodes=9 is out of range"), None),
        (ValueError("CUDA error in the text of another kind of error"), None),
    ],
    ids=str,
)
def test_errors_of_a_place_are_told_from_a_unit_s_own(error, kind):
    assert fault_kind(error) == kind


def test_a_unit_that_is_struck_everywhere_has_failed_by_itself_and_no_place_is_blamed(units):
    at, aside = policy()
    assert strike(at, units, 0, "a") == GOES_ON
    assert strike(at, units, 0, "b") == GOES_ON
    decision = strike(at, units, 0, "c")
    assert decision.failed_because == "its worker died 3 times without progress (a, b, c): worker at c"
    for number in (1, 2):  # two others at the same place: with that unit's strike they would be three in a row
        assert strike(at, units, number, "a") == GOES_ON
    assert not aside


def test_a_unit_that_only_one_of_several_places_strikes_goes_on(units):
    at, _ = policy(places=2)
    assert at.places_to_avoid(0) == ()
    for _ in range(6):
        assert strike(at, units, 0, "a") == GOES_ON
    assert at.places_to_avoid(0) == ("a",)
    assert strike(at, units, 0, "b").failed_because is not None
    assert at.places_to_avoid(0) == (), "there is no place left"


def test_with_one_place_three_fresh_processes_are_enough(units):
    at, aside = policy(places=1)
    assert [strike(at, units, 0, "a").failed_because is None for _ in range(3)] == [True, True, False]
    assert not aside


def test_strikes_with_progress_between_do_not_count(units):
    at, aside = policy(places=1)
    for epoch in range(10):
        assert strike(at, units, 0, "a", mark=(epoch,)) == GOES_ON
    assert not aside
    assert strike(at, units, 0, "a", mark=(9,)) == GOES_ON
    assert strike(at, units, 0, "a", mark=(9,)) == GOES_ON
    assert strike(at, units, 0, "a", mark=(9,)).failed_because is not None


def test_a_place_that_strikes_three_units_in_a_row_is_set_aside_for_ten_minutes(units):
    now = [100.0]
    at, aside = policy(clock=lambda: now[0])
    for number in (0, 0, 1):  # two units: as often as one likes
        strike(at, units, number, "a GPU 0", GPU)
    assert not aside
    strike(at, units, 2, "a GPU 1", GPU)
    strike(at, units, 2, "a GPU 0", GPU)
    assert aside == [("a GPU 0", "GPU at a GPU 0")]
    assert at.is_set_aside("a GPU 0")
    assert not at.is_set_aside("a GPU 1")
    now[0] += faults.SET_ASIDE_SECONDS + 1
    assert not at.is_set_aside("a GPU 0")


def test_what_goes_well_at_a_place_ends_its_row_of_faults(units):
    at, aside = policy()
    for number in (0, 1):
        strike(at, units, number, "a")
    at.on_progress("a")
    for number in (2, 3):
        strike(at, units, number, "a")
    assert not aside


def test_out_of_gpu_memory_asks_for_twice_as_much_and_so_do_units_of_that_shape(units):
    at, aside = policy(places=1)
    other = replace(units[1], settings=replace(units[1].settings, search=replace(units[1].settings.search, channels=2)))
    assert at.gpus_for(units[0]) == 0.25
    for gpus in (0.25, 0.5):
        for number in (0, 1, 2):  # several that ran at once meet it with the same share
            assert strike(at, units, number, "a GPU 0", GPU_MEMORY, gpus=gpus) == GOES_ON
        assert [at.gpus_for(unit) for unit in units] == [2 * gpus] * 4
        assert at.gpus_for(other) == 0.25
    decision = strike(at, units, 0, "a GPU 0", GPU_MEMORY, gpus=1.0)
    assert decision.failed_because == "out of GPU memory with a whole GPU to itself: GPU memory at a GPU 0"
    assert not aside


def test_results_that_are_away_everywhere_end_the_sweep_and_not_the_unit(units):
    at, _ = policy(places=1)
    assert strike(at, units, 0, "a", STORAGE) == GOES_ON
    assert strike(at, units, 0, "a", STORAGE) == GOES_ON
    assert strike(at, units, 0, "a", STORAGE) == FaultDecision(stop="storage at a")
