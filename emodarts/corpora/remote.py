"""Corpora on object storage: mirrored into the cache file by file, and read from there."""

import hashlib
import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs as pafs

from emodarts.errors import EmodartsError
from emodarts.files import atomic_write, file_lock

logger = logging.getLogger(__name__)
_COPIERS = 8  # files at once
_BLOCK = 1 << 20


def is_remote(root: str) -> bool:
    """Whether a root is a URI (`s3://`, `gs://`), not a folder."""
    return "://" in root


def below(root: str, name: str) -> str:
    """The URI of a folder below a URI; options behind `?` stay behind."""
    parts = urlsplit(root)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def mirror(root: str, cache: Path) -> Path:
    """A local copy of a corpus's folder. Only what is new or has changed (size, time) is fetched; what is gone goes.

    How much is to be fetched is logged before it is.

    Each file appears whole or not at all; an interrupted mirror goes on, and of two processes the second waits. A
    `file://` folder is read where it is. Raises EmodartsError.
    """
    shown = without_secrets(root)
    try:
        filesystem, base = _opened(root)
        if isinstance(filesystem, pafs.LocalFileSystem):
            return Path(base)
        infos = filesystem.get_file_info(pafs.FileSelector(base, recursive=True, allow_not_found=True))
    except (OSError, pa.ArrowInvalid) as error:
        raise EmodartsError(
            f"the corpus at {shown} cannot be read ({error}): set corpus.root or EMODARTS_CORPORA"
        ) from error
    files = {info.path[len(base) :].lstrip("/"): info for info in infos if info.type == pafs.FileType.File}
    if not files:
        raise EmodartsError(f"there are no files at {shown}: set corpus.root or EMODARTS_CORPORA")
    for name in files:
        if ".." in PurePosixPath(name).parts:
            raise EmodartsError(f"{shown} holds {name}, which would lie outside of its folder: rename it there")
    folder = cache / "mirrors" / f"{Path(base).name}-{hashlib.sha256(shown.encode()).hexdigest()[:8]}"
    try:
        with file_lock(folder):
            missing = _outdated(files, folder)
            if missing:
                size = sum(files[name].size for name in missing) / 1e9
                logger.info(f"{shown}: {len(missing)} of {len(files)} files ({size:.2f} GB) to copy to {folder}")
            _fetch_all(filesystem, [(files[name], folder / name) for name in missing])
    except OSError as error:
        raise EmodartsError(
            f"the corpus at {shown} cannot be copied to {folder} ({error}); what is there is kept: run again, or set "
            "EMODARTS_CACHE to a folder with more room"
        ) from error
    return folder


def _opened(root: str) -> tuple[pafs.FileSystem, str]:
    filesystem, base = pafs.FileSystem.from_uri(root)
    return filesystem, base.rstrip("/")


def _outdated(files: dict[str, pafs.FileInfo], folder: Path) -> list[str]:
    """Delete what is gone from the source; the names of what is to be fetched."""
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        if path.relative_to(folder).as_posix() not in files:
            path.unlink(missing_ok=True)
    return [name for name, info in files.items() if not _is_same(folder / name, info)]


def _fetch_all(filesystem: pafs.FileSystem, files: list[tuple[pafs.FileInfo, Path]]) -> None:
    with ThreadPoolExecutor(_COPIERS) as pool:
        for _ in pool.map(lambda file: _fetch(filesystem, *file), files):
            pass  # the first error ends it


def _is_same(path: Path, info: pafs.FileInfo) -> bool:
    try:
        state = path.stat()
    except OSError:
        return False
    return state.st_size == info.size and state.st_mtime_ns // 1000 == info.mtime_ns // 1000


def _fetch(filesystem: pafs.FileSystem, info: pafs.FileInfo, path: Path) -> None:
    with atomic_write(path) as temporary:
        # As it is: by itself the stream would unpack a .gz file.
        with filesystem.open_input_stream(info.path, compression=None) as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target, _BLOCK)
        if (size := temporary.stat().st_size) != info.size:
            raise OSError(f"{info.path}: {size} bytes of {info.size} came")
        os.utime(temporary, ns=(info.mtime_ns, info.mtime_ns))


def without_secrets(root: str) -> str:
    """A URI without user, password and options."""
    parts = urlsplit(root)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
