"""How a unit ended: written into the header of its `folds` file, which is its commit."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emodarts.errors import EmodartsError
from emodarts.records import UnitKey
from emodarts.results.schemas import check_header, check_schema
from emodarts.storage import Storage

COMMIT_KEY = "emodarts.commit"


@dataclass(frozen=True)
class Commit:
    """How a unit ended (complete | pruned | failed), why, and which attempt's files count.

    `dev_uar`, `parameters` and `macs` are what a driver needs of a complete one, as in its rows, and `choices` by what
    else it may be chosen (`choice_figures`): a sweep that is taken up again has thousands of these to read.
    """

    key: UnitKey
    attempt: str
    status: str
    reason: str | None
    dev_uar: float | None = None
    parameters: int | None = None
    macs: int | None = None
    choices: dict[str, float] = field(default_factory=dict)

    def header(self) -> dict[str, str]:
        """The entry in the header of a Parquet file."""
        return {COMMIT_KEY: json.dumps(asdict(self))}

    @classmethod
    def of(cls, header: Mapping[bytes, bytes] | None, where: str) -> "Commit":
        """The commit that a file's header holds. Raises EmodartsError where there is none."""
        about = (header or {}).get(COMMIT_KEY.encode())
        if about is None:
            raise EmodartsError(
                f"{where} is no folds table of emodarts: it names no unit; move it out of the results folder"
            )
        content = json.loads(about)
        key: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.pop("key").items()}
        return cls(UnitKey(**key), **content)


def commit_path(sweep: str, unit: str) -> str:
    """Where the commit of a unit stands."""
    return f"{sweep}/folds/{unit}.parquet"


def read_commit(storage: Storage, sweep: str, unit: str) -> Commit | None:
    """The commit of one unit (by `UnitKey.name`), or None. Raises EmodartsError for a file that is none."""
    path = commit_path(sweep, unit)
    try:
        content = storage.read(path)
    except FileNotFoundError:
        return None
    return parse_commit(content, storage.path(path))


def parse_commit(content: bytes, where: str) -> Commit:
    """The commit in the bytes of a `folds` file; its rows are not looked at. Raises EmodartsError for no such file."""
    try:
        header = pq.read_metadata(pa.BufferReader(content)).metadata
    except (pa.ArrowInvalid, OSError) as error:
        raise EmodartsError(_unreadable(where, error)) from error
    check_header(header, where)
    return Commit.of(header, where)


def read_parquet(content: bytes, table: str, where: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A result table, or some columns of it, from the bytes of its file, checked; with the header of the file.

    Raises EmodartsError for a file that is none.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        check_schema(file.schema_arrow, table, where)
        rows = file.read(columns=columns, use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise EmodartsError(_unreadable(where, error)) from error
    return rows.replace_schema_metadata(file.schema_arrow.metadata)


def _unreadable(where: str, error: Exception) -> str:
    return f"{where} cannot be read as Parquet ({error}); move it out of the results folder"
