"""Local files and folders that appear whole or not at all, and the lock of one process on a file or folder."""

import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from emodarts.errors import EmodartsError

PARTIAL = ".partial"  # ends the name of what is being written: a killed process may leave it behind
_PAUSE = 0.2  # s between two attempts at a lock that another process holds


def temporary_name(name: str) -> str:
    """A name beside `name` that no other writer uses; it begins with `name` and ends with PARTIAL."""
    return f"{name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}"


@contextmanager
def atomic_write(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path whose file replaces `path` at once when the block ends well; else it is deleted.

    Missing folders are made. `durable`: the content is on the disk before the file has its name. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(path.name))
    try:
        yield temporary
        if durable:
            sync(temporary)
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_output(path: Path, content: bytes) -> None:
    """Write a file that a user asked for, whole or not at all. Raises EmodartsError where it cannot be written."""
    try:
        with atomic_write(Path(os.path.realpath(path))) as temporary:  # a link stays one
            temporary.write_bytes(content)
    except OSError as error:
        raise EmodartsError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` at once when the block ends well; else it is deleted.

    Raises OSError, also where `folder` exists and is not empty.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(temporary_name(folder.name))
    try:
        temporary.mkdir()
        yield temporary
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync(path: Path) -> None:
    """Have the system write a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def file_lock(path: Path, keep_waiting: Callable[[str], bool] = lambda holder: True) -> Iterator[bool]:
    """Hold the lock of a file or folder: `<name>.lock` beside it, which is gone once nobody holds it.

    The system releases the lock of a process that dies. While another process holds it, `keep_waiting(holder)` is
    called a few times a second; once it returns False, False is yielded, without the lock. Raises OSError.
    """
    lock_path = path.with_name(f"{path.name}.lock")
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_path)
    while not _acquire(lock):
        if not keep_waiting(_holder(lock_path)):
            yield False
            return
        time.sleep(_PAUSE)
    try:
        lock_path.write_text(f"{socket.gethostname()} {os.getpid()}")
        yield True
    finally:
        lock_path.unlink(missing_ok=True)  # while it is held: who waits finds it gone, and makes a new one
        lock.release()


def _acquire(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _holder(lock_path: Path) -> str:
    try:
        host, _, process = lock_path.read_text(errors="replace").partition(" ")
    except FileNotFoundError:  # released this moment
        process = ""
    return f"process {process} on {host}" if process else "another process"
