"""The lock of a store: who holds it builds or deletes; the system releases it when its holder dies."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PAUSE = 0.2  # s between two looks at a lock that another process holds


@contextmanager
def locked(folder: Path, waiting: Callable[[str], bool]) -> Iterator[bool]:
    """Hold the lock of a store's folder. While another process does, ask `waiting(holder)` whether to wait on.

    Yields False, without the lock, once `waiting` says no.
    """
    path = folder.with_name(folder.name + ".lock")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _take(descriptor):
                if not waiting(_holder(descriptor)):
                    yield False
                    return
                time.sleep(_PAUSE)
            elif _is_at(descriptor, path):  # else its last holder deleted it before it was ours
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.uname().nodename} {os.getpid()}".encode(), 0)
                try:
                    yield True
                finally:
                    path.unlink(missing_ok=True)  # while it is ours: who waits finds it gone and makes a new one
                return
        finally:
            os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> str:
    host, _, process = os.pread(descriptor, 200, 0).decode(errors="replace").partition(" ")
    return f"process {process} on {host}" if process else "another process"


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
