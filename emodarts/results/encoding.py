"""Result tables as the bytes of Parquet files, and the rows and file names of trials."""

import json
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emodarts.records import TrialRecord
from emodarts.results.schemas import TABLES, version_header


def encode_rows(table: str, rows: list[dict[str, Any]], **metadata: str) -> bytes:
    """The bytes of a table's file, of rows."""
    return encode_table(pa.Table.from_pylist(rows, TABLES[table]).cast(TABLES[table]), **metadata)


def encode_table(content: pa.Table, **metadata: str) -> bytes:
    """The bytes of a file; `metadata` stand in its header, beside the version."""
    sink = pa.BufferOutputStream()
    pq.write_table(content.replace_schema_metadata(version_header(**metadata)), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def trial_row(sweep: str, trial: TrialRecord) -> dict[str, Any]:
    """The row of a trial."""
    parameters = json.dumps(trial.parameters, sort_keys=True)
    return {**asdict(trial), "sweep": sweep, "parameters": parameters, "values": list(trial.values)}


def trial_file(system: str, study: str, trial: int, seed: int) -> str:
    """Where the row of a trial stands, below the sweep."""
    name = f"{system}.{study}.t{trial:05d}.s{seed}".replace(":", "-")
    return f"trials/{name}.parquet"
