"""The files of a feature store: shards of frames, and the index that says where each utterance stands.

All are Arrow IPC files of one record batch, so that a memory map of a file is already the table.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emodarts.corpora.table import Dropped
from emodarts.errors import EmodartsError
from emodarts.features.measures import MEASURES
from emodarts.files import atomic_write

SCHEMA_VERSION = 3  # of emodarts 0.2.0; 0.1.0 wrote version 2
INDEX, STORE_JSON, PLAN = "index.arrow", "store.json", "plan.arrow"


@dataclass(frozen=True)
class Extracted:
    """An utterance's measures (with `utterance`) and float16 frames `(time, channels * bins)`, one array a variant."""

    measures: dict[str, float | str]
    frames: Sequence[NDArray[np.float16]]


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.arrow"


def write_table(path: Path, batch: pa.RecordBatch) -> None:
    """Write a file of one record batch."""
    with (
        atomic_write(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, batch.schema) as writer,
    ):
        writer.write_batch(batch)


def map_table(path: Path) -> pa.RecordBatch:
    """The record batch of a file, memory-mapped. Raises EmodartsError where the file is missing, torn or foreign."""
    try:
        # The mapping outlives the descriptor: a store of thousands of shards holds no file open.
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            if file.num_record_batches != 1:
                raise EmodartsError(f"{path}: {file.num_record_batches} record batches, not 1")
            batch = file.get_batch(0)
    except (OSError, pa.ArrowInvalid) as error:
        raise EmodartsError(f"{path} cannot be read ({error}); run `emodarts features` again to mend it") from error
    check_version((batch.schema.metadata or {}).get(b"schema_version", b"none").decode(), path)
    return batch


def check_version(version: object, path: Path) -> None:
    """Refuse (EmodartsError) a store, or a file of one, of another schema version; say which program reads it."""
    if str(version) != str(SCHEMA_VERSION):
        program = "emodarts 0.1.0" if str(version) in ("1", "2") else "the version of emodarts that wrote it"
        raise EmodartsError(
            f"{path} has schema version {version}, not {SCHEMA_VERSION}: {program} reads it; delete the store's folder "
            "and run again"
        )


def write_shard(path: Path, rows: Sequence[Extracted], dropped: Sequence[Dropped], variants: int) -> None:
    """Write a shard: each row's measures, frames a variant, and values of all its variants one after the other."""
    counts = np.array([[len(x) for x in row.frames] for row in rows], np.int32).reshape(len(rows), variants)
    sizes = [sum(x.size for x in row.frames) for row in rows]
    parts = [x.reshape(-1) for row in rows for x in row.frames]
    values = np.concatenate(parts) if parts else np.empty(0, np.float16)
    columns = {
        **_measure_columns(rows),
        "frames": _fixed(counts, pa.int32()),
        "values": pa.LargeListArray.from_arrays(pa.array(np.cumsum([0, *sizes]), pa.int64()), pa.array(values)),
    }
    metadata = {"schema_version": str(SCHEMA_VERSION), "dropped": json.dumps([asdict(row) for row in dropped])}
    write_table(path, pa.RecordBatch.from_pydict(columns).replace_schema_metadata(metadata))


def shard_values(shard: pa.RecordBatch) -> NDArray[np.float16]:
    """All values of a shard, a view of its memory map."""
    values: NDArray[np.float16] = shard.column("values").values.to_numpy(zero_copy_only=True)
    return values


def shard_dropped(shard: pa.RecordBatch) -> list[Dropped]:
    """What could not be used of a shard's recordings."""
    return [Dropped(**row) for row in json.loads(shard.schema.metadata[b"dropped"])]


def index_rows(number: int, shard: pa.RecordBatch, width: int) -> pa.RecordBatch:
    """A shard's rows of the index: measures, shard, and first element and number of frames of each variant."""
    frames = matrix(shard.column("frames"))
    starts = shard.column("values").offsets.to_numpy()[:-1].reshape(-1, 1)
    before = np.cumsum(frames, 1, dtype=np.int64) - frames
    columns: dict[str, Any] = {name: shard.column(name) for name in MEASURES.names}
    columns["shard"] = pa.array(np.full(len(frames), number, np.int32))
    columns["first"] = _fixed(starts + before * width, pa.int64())
    columns["frames"] = shard.column("frames")
    return pa.RecordBatch.from_pydict(columns)


def write_index(path: Path, rows: Sequence[pa.RecordBatch]) -> int:
    """Write the rows of all shards, sorted by utterance; their number."""
    table = pa.Table.from_batches(rows).sort_by("utterance").combine_chunks()
    batch = table.to_batches()[0] if table.num_rows else rows[0]
    write_table(path, batch.replace_schema_metadata({"schema_version": str(SCHEMA_VERSION)}))
    return table.num_rows


def matrix(column: pa.FixedSizeListArray) -> NDArray[Any]:
    """A fixed-size list column as `(rows, size)`, a view of its memory map."""
    values: NDArray[Any] = column.values.to_numpy(zero_copy_only=True)
    return values.reshape(len(column), column.type.list_size)


def format_bytes(size: float) -> str:
    """Bytes in words: 1.2 GB."""
    for unit in ("bytes", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit in ("bytes", "kB") or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _measure_columns(rows: Sequence[Extracted]) -> dict[str, pa.Array]:
    return {field.name: pa.array([row.measures[field.name] for row in rows], field.type) for field in MEASURES}


def _fixed(values: NDArray[Any], kind: pa.DataType) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind), values.shape[1])
