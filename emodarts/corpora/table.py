"""The utterance table: one row an utterance, and beside it what was dropped and why. Nothing disappears silently."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import soundfile

from emodarts.errors import EmodartsError

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")

UTTERANCES = pa.schema(
    [
        pa.field("utterance", pa.string(), nullable=False),
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("speaker", pa.string()),
        ("recording", pa.string()),
        ("session", pa.string()),
        ("gender", pa.string()),
        ("scenario", pa.string()),
        ("text", pa.string()),
        ("intended", pa.string()),
        ("perceived", pa.string()),
        ("split", pa.string()),
        ("arousal", pa.float32()),
        ("valence", pa.float32()),
        ("dominance", pa.float32()),
        pa.field("sample_rate", pa.int32(), nullable=False),
        pa.field("channels", pa.int32(), nullable=False),
        pa.field("frames", pa.int64(), nullable=False),
    ]
)
DROPPED = pa.schema([pa.field("path", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)])


@dataclass(frozen=True)
class Utterance:
    """What a reader knows of an utterance; the audio's header is read by `build`. Times in seconds."""

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
    """Every audio file below root, hidden ones included, in an order that does not depend on the file system."""
    yield from sorted(p for p in root.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())


def hidden(path: str) -> bool:
    """Whether a path relative to the root is hidden (AppleDouble `._name` files, bins), itself or by a folder."""
    return any(part.startswith(".") for part in path.split("/"))


def build(name: str, root: Path, rows: Iterable[Utterance | Dropped], looked_for: str) -> Corpus:
    """Read each row's audio header and make the two tables.

    Raises EmodartsError where no row is left (naming what was looked for) or an utterance id occurs twice.
    """
    kept: dict[str, dict[str, object]] = {}
    dropped: list[Dropped] = []
    for row in rows:
        if isinstance(row, Dropped):
            dropped.append(row)
            continue
        header = _header(root / row.path)
        if isinstance(header, str):
            dropped.append(Dropped(row.path, header))
        elif row.utterance in kept:
            raise EmodartsError(
                f"{root}: {row.path} and {kept[row.utterance]['path']} are both utterance {row.utterance}; remove one"
            )
        else:
            kept[row.utterance] = {**asdict(row), "corpus": name, **header}
    if not kept:
        why = (
            f" ({len(dropped)} files were dropped, the first: {dropped[0].path}: {dropped[0].reason})"
            if dropped
            else ""
        )
        raise EmodartsError(f"no utterance of {name} in {root}: looked for {looked_for}{why}")
    return Corpus(
        name,
        root,
        pa.Table.from_pylist([kept[key] for key in sorted(kept)], UTTERANCES),
        dropped_table(dropped),
    )


def dropped_table(rows: Iterable[Dropped]) -> pa.Table:
    """Rows as a table of schema DROPPED, sorted by path."""
    return pa.Table.from_pylist([asdict(row) for row in sorted(rows, key=lambda r: (r.path, r.reason))], DROPPED)


def _header(path: Path) -> dict[str, object] | str:
    """sample_rate (Hz), channels and frames of an audio file, or the reason why it is of no use."""
    if not path.is_file():
        return "the file is missing"
    if path.stat().st_size == 0:
        return "the file is empty"
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError) as error:
        return f"cannot be read as audio: {str(error).rsplit(': ', 1)[-1]}"
    if info.frames == 0:
        return "the file holds no samples"
    return _cut_wav(path) or {"sample_rate": info.samplerate, "channels": info.channels, "frames": info.frames}


def _cut_wav(path: Path) -> str | None:
    """A reason where a WAV is shorter than its RIFF header says (libsndfile shortens it without a word)."""
    with path.open("rb") as file:
        head = file.read(8)
    if len(head) < 8 or head[:4] != b"RIFF":
        return None
    (size,) = struct.unpack("<I", head[4:])
    actual = path.stat().st_size
    if size not in (0, 0xFFFFFFFF) and size + 8 > actual + 1:  # 0 and all ones: written as a stream, size unknown
        return f"the file is cut: its header promises {size + 8} bytes, it has {actual}"
    return None
