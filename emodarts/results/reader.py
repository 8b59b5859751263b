"""Reading results: only what was committed counts. Any number of sweeps, from anywhere, small files and compacted ones.

`emodarts.results.open("results").table("folds").to_pandas()`; polars and DuckDB take the Arrow tables as they are.
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import and_
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from emodarts.errors import EmodartsError
from emodarts.records import RungRecord, TrialRecord
from emodarts.results.commits import Commit, commit_in, read_parquet
from emodarts.results.compaction import Compacted, commits_of
from emodarts.results.schemas import TABLES, check_schema
from emodarts.results.sweep_file import SWEEP_FILE, settings_of
from emodarts.storage import Storage

_READERS = 8
T = TypeVar("T")
_UNIT_TABLES = ("predictions", "epochs", "genotypes")
# What names a row of a table that is rewritten: a small file replaces what was compacted before it.
_KEYS = {
    "trials": ("system", "study", "trial", "seed"),
    "rungs": ("system", "study", "trial", "seed", "fold", "rung"),
    "importances": ("system", "study"),
    "corpora": ("corpus",),
}


@dataclass(frozen=True)
class SweepTables:
    """The tables of one sweep."""

    storage: Storage
    name: str

    @property
    def path(self) -> str:
        """The full path of the sweep's folder."""
        return self.storage.path(self.name)

    def pieces(
        self, table: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None
    ) -> Iterator[pa.Table]:
        """The rows of a table, in the order of the units' names: those compacted, then those of each small file."""
        # A filter may speak of any column; without one only what is asked for is read.
        wanted = None if where is not None else columns
        loose = [_chosen(found, columns, where) for found in self._loose(table, wanted)]
        if self.compacted is not None:
            kept = self._read_compacted(self.compacted.files[table], table, columns, where)
            yield self._not_replaced(kept, table, columns, where)
        yield from loose

    @cached_property
    def compacted(self) -> Compacted | None:
        """The sweep's compacted files, if there are any."""
        return Compacted.of(self.storage, self.name)

    @cached_property
    def commits(self) -> tuple[Commit, ...]:
        """One entry a finished unit, by name."""
        return tuple(sorted((*self._compacted_commits, *self._small_commits), key=lambda commit: commit.key.name))

    @cached_property
    def _compacted_commits(self) -> tuple[Commit, ...]:
        if self.compacted is None:
            return ()
        path = self.compacted.commits
        with self._stream(path) as stream:
            return tuple(commits_of(pq.read_table(stream), self.storage.path(path)))

    @cached_property
    def _small_commits(self) -> tuple[Commit, ...]:
        """Those of the units that were not compacted; `_small_folds` may have put them here."""

        def read(path: str) -> Commit:
            return commit_in(self.storage.read(path), self.storage.path(path))

        return tuple(self._each(read, self._small_paths()))

    def _small_folds(self, columns: Sequence[str] | None) -> list[pa.Table]:
        """The rows of the units that were not compacted, or some columns of them."""
        paths = self._small_paths()
        tables = self._read(paths, "folds", columns)
        commits = (Commit.of(t.schema.metadata, self.storage.path(p)) for p, t in zip(paths, tables, strict=True))
        self.__dict__["_small_commits"] = tuple(commits)  # their headers were read with them
        return tables

    def _small_paths(self) -> list[str]:
        paths = self._paths("folds")
        if not paths:  # all of it is compacted, and half a million commits need not be read to say so
            return []
        compacted = {commit.key.name for commit in self._compacted_commits}
        return [path for path in paths if PurePosixPath(path).stem not in compacted]

    def unit(self, table: str, commit: Commit) -> pa.Table:
        """The rows of one finished unit in `folds`, `predictions`, `epochs` or `genotypes`."""
        key = commit.key
        if self.compacted is not None and commit in self._compacted_commits:
            names = ("system", "study", "trial", "seed", "fold")
            where = reduce(and_, (pc.field(name) == getattr(key, name) for name in names))
            return self._read_compacted(self.compacted.files[table], table, None, where)
        name = key.name if table == "folds" else f"{key.name}.{commit.attempt}"
        (found,) = self._read([f"{self.name}/{table}/{name}.parquet"], table, None)
        return _chosen(found, None, None)

    def of_trials(
        self,
        table: str,
        trials: Collection[tuple[str, str, int]],
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
    ) -> Iterator[pa.Table]:
        """The rows of some configurations, each `(system, study, trial)` with all its folds and seeds, in a unit table.

        Nothing else is read: of compacted files the row groups that hold them, of small files those of their units.
        """
        if self.compacted is not None:
            for system, study, trial in sorted(trials):
                mine = (pc.field("system") == system) & (pc.field("study") == study) & (pc.field("trial") == trial)
                asked = mine if where is None else mine & where
                yield self._read_compacted(self.compacted.files[table], table, columns, asked)
        keys = [c for c in self._small_commits if (c.key.system, c.key.study, c.key.trial) in trials]
        names = [c.key.name if table == "folds" else f"{c.key.name}.{c.attempt}" for c in _with(table, keys)]
        paths = [f"{self.name}/{table}/{name}.parquet" for name in names]
        found = self._read(paths, table, columns if where is None else None)
        yield from (_chosen(each, columns, where) for each in found)

    def _loose(self, table: str, columns: Sequence[str] | None) -> list[pa.Table]:
        if table == "folds":
            return self._small_folds(columns)
        if table in _UNIT_TABLES:
            counted = _with(table, self._small_commits)
            paths = [f"{self.name}/{table}/{c.key.name}.{c.attempt}.parquet" for c in counted]
            return self._read(paths, table, columns)
        return self._read(self._paths(table), table, columns)

    def _read_compacted(
        self, path: str, table: str, columns: Sequence[str] | None, where: pc.Expression | None
    ) -> pa.Table:
        try:
            dataset = self._datasets.get(path) or self._dataset(path, table)
            found = dataset.to_table(columns=None if columns is None else list(columns), filter=where)
        except (pa.ArrowInvalid, OSError) as error:
            raise EmodartsError(
                f"{self.storage.path(path)} cannot be read as Parquet ({error}); restore it from a copy"
            ) from error
        return found.replace_schema_metadata(None)

    @cached_property
    def _datasets(self) -> dict[str, Any]:
        """Compacted files that were opened: what stands in their footers is read once."""
        return {}

    def _dataset(self, path: str, table: str) -> Any:
        format_ = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True))
        dataset = ds.dataset(self.storage.path(path), filesystem=self.storage.filesystem, format=format_)
        check_schema(dataset.schema, table, self.storage.path(path))
        return self._datasets.setdefault(path, dataset)

    def _not_replaced(
        self, kept: pa.Table, table: str, columns: Sequence[str] | None, where: pc.Expression | None
    ) -> pa.Table:
        """Compacted rows without those that a small file replaces."""
        names = list(_KEYS.get(table, ()))
        if not names or not (loose := self._loose(table, names)):
            return kept
        assert self.compacted is not None
        replaced = {tuple(row.values()) for found in loose for row in found.select(names).to_pylist()}
        keys = self._read_compacted(self.compacted.files[table], table, names, where)
        mask = pa.array([tuple(row.values()) not in replaced for row in keys.to_pylist()], pa.bool_())
        return kept.filter(mask)

    def _paths(self, table: str) -> list[str]:
        return [f"{self.name}/{table}/{file}" for file in self.storage.list(f"{self.name}/{table}", ".parquet")]

    def _read(self, paths: list[str], table: str, columns: Sequence[str] | None) -> list[pa.Table]:
        def read(path: str) -> pa.Table:
            return read_parquet(self.storage.read(path), table, self.storage.path(path), columns)

        return self._each(read, paths)

    def _each(self, read: Callable[[str], T], paths: list[str]) -> list[T]:
        """Many small files: a few at a time hide the latency of a network's file system."""
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(read, paths))

    def _stream(self, path: str) -> Any:
        return self.storage.filesystem.open_input_file(self.storage.path(path))


