"""The feature store: a folder of Arrow IPC shards, complete when `store.json` is there, opened by memory map.

All workers of a node share one copy in the page cache. An interrupted build goes on with the shards that are missing.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emodarts.corpora.table import Dropped
from emodarts.errors import EmodartsError
from emodarts.features.audio import UnusableAudio, at_speed, decode, fingerprint, prepare
from emodarts.features.settings import FeatureSettings

SCHEMA_VERSION = 1
SHARD = 128  # utterances a shard
_SHARDS = pa.schema(
    [
        ("utterance", pa.string()),
        ("speed", pa.float32()),
        ("frames", pa.int32()),
        ("audio_hash", pa.string()),
        ("values", pa.large_list(pa.float16())),
    ]
)
Progress = Callable[[int, int], None]  # utterances done, of so many


@dataclass(frozen=True)
class Store:
    """An opened store. Frames are read straight from the memory map."""

    folder: Path
    bins: int
    channels: int
    dropped: tuple[Dropped, ...]

    @cached_property
    def _shards(self) -> list[pa.Table]:
        files = sorted(self.folder.glob("shard-*.arrow"))
        return [pa.ipc.open_file(pa.memory_map(str(file))).read_all().combine_chunks() for file in files]

    @cached_property
    def _index(self) -> dict[tuple[str, float], tuple[int, int]]:
        index = {}
        for number, shard in enumerate(self._shards):
            keys = zip(shard["utterance"].to_pylist(), shard["speed"].to_pylist(), strict=True)
            index.update({(utterance, round(speed, 3)): (number, row) for row, (utterance, speed) in enumerate(keys)})
        return index

    @property
    def utterances(self) -> set[str]:
        """The ids of the utterances that have features."""
        return {utterance for utterance, _ in self._index}

    def frames(self, utterance: str, speed: float = 1.0) -> NDArray[np.float16]:
        """float16 frames `(time, channels * bins)` of an utterance at one of the built speeds. Raises EmodartsError."""
        try:
            shard, row = self._index[utterance, round(speed, 3)]
        except KeyError:
            raise EmodartsError(
                f"{self.folder}: no features of {utterance} at speed {speed}; build the store again"
            ) from None
        values: NDArray[np.float16] = self._shards[shard]["values"][row].values.to_numpy(zero_copy_only=True)
        return values.reshape(-1, self.channels * self.bins)


def open_store(folder: Path) -> Store:
    """Open a complete store. Raises EmodartsError for a missing, unfinished or other-version one."""
    try:
        about = json.loads((folder / "store.json").read_text())
    except (OSError, ValueError) as error:
        raise EmodartsError(f"{folder} is no complete feature store ({error}); delete it and run again") from error
    if about.get("schema_version") != SCHEMA_VERSION:
        raise EmodartsError(
            f"{folder} has schema version {about.get('schema_version')}, not {SCHEMA_VERSION}; delete it"
        )
    return Store(folder, about["bins"], about["channels"], tuple(Dropped(**row) for row in about["dropped"]))


def build(
    utterances: pa.Table,
    root: Path,
    settings: FeatureSettings,
    cache: Path,
    device: str = "cpu",
    threads: int = 2,
    progress: Progress | None = None,
) -> Store:
    """The store of these utterances (schema UTTERANCES), built below `cache` unless it is there.

    The key covers the settings and each audio file's path, size and time. Several processes may ask at once: one
    builds, the others wait. Recordings that cannot be used are in `Store.dropped`.
    """
    rows = utterances.select(["utterance", "path", "start", "end"]).to_pylist()
    folder = cache / f"features-{_key(rows, root, settings)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / "build.lock"):
            if not (folder / "store.json").exists():
                _build(rows, root, settings, folder, device, threads, progress or (lambda done, total: None))
    except OSError as error:
        raise EmodartsError(
            f"cannot write features to {folder}: {error}; set EMODARTS_CACHE to a folder with space"
        ) from error
    return open_store(folder)


def _key(rows: list[dict[str, Any]], root: Path, settings: FeatureSettings) -> str:
    files = []
    for row in rows:
        stat = (root / row["path"]).stat()
        files.append([row["utterance"], row["path"], row["start"], row["end"], stat.st_size, stat.st_mtime_ns])
    content = json.dumps([SCHEMA_VERSION, str(root), asdict(settings), files])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released by the system if this process dies
        yield


def _build(
    rows: list[dict[str, Any]],
    root: Path,
    settings: FeatureSettings,
    folder: Path,
    device: str,
    threads: int,
    progress: Progress,
) -> None:
    from emodarts.features.spectra import Spectra  # torchaudio takes seconds to import; a store that exists needs none

    spectra = Spectra(settings).to(device)
    dropped: list[dict[str, str]] = []
    with ThreadPoolExecutor(threads) as pool:  # decoding and resampling release the interpreter's lock
        for number, first in enumerate(range(0, len(rows), SHARD)):
            path = folder / f"shard-{number:05d}.arrow"
            if not path.exists():
                _write_shard(path, rows[first : first + SHARD], root, settings, spectra, device, pool)
            with pa.memory_map(str(path)) as source:
                dropped += json.loads(pa.ipc.open_file(source).schema.metadata[b"dropped"])
            progress(min(first + SHARD, len(rows)), len(rows))
    about = {
        "schema_version": SCHEMA_VERSION,
        "settings": asdict(settings),
        "bins": spectra.bins,
        "channels": spectra.channels,
        "dropped": dropped,
    }
    _replace(folder / "store.json", json.dumps(about, indent=1).encode())


def _write_shard(
    path: Path,
    rows: list[dict[str, Any]],
    root: Path,
    settings: FeatureSettings,
    spectra: Any,
    device: str,
    pool: ThreadPoolExecutor,
) -> None:
    loaded = list(pool.map(lambda row: _load(root, row, settings), rows))
    dropped = [asdict(item) for item in loaded if isinstance(item, Dropped)]
    copies = [copy for item in loaded if not isinstance(item, Dropped) for copy in item]
    order = sorted(range(len(copies)), key=lambda i: len(copies[i][3]))
    frames: dict[int, Any] = {}
    for first in range(0, len(order), 32):
        batch = order[first : first + 32]
        frames.update(zip(batch, spectra([copies[i][3] for i in batch], device), strict=True))
    arrays = [frames[i].numpy().astype(np.float16) for i in range(len(copies))]
    offsets = np.cumsum([0, *(a.size for a in arrays)])
    flat = np.concatenate([a.reshape(-1) for a in arrays]) if arrays else np.empty(0, np.float16)
    columns = [
        pa.array([c[0] for c in copies], pa.string()),
        pa.array([c[1] for c in copies], pa.float32()),
        pa.array([len(a) for a in arrays], pa.int32()),
        pa.array([c[2] for c in copies], pa.string()),
        pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(flat)),
    ]
    schema = _SHARDS.with_metadata({"schema_version": str(SCHEMA_VERSION), "dropped": json.dumps(dropped)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    _replace(path, sink.getvalue().to_pybytes())


def _load(root: Path, row: dict[str, Any], settings: FeatureSettings) -> list[tuple[str, float, str, Any]] | Dropped:
    """(utterance, speed, hash of the decoded audio, samples) for each speed, or the reason why there is none."""
    try:
        samples, rate = decode(root / row["path"], row["start"], row["end"])
        mark = fingerprint(samples)
        sound = prepare(samples, rate, settings)
    except UnusableAudio as reason:
        return Dropped(row["path"], str(reason))
    return [(row["utterance"], s, mark, at_speed(sound, rate, settings.sample_rate, s)) for s in settings.speeds]


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".partial")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
