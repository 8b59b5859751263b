"""Compaction: the many small files of a finished sweep become one large file a table, and a reader takes seconds.

The new files are complete before `compact.json` names them; from then on they count, and the small ones are deleted. A
sweep may go on afterwards: what it adds stands in small files again, until the next compaction.
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from emodarts.errors import EmodartsError
from emodarts.results.commits import COMMIT_KEY, Commit
from emodarts.results.lease import Lease
from emodarts.results.schemas import SCHEMA_VERSION, TABLES, check_version, versioned_schema
from emodarts.storage import Storage

ABOUT = "compact.json"
FOLDER = "compact"
COMMITS = pa.schema([("commit", pa.string())])  # JSON, as in the header of a unit's file
_ROWS = 1 << 17  # of a row group


@dataclass(frozen=True)
class Compacted:
    """What `compact.json` says: the files of each table, relative to the results."""

    files: dict[str, str]
    commits: str

    @classmethod
    def of(cls, storage: Storage, sweep: str) -> "Compacted | None":
        """None for a sweep that was never compacted. Raises EmodartsError for another version, or a damaged file."""
        path = f"{sweep}/{ABOUT}"
        try:
            content = json.loads(storage.read(path))
            check_version(content["schema_version"], storage.path(path))
            return cls(content["files"], content["commits"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise EmodartsError(f"{storage.path(path)} is damaged ({error!r}); restore it from a copy") from error


def compact(storage: Storage, sweep: str) -> int:
    """Compact a finished sweep; how many small files were replaced.

    Raises EmodartsError where a driver works on the sweep, and where configurations are still to be gone on with.
    """
    from emodarts.results.reader import Results

    with Lease(storage, sweep):
        opened = Results.of(storage, [sweep])
        running = sum(trial.status == "running" for trial in opened.trials())
        if running:
            raise EmodartsError(
                f"sweep '{sweep}' has {running} configurations that are not at their end: run it to its end first"
            )
        token = uuid.uuid4().hex[:8]
        files = {name: f"{sweep}/{FOLDER}/{token}.{name}.parquet" for name in TABLES}
        for name, path in files.items():
            _write(storage, path, versioned_schema(name), opened.pieces(name))
        commits = f"{sweep}/{FOLDER}/{token}.commits.parquet"
        _write(storage, commits, COMMITS, [commits_table(opened.commits)])
        about = {"schema_version": SCHEMA_VERSION, "files": files, "commits": commits}
        storage.write(f"{sweep}/{ABOUT}", json.dumps(about, indent=1).encode())
        return _delete_replaced(storage, sweep, {*files.values(), commits})


def commits_table(commits: Iterable[Commit]) -> pa.Table:
    """Schema COMMITS."""
    return pa.table({"commit": [commit.header()[COMMIT_KEY] for commit in commits]}, COMMITS)


def commits_of(table: pa.Table, where: str) -> Iterator[Commit]:
    """The reverse of `commits_table`."""
    for text in table["commit"].to_pylist():
        yield Commit.of({COMMIT_KEY.encode(): text.encode()}, where)


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


def _delete_replaced(storage: Storage, sweep: str, kept: set[str]) -> int:
    """Delete small files, and those of an earlier compaction."""
    count = 0
    for name in TABLES:
        count += len(storage.list(f"{sweep}/{name}"))
        storage.delete_folder(f"{sweep}/{name}")
    for name in storage.list(f"{sweep}/{FOLDER}"):
        if f"{sweep}/{FOLDER}/{name}" not in kept:
            storage.delete(f"{sweep}/{FOLDER}/{name}")
    return count