class Results:
    """The committed rows of one or several sweeps as Arrow tables."""

    def __init__(self, parts: Sequence[SweepTables]):
        self.parts = tuple(parts)

    @classmethod
    def of(cls, storage: Storage, sweeps: Sequence[str]) -> "Results":
        """The sweeps of these names in one place."""
        return cls([SweepTables(storage, name) for name in sweeps])

    @property
    def sweeps(self) -> tuple[str, ...]:
        """Names of the sweeps."""
        return tuple(part.name for part in self.parts)

    @property
    def commits(self) -> tuple[Commit, ...]:
        """One entry a finished unit."""
        return tuple(commit for part in self.parts for commit in part.commits)

    def each(self) -> Iterator[tuple[SweepTables, "Results"]]:
        """Sweep by sweep."""
        for part in self.parts:
            yield part, Results([part])

    def pieces(
        self, name: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None
    ) -> Iterator[pa.Table]:
        """The rows of a table in pieces, a unit or a compacted sweep each."""
        for part in self.parts:
            yield from part.pieces(name, columns, where)

    def table(self, name: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None) -> pa.Table:
        """Rows of `trials`, `rungs`, `folds`, `predictions`, `epochs`, `genotypes`, `importances` or `corpora`.

        All columns, or those named; all rows, or those for which `where` holds: `pc.field("role") == "test"`.
        """
        empty = TABLES[name].empty_table()
        return pa.concat_tables(
            [empty if columns is None else empty.select(list(columns)), *self.pieces(name, columns, where)]
        )

    def rungs(self) -> list[RungRecord]:
        """The decisions on pruning, in the order in which they were taken."""
        rows = [RungRecord(**{k: v for k, v in row.items() if k != "sweep"}) for row in self.table("rungs").to_pylist()]
        return sorted(rows, key=lambda r: (r.decided_at, r.study, r.trial, r.rung))

    def figures(self, role: str, stage: str, columns: list[str]) -> list[dict[str, Any]]:
        """Some columns of the rows of `folds` of one role and stage."""
        table = self.table("folds", sorted({*columns, "role", "stage"}))
        chosen = table.filter((pc.field("role") == role) & (pc.field("stage") == stage))
        rows: list[dict[str, Any]] = chosen.select(columns).to_pylist()
        return rows

    def trials(self) -> list[TrialRecord]:
        """The trials as records, by study, trial and seed."""
        rows = [TrialRecord(**_trial(row)) for row in self.table("trials").to_pylist()]
        return sorted(rows, key=lambda t: (t.system, t.study, t.trial, t.seed))


