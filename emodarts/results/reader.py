"""Reading results: only what was committed counts."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emodarts.errors import EmodartsError
from emodarts.results.records import TrialRecord, UnitKey
from emodarts.results.schemas import TABLES, verify
from emodarts.results.storage import Storage
from emodarts.results.writer import COMMIT_KEY

_UNIT_TABLES = ("predictions", "epochs", "genotypes")


@dataclass(frozen=True)
class Commit:
    """How a unit ended, and which attempt's files count."""

    key: UnitKey
    attempt: str
    status: str
    reason: str | None


class Results:
    """The committed rows of one or several sweeps as Arrow tables."""

    def __init__(self, storage: Storage, sweeps: tuple[str, ...]):
        self.storage, self.sweeps = storage, sweeps

    def table(self, name: str) -> pa.Table:
        """All rows of `trials`, `folds`, `predictions`, `epochs`, `genotypes`, `importances` or `corpora`."""
        if name in _UNIT_TABLES:
            # A pruned or failed unit has no predictions and no genotype.
            paths = [
                f"{c.key.sweep}/{name}/{c.key.name}.{c.attempt}.parquet"
                for c in self.commits
                if name == "epochs" or c.status == "complete"
            ]
        else:
            paths = [f"{s}/{name}/{file}" for s in self.sweeps for file in self.storage.list(f"{s}/{name}", ".parquet")]
        tables = [self._read(path, name) for path in paths]
        return pa.concat_tables([TABLES[name].empty_table(), *tables])

    @cached_property
    def commits(self) -> tuple[Commit, ...]:
        """One entry a finished unit, by name."""
        found = []
        for sweep in self.sweeps:
            for file in self.storage.list(f"{sweep}/folds", ".parquet"):
                path = f"{sweep}/folds/{file}"
                about = (self._read(path, "folds").schema.metadata or {}).get(COMMIT_KEY.encode())
                if about is None:
                    raise EmodartsError(f"{self.storage.path(path)} names no unit; move it out of the results folder")
                content = json.loads(about)
                fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content["key"].items()}
                key = UnitKey(**fields)
                found.append(Commit(key, content["attempt"], content["status"], content["reason"]))
        return tuple(found)

    def trials(self) -> list[TrialRecord]:
        """The trials as records, by study, trial and seed."""
        rows = [TrialRecord(**_trial(row)) for row in self.table("trials").to_pylist()]
        return sorted(rows, key=lambda t: (t.system, t.study, t.trial, t.seed))

    def _read(self, path: str, table: str) -> pa.Table:
        where = self.storage.path(path)
        try:
            content = pq.read_table(pa.BufferReader(self.storage.read(path)))
        except (pa.ArrowInvalid, OSError) as error:
            raise EmodartsError(
                f"{where} cannot be read as Parquet ({error}); move it out of the results folder"
            ) from error
        verify(content.schema, table, where)
        return content


def open(location: str | Path, sweep: str | None = None) -> Results:
    """Open the results below a path, or one sweep of them; the path may be that of a sweep itself.

    Raises EmodartsError where there is no sweep.
    """
    storage = Storage.open(location)
    if storage.exists("sweep.json"):
        parent, _, name = storage.root.rpartition("/")
        return Results(Storage(storage.filesystem, parent), (name,))
    if not storage.exists(""):
        raise EmodartsError(f"there are no results at {storage.root}: the folder does not exist")
    sweeps = tuple(name for name in storage.list("") if storage.exists(f"{name}/sweep.json"))
    if sweep is not None:
        sweeps = tuple(name for name in sweeps if name == sweep)
    if not sweeps:
        what = f"no sweep '{sweep}'" if sweep else "no sweep"
        raise EmodartsError(f"there is {what} in {storage.root}: looked for <sweep>/sweep.json")
    return Results(storage, sweeps)


def _trial(row: dict[str, Any]) -> dict[str, Any]:
    row.pop("sweep")
    return {**row, "parameters": json.loads(row["parameters"]), "values": tuple(row["values"])}
