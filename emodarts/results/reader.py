"""Reading results: only what was committed counts. Any number of sweeps, from anywhere, small files and compacted ones.

`emodarts.results.open("results").table("folds").to_pandas()`; polars and DuckDB take the Arrow tables as they are.
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import groupby
from operator import and_, or_
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from emodarts.errors import EmodartsError
from emodarts.records import RungRecord, TrialRecord
from emodarts.results.commits import Commit, parse_commit, read_parquet
from emodarts.results.compacted_files import CompactedFiles, commits_in
from emodarts.results.schemas import TABLES, check_schema
from emodarts.results.sweep_file import SWEEP_FILE, settings_of
from emodarts.storage import Storage

_READERS = 8  # threads: a few files at a time hide the latency of a network's file system
T = TypeVar("T")
_UNIT_TABLES = ("folds", "predictions", "epochs", "genotypes")
_UNIT_COLUMNS = ("system", "study", "trial", "seed", "fold")
# What names a row of a table that is rewritten: a small file replaces what was compacted before it.
_KEYS = {
    "trials": ("system", "study", "trial", "seed"),
    "rungs": ("system", "study", "trial", "seed", "fold", "rung"),
    "ensembles": ("sweep",),  # written as a whole
    "importances": ("system", "study"),
    "corpora": ("corpus",),
}


@dataclass(frozen=True)
class SweepTables:
    """The tables of one sweep.

    Where a method takes them, `columns` are those to read (all by default), and `where` holds for the rows to read:
    `pc.field("role") == "test"`.
    """

    storage: Storage
    name: str

    @property
    def path(self) -> str:
        """The full path of the sweep's folder."""
        return self.storage.path(self.name)

    def table(self, name: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None) -> pa.Table:
        """The rows of a table."""
        empty = TABLES[name].empty_table()
        return pa.concat_tables([_select(empty, columns, None), *self.read_pieces(name, columns, where)])

    def read_pieces(
        self, name: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None
    ) -> Iterator[pa.Table]:
        """The rows of a table, in the order of the units' names: those compacted, then those of each small file."""
        small = self._read_small(name, columns, where)
        if self.compacted is not None:
            yield self._without_replaced(self._read_compacted(name, columns, where), name, where)
        yield from small

    def read_trials(
        self,
        name: str,
        trials: Collection[tuple[str, str, int]],
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
    ) -> Iterator[pa.Table]:
        """The rows of some configurations, each `(system, study, trial)` with all its folds and seeds, in a unit table.

        Nothing else is read: of compacted files the row groups that hold them, of small files those of their units.
        """
        if self.compacted is not None:
            for study, of_study in groupby(sorted(trials), key=lambda trial: trial[:2]):  # whose rows stand together
                is_one = reduce(or_, (pc.field("trial") == number for *_, number in of_study))
                of_trials = _equal(_UNIT_COLUMNS[:2], study) & is_one
                yield self._read_compacted(name, columns, of_trials if where is None else of_trials & where)
        units = [c for c in self._small_commits if (c.key.system, c.key.study, c.key.trial) in trials]
        yield from self._read_files(name, self._unit_paths(name, units), columns, where)

    def read_unit(self, name: str, commit: Commit) -> pa.Table:
        """The rows of one finished unit in `folds`, `predictions`, `epochs` or `genotypes`."""
        if self.compacted is not None and commit in self._compacted_commits:
            of_unit = _equal(_UNIT_COLUMNS, [getattr(commit.key, column) for column in _UNIT_COLUMNS])
            return self._read_compacted(name, None, of_unit)
        (table,) = self._read_files(name, [self._unit_path(name, commit)], None, None)
        return table

    @cached_property
    def compacted(self) -> CompactedFiles | None:
        """The sweep's compacted files, if there are any."""
        return CompactedFiles.load(self.storage, self.name)

    @cached_property
    def commits(self) -> tuple[Commit, ...]:
        """One entry a finished unit, by name."""
        return tuple(sorted((*self._compacted_commits, *self._small_commits), key=lambda commit: commit.key.name))

    @cached_property
    def _compacted_commits(self) -> tuple[Commit, ...]:
        if self.compacted is None:
            return ()
        path = self.storage.path(self.compacted.commits)
        with self.storage.filesystem.open_input_file(path) as stream:
            return tuple(commits_in(pq.read_table(stream), path))

    @cached_property
    def _small_commits(self) -> tuple[Commit, ...]:
        """Those of the units that were not compacted; `_read_small_folds` may have put them here."""

        def read(path: str) -> Commit:
            return parse_commit(self.storage.read(path), self.storage.path(path))

        return tuple(_in_threads(read, self._small_folds()))

    def _small_folds(self) -> list[str]:
        """The `folds` files of the units that were not compacted."""
        paths = self._list_files("folds")
        if not paths:  # all of it is compacted, and half a million commits need not be read to say so
            return []
        compacted = {commit.key.name for commit in self._compacted_commits}
        return [path for path in paths if PurePosixPath(path).stem not in compacted]

    def _list_files(self, name: str) -> list[str]:
        return [f"{self.name}/{name}/{file}" for file in self.storage.list(f"{self.name}/{name}", ".parquet")]

    def _unit_path(self, name: str, commit: Commit) -> str:
        unit = commit.key.name
        return f"{self.name}/{name}/{unit if name == 'folds' else f'{unit}.{commit.attempt}'}.parquet"

    def _unit_paths(self, name: str, commits: Sequence[Commit]) -> list[str]:
        """Files of units in a unit table: a pruned or failed one has no predictions and no genotype."""
        have_all = name in ("epochs", "folds")
        return [self._unit_path(name, c) for c in commits if have_all or c.status == "complete"]

    def _read_small(self, name: str, columns: Sequence[str] | None, where: pc.Expression | None) -> list[pa.Table]:
        """The rows of a table that stand in small files, a table a file."""
        if name == "folds":
            paths = self._small_folds()
        else:
            paths = self._unit_paths(name, self._small_commits) if name in _UNIT_TABLES else self._list_files(name)
        tables = self._read_files(name, paths, columns, where)
        if name == "folds":  # whose headers are the commits: they need not be read again
            commits = (Commit.of(t.schema.metadata, self.storage.path(p)) for p, t in zip(paths, tables, strict=True))
            self.__dict__["_small_commits"] = tuple(commits)
        return tables

    def _read_files(
        self, name: str, paths: list[str], columns: Sequence[str] | None, where: pc.Expression | None
    ) -> list[pa.Table]:
        needed = columns if where is None else None  # a filter may speak of any column

        def read(path: str) -> pa.Table:
            return read_parquet(self.storage.read(path), name, self.storage.path(path), needed)

        return [_select(table, columns, where) for table in _in_threads(read, paths)]

    def _read_compacted(self, name: str, columns: Sequence[str] | None, where: pc.Expression | None) -> pa.Table:
        assert self.compacted is not None
        if name not in self.compacted.files:  # compacted before there was this table
            return _select(TABLES[name].empty_table(), columns, None)
        path = self.storage.path(self.compacted.files[name])
        try:
            dataset = self._datasets.get(path) or self._datasets.setdefault(path, self._open_dataset(path, name))
            table: pa.Table = dataset.to_table(columns=None if columns is None else list(columns), filter=where)
        except (pa.ArrowInvalid, OSError) as error:
            raise EmodartsError(f"{path} cannot be read as Parquet ({error}); restore it from a copy") from error
        return table

    @cached_property
    def _datasets(self) -> dict[str, Any]:
        """Compacted files that were opened: their footers are read once."""
        return {}

    def _open_dataset(self, path: str, name: str) -> Any:
        format_ = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True))
        dataset = ds.dataset(path, filesystem=self.storage.filesystem, format=format_)
        check_schema(dataset.schema, name, path)
        return dataset

    def _without_replaced(self, compacted: pa.Table, name: str, where: pc.Expression | None) -> pa.Table:
        """Compacted rows without those that a small file replaces; `where` they were read by."""
        columns = _KEYS.get(name)
        small = [] if columns is None else self._read_small(name, columns, None)
        if not small:
            return compacted
        replaced = {tuple(row.values()) for table in small for row in table.select(columns).to_pylist()}
        keys = self._read_compacted(name, columns, where).to_pylist()
        return compacted.filter(pa.array([tuple(row.values()) not in replaced for row in keys], pa.bool_()))