def open(*locations: str | Path, sweep: str | None = None) -> Results:
    """Open the results below paths or URIs, or one sweep of them; a path may be that of a sweep itself.

    Raises EmodartsError where there is no sweep, and for one of another schema version.
    """
    return Results([part for location in locations for part in _open(location, sweep)])


def _open(location: str | Path, sweep: str | None) -> list[SweepTables]:
    storage = Storage.open(location)
    if storage.exists(SWEEP_FILE):
        parent, _, name = storage.root.rpartition("/")
        storage, sweeps = Storage(storage.filesystem, parent), [name]
    elif not storage.exists(""):
        raise EmodartsError(f"there are no results at {storage.root}: the folder does not exist")
    else:
        sweeps = [name for name in storage.list("") if storage.exists(f"{name}/{SWEEP_FILE}")]
        if sweep is not None:
            sweeps = [name for name in sweeps if name == sweep]
    if not sweeps:
        what = f"no sweep '{sweep}'" if sweep else "no sweep"
        raise EmodartsError(f"there is {what} in {storage.root}: looked for <sweep>/{SWEEP_FILE}")
    for name in sweeps:
        settings_of(storage, name)  # refuses those of another version
    return [SweepTables(storage, name) for name in sweeps]


def _with(table: str, commits: Sequence[Commit]) -> list[Commit]:
    """The units that have such a table: a pruned or failed one has no predictions and no genotype."""
    return [c for c in commits if table in ("epochs", "folds") or c.status == "complete"]


def _chosen(found: pa.Table, columns: Sequence[str] | None, where: pc.Expression | None) -> pa.Table:
    found = found.replace_schema_metadata(None)
    if where is not None:
        found = found.filter(where)
    return found if columns is None else found.select(list(columns))


def _trial(row: dict[str, Any]) -> dict[str, Any]:
    row.pop("sweep")
    return {**row, "parameters": json.loads(row["parameters"]), "values": tuple(row["values"])}
