"""The utterance table: one row an utterance, and beside it what was dropped and why. Nothing disappears silently."""

import filecmp
import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile

from emodarts.corpora.headers import Header, read_header
from emodarts.errors import EmodartsError

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
_CHUNK = 4096
_BEYOND = 1.0  # s: how far an end may lie behind the end of the file; times are often rounded
_CLOCK = re.compile(r"(?:(\d+) days? )?(?:(\d+):)?(\d+):(\d+(?:\.\d*)?)")


def _columns(names: str, kind: pa.DataType, nullable: bool = True) -> list[pa.Field]:
    """Columns of one type, by their names between spaces."""
    return [pa.field(name, kind, nullable) for name in names.split()]


UTTERANCES = pa.schema(
    [
        *_columns("utterance corpus path", pa.string(), nullable=False),
        *_columns("start end", pa.float64()),
        *_columns("speaker recording session gender scenario text intended perceived split", pa.string()),
        *_columns("arousal valence dominance", pa.float32()),
        *_columns("sample_rate channels", pa.int32(), nullable=False),
        *_columns("frames", pa.int64(), nullable=False),
    ]
)
DROPPED = pa.schema(_columns("path reason", pa.string(), nullable=False))


@dataclass(frozen=True)
class Utterance:
    """What a reader knows of an utterance; the audio's header is read by `build_corpus`. Times in seconds."""

    utterance: str
    path: str
    speaker: str | None
    intended: str | None = None
    perceived: str | None = None
    start: float | None = None
    end: float | None = None
    recording: str | None = None
    session: str | None = None
    gender: str | None = None
    scenario: str | None = None
    text: str | None = None
    split: str | None = None
    arousal: float | None = None
    valence: float | None = None
    dominance: float | None = None


