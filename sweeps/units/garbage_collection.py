"""Python's search for cyclic garbage, left out while very many objects are made that all stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Nothing looks for cycles within the block, or the function that this decorates.

    The search goes through all objects each time: a driver that restores 100,000 trials spends a third of its time so,
    and nothing is there to be freed.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
