"""Where results lie: any path that pyarrow.fs opens. Files appear whole or not at all; what may pass is tried again."""

import builtins
import errno
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from emodarts.errors import EmodartsError
from emodarts.exclusive import link_new, put_new
from emodarts.files import PARTIAL, atomic_write, temporary_name

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # s between attempts while a store is away
_TRANSIENT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.EHOSTUNREACH}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_PERMANENT = ("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY", "SIGNATURE", "403", "Unauthorized")
_READERS = 8  # threads
T = TypeVar("T")


class StorageError(EmodartsError):
    """The place of the results cannot be written or read: nothing that a unit could be blamed for."""


@dataclass(frozen=True)
class Storage:
    """A folder on a file system. Paths given to its methods are relative to it, with `/`.

    What may pass (a store that is away, a stale handle) is tried again after each of `pauses` seconds; then, and at
    once for what will not pass (a full disk, no permission), a StorageError says so.
    """

    filesystem: pafs.FileSystem
    root: str
    pauses: tuple[float, ...] = PAUSES

    @classmethod
    def open(cls, location: str | Path) -> "Storage":
        """Open a local path or a URI (`s3://`, `gs://`, `file://`).

        Raises EmodartsError for a URI that is none, and StorageError for a place that does not answer.
        """
        text = str(location)
        try:
            if "://" in text:
                if text.startswith("s3://") and "allow_delayed_open" not in text:
                    # A small file is then one request, not three.
                    text += f"{'&' if '?' in text else '?'}allow_delayed_open=true"
                filesystem, root = pafs.FileSystem.from_uri(text)
                return cls(filesystem, root.rstrip("/"))
            return cls(pafs.LocalFileSystem(), str(Path(text).expanduser().absolute()))
        except (pa.ArrowInvalid, OSError) as error:
            kind = StorageError if isinstance(error, OSError) else EmodartsError
            shown = re.sub("://[^/@]*@", "://", str(location))  # without an access key and its secret
            raise kind(f"results={shown} cannot be opened: {error}") from error

    @property
    def is_local(self) -> bool:
        """Whether the files can be renamed and locked as local ones (NFS too)."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def path(self, relative: str) -> str:
        """The full path of a relative one."""
        return f"{self.root}/{relative}" if relative else self.root

    def below(self, relative: str) -> "Storage":
        """A folder in this one."""
        return replace(self, root=self.path(relative))

    def check_writable(self) -> None:
        """Raise StorageError unless files can be written here; without patience."""
        probe, at_once = temporary_name("probe"), replace(self, pauses=self.pauses[:1])
        at_once.write(probe, b"")
        at_once.delete(probe)

    def write(self, relative: str, content: bytes) -> None:
        """Write a file: under a temporary name, then renamed; one PUT on object stores. Raises StorageError."""

        def put() -> None:
            if self.is_local:
                self._write_local(Path(self.path(relative)), content)
            else:
                with self.filesystem.open_output_stream(self.path(relative), compression=None) as stream:
                    stream.write(content)

        self._with_retries(put, "write", relative)

    def write_new(self, relative: str, content: bytes) -> bool:
        """Write a file unless it exists; whether this call made it: of any number at once, on any machines, one does.

        False also where an attempt seemed to fail and did not: who must know compares the file's content. Raises
        StorageError.
        """

        def put() -> bool:
            if self.is_local:
                return link_new(Path(self.path(relative)), content)
            return put_new(self.filesystem, self.path(relative), content)

        return self._with_retries(put, "write", relative)

    @staticmethod
    def _write_local(path: Path, content: bytes) -> None:
        with atomic_write(path, durable=True) as temporary:
            temporary.write_bytes(content)

    @contextmanager
    def create(self, relative: str) -> Iterator[Any]:
        """A stream to write a file of any size to, which appears whole when the block ends well, and else not at all.

        What fails here is not tried again. Raises StorageError.
        """
        try:
            if self.is_local:
                with atomic_write(Path(self.path(relative)), durable=True) as temporary, temporary.open("wb") as stream:
                    yield stream
            else:
                temporary_path = temporary_name(relative)
                with self.filesystem.open_output_stream(self.path(temporary_path), compression=None) as stream:
                    yield stream
                self.filesystem.move(self.path(temporary_path), self.path(relative))
        except OSError as error:
            raise StorageError(self._refusal("write", relative, error)) from error

    def upload(self, relative: str, source: Path) -> None:
        """Copy a local file, of any size, to here; it appears whole or not at all. Raises StorageError."""

        def put() -> None:
            if self.is_local:
                with atomic_write(Path(self.path(relative)), durable=True) as temporary:
                    shutil.copyfile(source, temporary)
            else:
                here = pafs.LocalFileSystem()
                pafs.copy_files(
                    str(source), self.path(relative), source_filesystem=here, destination_filesystem=self.filesystem
                )

        self._with_retries(put, "write", relative)

    def download(self, relative: str, target: Path) -> None:
        """Copy a file, of any size, to a local path. Raises FileNotFoundError and StorageError."""
        here = pafs.LocalFileSystem()

        def get() -> None:
            pafs.copy_files(
                self.path(relative), str(target), source_filesystem=self.filesystem, destination_filesystem=here
            )

        self._with_retries(get, "copy", relative)

    def sizes(self, relative: str) -> dict[str, int]:
        """Bytes of each file in a folder (none where it does not exist). Raises StorageError."""
        selector = pafs.FileSelector(self.path(relative), allow_not_found=True)
        infos = self._with_retries(lambda: self.filesystem.get_file_info(selector), "list", relative)
        return {info.base_name: info.size for info in infos if info.type == pafs.FileType.File}

    def marks(self, relative: str) -> tuple[tuple[str, int, int], ...]:
        """Name, size and time (ns) of each file in a folder, by name: other ones after any file was rewritten."""
        selector = pafs.FileSelector(self.path(relative), allow_not_found=True)
        infos = self._with_retries(lambda: self.filesystem.get_file_info(selector), "list", relative)
        return tuple(sorted((info.base_name, info.size or 0, info.mtime_ns or 0) for info in infos))

    def read(self, relative: str) -> bytes:
        """The content of a file. Raises FileNotFoundError and StorageError."""

        def get() -> bytes:
            with self.filesystem.open_input_stream(self.path(relative), compression=None) as stream:
                content: bytes = stream.read()
                return content

        return self._with_retries(get, "read", relative)

    def map(self, read: Callable[[str], T], paths: Sequence[str]) -> "builtins.list[T]":
        """What `read` makes of each path, several at a time: that hides the latency of a network's file system."""
        if self.is_local and len(paths) <= _READERS:  # they are read before as many threads have started
            return [read(path) for path in paths]
        with ThreadPoolExecutor(_READERS) as pool:
            return [*pool.map(read, paths)]

    def exists(self, relative: str) -> bool:
        """Whether there is such a file or folder. Raises StorageError."""
        info = self._with_retries(lambda: self.filesystem.get_file_info(self.path(relative)), "look for", relative)
        return bool(info.type != pafs.FileType.NotFound)

    def delete(self, relative: str) -> None:
        """Delete a file, and what killed writers left of it. Raises FileNotFoundError and StorageError."""
        self._with_retries(lambda: self.filesystem.delete_file(self.path(relative)), "delete", relative)
        if self.is_local:
            path = Path(self.path(relative))
            for leftover in path.parent.glob(f"{path.name}.*{PARTIAL}"):
                leftover.unlink(missing_ok=True)

    def delete_folder(self, relative: str) -> None:
        """Delete a folder with all that is in it, if it is there. Raises StorageError."""
        with suppress(FileNotFoundError):
            self._with_retries(lambda: self.filesystem.delete_dir(self.path(relative)), "delete", relative)

    def list(self, relative: str, suffix: str = "") -> list[str]:
        """Names in a folder (sorted; none where it does not exist), temporary files left out."""
        selector = pafs.FileSelector(self.path(relative), allow_not_found=True)
        try:
            infos = self._with_retries(lambda: self.filesystem.get_file_info(selector), "list", relative)
        except NotADirectoryError as error:
            raise EmodartsError(f"{self.path(relative)} is a file, not a folder of results") from error
        names = [info.base_name for info in infos]
        return sorted(name for name in names if name.endswith(suffix) and not name.endswith(PARTIAL))

    def _with_retries(self, act: Callable[[], T], what: str, relative: str) -> T:
        for pause in (*self.pauses, None):
            try:
                return act()
            except (FileNotFoundError, NotADirectoryError) as error:
                if what == "list" or (what != "write" and isinstance(error, FileNotFoundError)):
                    raise
                raise StorageError(self._refusal(what, relative, error)) from error
            except OSError as error:
                if pause is None or not self._is_transient(error):
                    raise StorageError(self._refusal(what, relative, error)) from error
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _is_transient(self, error: OSError) -> bool:
        if error.errno in _FULL:
            return False
        if self.is_local:
            return error.errno in _TRANSIENT
        return not any(word in str(error) for word in _PERMANENT)

    def _refusal(self, what: str, relative: str, error: OSError) -> str:
        failure = f"cannot {what} {self.path(relative)}: {error.strerror or error}"
        if error.errno in _FULL:
            return f"{failure}; make room, or set results to a folder with space"
        return f"{failure}; set results to a folder that can be written" if what == "write" else failure
