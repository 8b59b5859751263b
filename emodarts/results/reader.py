"""Reading results: only what was committed counts."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from emodarts.errors import EmodartsError
from emodarts.results.commits import Commit, read_parquet
from emodarts.results.records import RungRecord, TrialRecord
from emodarts.results.schemas import TABLES
from emodarts.results.storage import Storage

_READERS = 8
_UNIT_TABLES = ("predictions", "epochs", "genotypes")


class Results:
    """The committed rows of one or several sweeps as Arrow tables."""

    def __init__(self, storage: Storage, sweeps: tuple[str, ...]):
        self.storage, self.sweeps = storage, sweeps
        self._commits: tuple[Commit, ...] | None = None

    def table(self, name: str) -> pa.Table:
        """All rows of `trials`, `rungs`, `folds`, `predictions`, `epochs`, `genotypes`, `importances` or `corpora`."""
        if name == "folds":
            tables = self._folds(None)
        elif name in _UNIT_TABLES:
            # A pruned or failed unit has no predictions and no genotype.
            counted = [c for c in self.commits if name == "epochs" or c.status == "complete"]
            tables = self._read([f"{c.key.sweep}/{name}/{c.key.name}.{c.attempt}.parquet" for c in counted], name)
        else:
            tables = self._read(self._paths(name), name)
        return pa.concat_tables([TABLES[name].empty_table(), *tables])

    @property
    def commits(self) -> tuple[Commit, ...]:
        """One entry a finished unit, by name."""
        if self._commits is None:
            self._folds([])
        return self._commits or ()

    def _folds(self, columns: list[str] | None) -> list[pa.Table]:
        """Each unit's rows, or some columns of them, by name; and with them its commit."""
        paths = self._paths("folds")
        tables = self._read(paths, "folds", columns)
        self._commits = tuple(Commit.of(t.schema, self.storage.path(p)) for p, t in zip(paths, tables, strict=True))
        return tables

    def _paths(self, name: str) -> list[str]:
        return [f"{s}/{name}/{file}" for s in self.sweeps for file in self.storage.list(f"{s}/{name}", ".parquet")]

    def rungs(self) -> list[RungRecord]:
        """The decisions on pruning, in the order in which they were taken."""
        rows = [RungRecord(**{k: v for k, v in row.items() if k != "sweep"}) for row in self.table("rungs").to_pylist()]
        return sorted(rows, key=lambda r: (r.decided_at, r.study, r.trial, r.rung))

    def figures(self, role: str, stage: str, columns: list[str]) -> list[dict[str, Any]]:
        """Some columns of the rows of `folds` of one role and stage."""
        tables = self._folds(sorted({*columns, "role", "stage"}))
        table = pa.concat_tables(t.replace_schema_metadata(None) for t in tables) if tables else self.table("folds")
        chosen = table.filter((pc.field("role") == role) & (pc.field("stage") == stage))
        rows: list[dict[str, Any]] = chosen.select(columns).to_pylist()
        return rows

    def trials(self) -> list[TrialRecord]:
        """The trials as records, by study, trial and seed."""
        rows = [TrialRecord(**_trial(row)) for row in self.table("trials").to_pylist()]
        return sorted(rows, key=lambda t: (t.system, t.study, t.trial, t.seed))

    def _read(self, paths: list[str], table: str, columns: list[str] | None = None) -> list[pa.Table]:
        """Many small files: a few at a time hide the latency of a network's file system."""

        def read(path: str) -> pa.Table:
            return read_parquet(self.storage.read(path), table, self.storage.path(path), columns)

        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(read, paths))


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
