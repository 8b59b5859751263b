"""Compaction: the many small files of a finished sweep become one large file a table, and a reader takes seconds.

The new files are complete before `compact.json` names them; from then on they count, and the small ones are deleted. A
sweep may go on afterwards: what it adds stands in small files again, until the next compaction.
"""

import uuid
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from emodarts.errors import EmodartsError
from emodarts.results.commit_log import LOG
from emodarts.results.compacted_files import COMMITS, FOLDER, CompactedFiles, commits_table
from emodarts.results.lease import Lease
from emodarts.results.reader import SweepTables
from emodarts.results.schemas import TABLES, versioned_schema
from emodarts.storage import Storage

_ROWS = 1 << 17  # of a row group


def compact(storage: Storage, sweep: str) -> int:
    """Compact a finished sweep; how many small files were replaced.

    Raises EmodartsError where a driver works on the sweep, and where configurations are not at their end.
    """
    with Lease(storage, sweep):
        tables = SweepTables(storage, sweep)
        running = tables.table("trials", ["status"])["status"].to_pylist().count("running")
        if running:
            raise EmodartsError(
                f"sweep '{sweep}' has {running} configurations that are not at their end: run it to its end first"
            )
        compacted = CompactedFiles.named(sweep, uuid.uuid4().hex[:8])
        for name, path in compacted.files.items():
            _write(storage, path, versioned_schema(name), tables.read_pieces(name, with_inner=True))
        _write(storage, compacted.commits, COMMITS, [commits_table(tables.commits)])
        compacted.save(storage, sweep)
        return _delete_replaced(storage, sweep, {*compacted.files.values(), compacted.commits})


def _write(storage: Storage, path: str, schema: pa.Schema, pieces: Iterable[pa.Table]) -> None:
    """One file of many pieces, in row groups of a useful size; it appears whole."""
    waiting: list[pa.Table] = []
    rows = 0
    with storage.create(path) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for piece in pieces:
            waiting.append(piece.replace_schema_metadata(schema.metadata))
            rows += len(piece)
            if rows >= _ROWS:
                writer.write_table(pa.concat_tables(waiting), row_group_size=_ROWS)
                waiting, rows = [], 0
        if waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=_ROWS)


def _delete_replaced(storage: Storage, sweep: str, valid: set[str]) -> int:
    """Delete small files, and those of an earlier compaction; how many small ones there were."""
    count = 0
    storage.delete_folder(f"{sweep}/{LOG}")  # it copies small files
    for name in TABLES:
        count += len(storage.list(f"{sweep}/{name}"))
        storage.delete_folder(f"{sweep}/{name}")
    for path in (f"{sweep}/{FOLDER}/{name}" for name in storage.list(f"{sweep}/{FOLDER}")):
        if path not in valid:
            storage.delete(path)
    return count