@dataclass(frozen=True)
class Dropped:
    """Something on disk (path relative to the root) that did not become a row, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """A corpus as read: `utterances` (schema UTTERANCES, sorted by id) and `dropped` (schema DROPPED)."""

    name: str
    root: Path
    utterances: pa.Table
    dropped: pa.Table


def audio_files(root: Path) -> Iterator[Path]:
    """Every audio file below root, hidden ones included, as `files_below` finds them."""
    return files_below(root, lambda name: name.lower().endswith(AUDIO_SUFFIXES))


def files_below(root: Path, is_included: Callable[[str], bool]) -> Iterator[Path]:
    """The files below root whose names are included, in an order that does not depend on the file system.

    Links to folders outside of root are followed once; links that lead nowhere count as (missing) files. Raises
    EmodartsError for a folder that cannot be read, unless it is hidden.
    """
    paths: list[Path] = []
    inside = os.path.realpath(root)
    followed = [inside]
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_unreadable):
        folders.sort()
        for name in list(folders):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                real = os.path.realpath(path)
                if any(_within(real, known) or _within(known, real) for known in followed):
                    folders.remove(name)  # a loop, or a folder that has been or will be seen under its own name
                else:
                    followed.append(real)
        paths += [Path(folder, name) for name in files if is_included(name)]
    yield from sorted(paths)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _unreadable(error: OSError) -> None:
    if not os.path.basename(error.filename).startswith("."):
        raise EmodartsError(f"the folder {error.filename} cannot be read: {error.strerror}; allow it, or remove it")


def is_hidden(path: str) -> bool:
    """Whether a path relative to the root is hidden (AppleDouble `._name` files, bins), itself or by a folder."""
    return any(part.startswith(".") for part in path.split("/"))


def rows_of_files(root: Path, read_name: Callable[[Path, str], Utterance | str]) -> Iterator[Utterance | Dropped]:
    """A row or a drop for every audio file below root, told apart by name.

    `read_name(file, path)` gives the utterance of a file, or the reason why it is none; `path` is relative to root.
    """
    for file in audio_files(root):
        path = file.relative_to(root).as_posix()
        row = "a hidden file or folder" if is_hidden(path) else read_name(file, path)
        yield Dropped(path, row) if isinstance(row, str) else row


def drop_copies(root: Path, rows: Iterable[Utterance | Dropped]) -> Iterator[Utterance | Dropped]:
    """The same rows with one file an utterance: the other copies are dropped, saying how they differ.

    The copy that stays has a sound header, then a lossless format, then the shallowest and first path.
    """
    copies: dict[str, list[Utterance]] = defaultdict(list)
    for row in rows:
        if isinstance(row, Dropped):
            yield row
        else:
            copies[row.utterance].append(row)
    for same in copies.values():
        if len(same) == 1:
            yield same[0]
            continue
        headers = {row.path: _header(root, row) for row in same}
        best = min(same, key=lambda row: _preference(row.path, headers[row.path]))
        yield best
        for row in same:
            if row is not best:
                yield Dropped(row.path, _difference(root, best.path, row.path, headers))


def _preference(path: str, header: Header | str) -> tuple[bool, int, int, str]:
    return isinstance(header, str), AUDIO_SUFFIXES.index(Path(path).suffix.lower()), path.count("/"), path


def _difference(root: Path, best: str, path: str, headers: dict[str, Header | str]) -> str:
    """How a second copy of an utterance relates to the one that stays."""
    first, second = headers[best], headers[path]
    if isinstance(second, str):
        return second
    differs = f"has the name of {best}, but differing content"
    if first != second:
        return f"{differs} ({second.sample_rate} Hz, {second.channels} channels, {second.frames} frames)"
    if filecmp.cmp(root / best, root / path, shallow=False):
        return f"a copy of {best}"
    try:
        sounds = [soundfile.read(str(root / name), dtype="float32")[0] for name in (best, path)]
    except (soundfile.LibsndfileError, RuntimeError):
        return f"{differs}: it cannot be decoded"
    return f"a copy of {best}" if np.array_equal(*sounds) else differs


def parse_seconds(value: object) -> float | None:
    """A point in time: a number of seconds, `[<days> days ]HH:MM:SS[.f]`, or a timedelta; None for none.

    Raises ValueError for what is no point in time, or lies before 0.
    """
    if value is None or value == "":
        return None
    if isinstance(value, timedelta):
        time = value.total_seconds()
    elif match := _CLOCK.fullmatch(str(value).strip()):
        days, hours, minutes, rest = (float(part or 0) for part in match.groups())
        if rest >= 60 or (match[2] and minutes >= 60):
            raise ValueError(value)
        time = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    else:
        time = float(str(value))
    if not (math.isfinite(time) and time >= 0):
        raise ValueError(value)
    return time


def build_corpus(name: str, root: Path, rows: Iterable[Utterance | Dropped], looked_for: str) -> Corpus:
    """Read each row's audio header and make the two tables; rows stream through in chunks of `_CHUNK`.

    Raises EmodartsError where no row is left (naming what was looked for) or an utterance id occurs twice.
    """
    paths: dict[str, str] = {}
    dropped: list[Dropped] = []
    chunks: list[pa.Table] = [UTTERANCES.empty_table()]
    stream = iter(rows)
    with ThreadPoolExecutor(8) as pool:  # waits for the disk, or for a server
        while chunk := list(islice(stream, _CHUNK)):
            dropped += [row for row in chunk if isinstance(row, Dropped)]
            utterances = [row for row in chunk if isinstance(row, Utterance)]
            rows_with_header = []
            for row, header in zip(utterances, pool.map(lambda row: _header(root, row), utterances), strict=True):
                if isinstance(header, str):
                    dropped.append(Dropped(row.path, header))
                    continue
                if row.utterance in paths:
                    raise EmodartsError(
                        f"{root}: {row.path} and {paths[row.utterance]} are both utterance {row.utterance}; remove one"
                    )
                paths[row.utterance] = row.path
                rows_with_header.append({**vars(row), "corpus": name, **vars(header)})
            chunks.append(pa.Table.from_pylist(rows_with_header, UTTERANCES))
    if not paths:
        first = f", the first: {_printable(dropped[0].path)}: {dropped[0].reason}" if dropped else ""
        why = f" ({len(dropped)} files were dropped{first})" if dropped else ""
        raise EmodartsError(f"no utterance of {name} in {root}: looked for {looked_for}{why}")
    table = pa.concat_tables(chunks).sort_by("utterance").combine_chunks()
    return Corpus(name, root, table, dropped_table(dropped))


def dropped_table(rows: Iterable[Dropped]) -> pa.Table:
    """Rows as a table of schema DROPPED, sorted by path; bytes of a path that are no UTF-8 are shown as \\xNN."""
    pairs = sorted((_printable(row.path), row.reason) for row in rows)
    return pa.Table.from_pylist([{"path": path, "reason": reason} for path, reason in pairs], DROPPED)


def _printable(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _header(root: Path, row: Utterance) -> Header | str:
    """The header of a row's file, or the reason why the row is of no use."""
    if _printable(row.path) != row.path:
        return "its name is not UTF-8: rename it"
    header = read_header(root / row.path)
    return header if isinstance(header, str) else _outside(row, header.frames / header.sample_rate) or header


def _outside(row: Utterance, length: float) -> str | None:
    """What is wrong with start and end in a file of this length (s): milliseconds taken for seconds, for example."""
    for name, time, last in (("start", row.start, length), ("end", row.end, length + _BEYOND)):
        if time is not None and time >= last:
            return f"its {name} of {time:g} s lies behind the end of the file at {length:.2f} s: times are in seconds"
    return None
