"""What is to be built: the recordings as they lie on the disk, their shards, the store's key and its size."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from emodarts.errors import EmodartsError
from emodarts.features.audio import UNKNOWN_LENGTH
from emodarts.features.extractors.extractor import extractor_identity, frame_shape, with_layers
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.files import PLAN, SCHEMA_VERSION, map_table, write_table

# A shard is what a kill can cost, and what one process takes at a time. With 32 rows two processes end together also on
# EmoDB's 535 files (17 shards), and larger corpora have at least 32 shards; 512 utterances or 64 MB bound the work that
# can be lost, and the memory of a process.
SHARDS = 32
SMALLEST_SHARD, LARGEST_SHARD, SHARD_BYTES = 32, 512, 64 << 20
_ASSUMED_SECONDS = 60.0  # of a file that does not say how long it is, for the size
_ROW_BYTES = 96  # of an utterance's measures and places


@dataclass(frozen=True)
class ExtractionPlan:
    """The recordings of a store, in the order of the utterance table, and how they are cut into shards.

    `rows`: utterance, path, start, end (s), sample_rate, frames, and size (bytes) and time (ns) of the file, -1 where
    it is gone.
    """

    rows: pa.Table
    root: Path
    settings: FeatureSettings
    corpus: str
    identity: str  # of an encoder's weights
    rows_per_shard: int

    @classmethod
    def of(
        cls, utterances: pa.Table, root: Path, settings: FeatureSettings, rows_per_shard: int | None = None
    ) -> "ExtractionPlan":
        """The plan of these utterances (schema UTTERANCES). Raises EmodartsError where an id occurs twice."""
        rows = utterances.select(["utterance", "path", "start", "end", "sample_rate", "frames"]).combine_chunks()
        if pc.count_distinct(rows["utterance"]).as_py() != rows.num_rows:
            raise EmodartsError(f"{root}: some utterance ids occur twice; features are kept by id")
        if rows.num_rows == 0:
            raise EmodartsError(f"{root}: no utterances to extract features of")
        settings = with_layers(settings)
        sizes, times = _stat(root, rows["path"].to_pylist())
        rows = rows.append_column("size", pa.array(sizes)).append_column("time", pa.array(times))
        corpus = "+".join(sorted(pc.unique(utterances["corpus"]).to_pylist()))
        per_shard = rows_per_shard or _rows_per_shard(estimate_bytes(utterances, settings), rows.num_rows)
        rows = rows.replace_schema_metadata(None)
        return cls(rows, root, settings, corpus, extractor_identity(settings), per_shard)

    @cached_property
    def name(self) -> str:
        """The name of the store's folder: corpus, kind, and a key of everything that the frames depend on."""
        key = [SCHEMA_VERSION, self.identity, str(self.root), self._content()]
        mark = hashlib.sha256(json.dumps(key, sort_keys=True).encode())
        for name in ("utterance", "path"):
            mark.update("\0".join(self.rows[name].to_pylist()).encode())
        for name in ("start", "end", "size", "time"):
            mark.update(self.rows[name].fill_null(-1).to_numpy().tobytes())
        return f"{self.corpus}-{self.settings.kind}-{mark.hexdigest()[:16]}"

    @property
    def shards(self) -> int:
        """The number of shards."""
        return -(-self.rows.num_rows // self.rows_per_shard)

    def shard(self, number: int) -> list[dict[str, Any]]:
        """The rows of a shard."""
        rows: list[dict[str, Any]] = self.rows.slice(number * self.rows_per_shard, self.rows_per_shard).to_pylist()
        return rows

    def shard_rows(self, number: int) -> int:
        """How many rows a shard has."""
        return min(self.rows_per_shard, self.rows.num_rows - number * self.rows_per_shard)

    @cached_property
    def seconds(self) -> float:
        """Seconds of sound."""
        return float(seconds_of(self.rows).sum())

    @property
    def size(self) -> int:
        """Bytes of the store, at most."""
        return estimate_bytes(self.rows, self.settings)

    def write(self, folder: Path) -> None:
        """Write the plan into the store's folder, where the worker processes read it."""
        description = {**self._content(), "root": str(self.root), "corpus": self.corpus, "identity": self.identity}
        description["settings"] = asdict(self.settings)
        metadata = {"schema_version": str(SCHEMA_VERSION), "about": json.dumps(description)}
        write_table(folder / PLAN, self.rows.to_batches()[0].replace_schema_metadata(metadata))

    @classmethod
    def read(cls, folder: Path) -> "ExtractionPlan":
        """The plan in a store's folder. Raises EmodartsError."""
        batch = map_table(folder / PLAN)
        description = json.loads(batch.schema.metadata[b"about"])
        rows = pa.Table.from_batches([batch]).replace_schema_metadata(None)
        corpus, identity, rows_per_shard = (description[name] for name in ("corpus", "identity", "rows_per_shard"))
        settings = FeatureSettings(**description["settings"])
        return cls(rows, Path(description["root"]), settings, corpus, identity, rows_per_shard)

    def _content(self) -> dict[str, Any]:
        """What frames depend on, in a form that is the same for 1 and 1.0, and for a checkpoint wherever it lies."""
        settings = {
            k: float(v) if k.endswith(("_ms", "_db", "_floor")) and isinstance(v, int) else v
            for k, v in self.settings.content.items()
        }
        variants = [[float(v.speed), None if v.snr_db is None else float(v.snr_db)] for v in self.settings.variants]
        return {"settings": settings, "variants": variants, "rows_per_shard": self.rows_per_shard}


def estimate_bytes(utterances: pa.Table, settings: FeatureSettings) -> int:
    """Bytes of the store of these utterances, at most: before silence is trimmed, all variants, with the index."""
    bins, channels = frame_shape(settings)
    seconds = seconds_of(utterances)
    # Two frames more than the time holds: one at its end, and one for a sample that resampling may add.
    frames = [np.ceil(seconds / v.speed * settings.frame_rate) + 2 for v in settings.variants]
    values = float(np.sum(frames)) * bins * channels * 2
    texts = sum(pc.sum(pc.binary_length(utterances[name])).as_py() for name in ("utterance", "utterance", "path"))
    rows = 2 * (texts + utterances.num_rows * (_ROW_BYTES + 12 * len(settings.variants)))  # plan, shards and index
    return int(values) + rows + 4096 * (3 + utterances.num_rows // SMALLEST_SHARD)


def seconds_of(rows: pa.Table) -> NDArray[np.float64]:
    """Length of each utterance by the files' headers and its start and end."""
    frames = rows["frames"].to_numpy().astype(np.float64)
    whole = np.where(frames < UNKNOWN_LENGTH, frames / rows["sample_rate"].to_numpy(), _ASSUMED_SECONDS)
    start = rows["start"].fill_null(0.0).to_numpy()
    end = rows["end"].fill_null(np.inf).to_numpy()
    length: NDArray[np.float64] = np.maximum(np.minimum(end, whole) - start, 0.0)
    return length


def _rows_per_shard(size: int, rows: int) -> int:
    wanted = min(LARGEST_SHARD, max(SMALLEST_SHARD, rows // SHARDS))
    return max(1, min(wanted, SHARD_BYTES * rows // max(size, 1)))


def _stat(root: Path, paths: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Size (bytes) and time (ns) of each file, -1 where there is none."""

    def look(path: str) -> tuple[int, int]:
        try:
            state = os.stat(os.path.join(folder, path))
        except OSError:
            return -1, -1
        return state.st_size, state.st_mtime_ns

    folder = str(root)
    with ThreadPoolExecutor(16) as pool:  # waits for a server; a local disk is fast either way
        step = 1024
        chunks = pool.map(lambda i: [look(p) for p in paths[i : i + step]], range(0, len(paths), step))
        stats = np.array([pair for chunk in chunks for pair in chunk], np.int64).reshape(-1, 2)
    return np.ascontiguousarray(stats[:, 0]), np.ascontiguousarray(stats[:, 1])
