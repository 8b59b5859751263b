"""How a unit ended: written into the header of its `folds` file, which is its commit."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emodarts.errors import EmodartsError
from emodarts.results.records import UnitKey
from emodarts.results.schemas import verify
from emodarts.results.storage import Storage

COMMIT_KEY = "emodarts.commit"


@dataclass(frozen=True)
class Commit:
    """How a unit ended (complete | pruned | failed), why, and which attempt's files count."""

    key: UnitKey
    attempt: str
    status: str
    reason: str | None

    def header(self) -> dict[str, str]:
        """The entry in the header of a Parquet file."""
        return {COMMIT_KEY: json.dumps(asdict(self))}

    @classmethod
    def of(cls, schema: pa.Schema, where: str) -> "Commit":
        """The commit that a file's header holds. Raises EmodartsError where there is none."""
        about = (schema.metadata or {}).get(COMMIT_KEY.encode())
        if about is None:
            raise EmodartsError(f"{where} names no unit; move it out of the results folder")
        content = json.loads(about)
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content["key"].items()}
        return cls(UnitKey(**fields), content["attempt"], content["status"], content["reason"])


def path_of(sweep: str, unit: str) -> str:
    """Where the commit of a unit stands."""
    return f"{sweep}/folds/{unit}.parquet"


def read_commit(storage: Storage, sweep: str, unit: str) -> Commit | None:
    """The commit of one unit (by `UnitKey.name`), or None. Raises EmodartsError for a file that is none."""
    path = path_of(sweep, unit)
    try:
        content = storage.read(path)
    except FileNotFoundError:
        return None
    return Commit.of(read_parquet(content, "folds", storage.path(path), []).schema, storage.path(path))


def read_parquet(content: bytes, table: str, where: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A result table, or some columns of it, from the bytes of its file, checked; with the header of the file.

    Raises EmodartsError for a file that is none.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        verify(file.schema_arrow, table, where)
        found = file.read(columns=columns, use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise EmodartsError(
            f"{where} cannot be read as Parquet ({error}); move it out of the results folder"
        ) from error
    return found.replace_schema_metadata(file.schema_arrow.metadata)
