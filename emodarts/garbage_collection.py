"""Python's search for cyclic garbage, left out while very many objects are made that all stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Nothing looks for cycles within the block, or the function that this decorates.

    The search goes through all objects each time: imports, a report, and a driver that restores 100,000 trials spend a
    seventh to a third of their time so, and little is there to be freed.
    """
    with _garbage_collection(False):
        yield


@contextmanager
def with_garbage_collection() -> Iterator[None]:
    """Python looks for cycles within the block, though it lies in one that is `without_garbage_collection`."""
    with _garbage_collection(True):
        yield


@contextmanager
def _garbage_collection(wanted: bool) -> Iterator[None]:
    was_enabled = gc.isenabled()
    _set(wanted)
    try:
        yield
    finally:
        _set(was_enabled)


def _set(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
