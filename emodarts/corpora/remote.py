"""Corpora on object storage: mirrored into the cache file by file, and read from there."""

import hashlib
import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs as pafs

from emodarts.errors import EmodartsError

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

    Each file appears whole or not at all; an interrupted mirror goes on. Raises EmodartsError.
    """
    shown = _without_secrets(root)
    try:
        filesystem, base = pafs.FileSystem.from_uri(root)
        found = filesystem.get_file_info(pafs.FileSelector(base, recursive=True, allow_not_found=True))
    except (OSError, pa.ArrowInvalid) as error:
        raise EmodartsError(
            f"the corpus at {shown} cannot be read ({error}): set corpus.root or EMODARTS_CORPORA"
        ) from error
    files = {info.path[len(base) :].lstrip("/"): info for info in found if info.type == pafs.FileType.File}
    if not files:
        raise EmodartsError(f"there are no files at {shown}: set corpus.root or EMODARTS_CORPORA")
    folder = cache / "mirrors" / f"{Path(base).name}-{hashlib.sha256(shown.encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        if path.relative_to(folder).as_posix() not in files:
            path.unlink(missing_ok=True)
    missing = [name for name, info in files.items() if not _is_same(folder / name, info)]
    try:
        with ThreadPoolExecutor(_COPIERS) as pool:
            list(pool.map(lambda name: _fetch(filesystem, files[name], folder / name), missing))
    except OSError as error:
        raise EmodartsError(f"the corpus at {shown} cannot be copied to {folder}: {error}") from error
    return folder


def _is_same(path: Path, info: pafs.FileInfo) -> bool:
    try:
        state = path.stat()
    except OSError:
        return False
    return state.st_size == info.size and state.st_mtime_ns // 1000 == info.mtime_ns // 1000


def _fetch(filesystem: pafs.FileSystem, info: pafs.FileInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with filesystem.open_input_stream(info.path) as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target, _BLOCK)
        os.utime(temporary, ns=(info.mtime_ns, info.mtime_ns))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _without_secrets(root: str) -> str:
    parts = urlsplit(root)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
