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
    with with_garbage_collection(False):
        yield


@contextmanager
def with_garbage_collection(wanted: bool = True) -> Iterator[None]:
    """Python looks for cycles within the block, though it lies in one that is `without_garbage_collection`."""
    was_enabled = gc.isenabled()
    (gc.enable if wanted else gc.disable)()
    try:
        yield
    finally:
        (gc.enable if was_enabled else gc.disable)()