class Results:
    """The committed rows of one or several sweeps as Arrow tables; `parts`: each of them by itself."""

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

    def table(self, name: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None) -> pa.Table:
        """Rows of `trials`, `rungs`, `folds`, `predictions`, `epochs`, `genotypes`, `ensembles`, `importances` or
        `corpora`.

        All columns, or those named; all rows, or those for which `where` holds: `pc.field("role") == "test"`.
        """
        empty = _select(TABLES[name].empty_table(), columns, None)
        return pa.concat_tables([empty, *(part.table(name, columns, where) for part in self.parts)])

    def rungs(self) -> list[RungRecord]:
        """The decisions on pruning, in the order in which they were taken."""
        rows = [RungRecord(**row) for row in self.table("rungs").drop_columns("sweep").to_pylist()]
        return sorted(rows, key=lambda r: (r.decided_at, r.study, r.trial, r.rung))

    def trials(self) -> list[TrialRecord]:
        """The trials as records, by study, trial and seed."""
        rows = self.table("trials").drop_columns("sweep").to_pylist()
        for row in rows:
            row |= {"parameters": json.loads(row["parameters"]), "values": tuple(row["values"])}
        return sorted((TrialRecord(**row) for row in rows), key=lambda t: (t.system, t.study, t.trial, t.seed))


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
        names = storage.list("") if sweep is None else [sweep]
        sweeps = [name for name in names if storage.exists(f"{name}/{SWEEP_FILE}")]
    if not sweeps:
        what = f"no sweep '{sweep}'" if sweep else "no sweep"
        raise EmodartsError(f"there is {what} in {storage.root}: looked for <sweep>/{SWEEP_FILE}")
    for name in sweeps:
        settings_of(storage, name)  # refuses those of another version
    return [SweepTables(storage, name) for name in sweeps]


def _select(table: pa.Table, columns: Sequence[str] | None, where: pc.Expression | None) -> pa.Table:
    if where is not None:
        table = table.filter(where)
    return table if columns is None else table.select(list(columns))


def _equal(columns: Sequence[str], values: Sequence[Any]) -> pc.Expression:
    """Holds where each column has its value."""
    return reduce(and_, (pc.field(column) == value for column, value in zip(columns, values, strict=True)))


def _in_threads(read: Callable[[str], T], paths: Sequence[str]) -> list[T]:
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(read, paths))
