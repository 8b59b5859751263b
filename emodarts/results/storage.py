"""Where results lie: any path that pyarrow.fs opens. Files appear whole or not at all."""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from emodarts.errors import EmodartsError

PARTIAL = ".partial-"


class StorageError(EmodartsError):
    """The place of the results cannot be written or read: nothing that a unit could be blamed for."""


@dataclass(frozen=True)
class Storage:
    """A folder on a file system. Paths given to its methods are relative to it, with `/`."""

    filesystem: pafs.FileSystem
    root: str

    @classmethod
    def open(cls, location: str | Path) -> "Storage":
        """Open a local path or a URI (`s3://`, `gs://`, `file://`). Raises EmodartsError for one that cannot be."""
        text = str(location)
        try:
            if "://" in text:
                filesystem, root = pafs.FileSystem.from_uri(text)
                return cls(filesystem, root.rstrip("/"))
            return cls(pafs.LocalFileSystem(), str(Path(text).expanduser().absolute()))
        except (pa.ArrowInvalid, OSError) as error:
            raise EmodartsError(f"results={text} cannot be opened: {error}") from error

    @property
    def is_local(self) -> bool:
        """Whether the files can be renamed and locked as local ones (NFS too)."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def path(self, relative: str) -> str:
        """The full path of a relative one."""
        return f"{self.root}/{relative}" if relative else self.root

    def check_writable(self) -> None:
        """Raise EmodartsError unless files can be written here."""
        probe = f"{PARTIAL}probe-{uuid.uuid4().hex}"
        self.write(probe, b"")
        self.delete(probe)

    def write(self, relative: str, content: bytes) -> None:
        """Write a file: under a temporary name, then renamed; one PUT on object stores. Raises EmodartsError."""
        try:
            if self.is_local:
                self._write_local(Path(self.path(relative)), content)
            else:
                with self.filesystem.open_output_stream(self.path(relative)) as stream:
                    stream.write(content)
        except OSError as error:
            what = error.strerror or str(error)
            raise StorageError(
                f"cannot write {self.path(relative)}: {what}; set results to a folder with space"
            ) from error

    @staticmethod
    def _write_local(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{PARTIAL}{uuid.uuid4().hex}"
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, relative: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""
        with self.filesystem.open_input_stream(self.path(relative)) as stream:
            return stream.read()

    def exists(self, relative: str) -> bool:
        """Whether there is such a file or folder."""
        return self.filesystem.get_file_info(self.path(relative)).type != pafs.FileType.NotFound

    def delete(self, relative: str) -> None:
        """Delete a file."""
        self.filesystem.delete_file(self.path(relative))

    def list(self, relative: str, suffix: str = "") -> list[str]:
        """Names in a folder (sorted; none where it does not exist), temporary files left out."""
        selector = pafs.FileSelector(self.path(relative), allow_not_found=True)
        try:
            names = [info.base_name for info in self.filesystem.get_file_info(selector)]
        except NotADirectoryError as error:
            raise EmodartsError(f"{self.path(relative)} is a file, not a folder of results") from error
        return sorted(name for name in names if name.endswith(suffix) and not name.startswith(PARTIAL))
