"""Reading results: only what was committed counts. Any number of sweeps, from anywhere, small files and compacted ones.

`emodarts.results.open("results").table("folds").to_pandas()`; polars and DuckDB take the Arrow tables as they are.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emodarts.errors import EmodartsError
from emodarts.records import RungRecord, TrialRecord, is_inner_name
from emodarts.results.commit_log import LoggedUnits
from emodarts.results.commits import Commit, parse_commit, read_parquet
from emodarts.results.compacted_files import CompactedFiles, commits_in
from emodarts.results.compacted_table import CompactedTable
from emodarts.results.schemas import TABLES
from emodarts.results.sweep_file import SWEEP_FILE, settings_of
from emodarts.storage import Storage

Columns: TypeAlias = Sequence[str] | None  # those to read; None: all
Where: TypeAlias = pc.Expression | None  # what holds for the rows to read
_UNIT_TABLES = ("folds", "predictions", "epochs", "genotypes")
_READ_ONCE = ("trials", "folds")  # small files that a report asks for again and again, of few rows each
# What names a row of a table that is rewritten: a small file replaces what was compacted before it.
_KEYS = {
    "trials": ("system", "study", "trial", "seed"),
    "rungs": ("system", "study", "trial", "seed", "fold", "rung"),
    "ensembles": ("sweep",),  # written as a whole
    "importances": ("system", "study"),
    "corpora": ("corpus",),
    "utterances": ("corpus",),  # written as a whole
}


@dataclass(frozen=True)
class SweepTables:
    """The tables of one sweep, as they are when they are first read: which units have ended, trials, and folds.

    Where a method takes them, `columns` are those to read (all by default), and `where` holds for the rows to read:
    `pc.field("role") == "test"`. Rows of units on inner splits (`sweep.inner`), which are no results, are left out of
    everything that does not ask for them (`with_inner`); `commits` are those of all units.
    """

    storage: Storage
    name: str

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that it was begun with, by dotted name. Raises EmodartsError."""
        return settings_of(self.storage, self.name)

    @property
    def path(self) -> str:
        """The full path of the sweep's folder."""
        return self.storage.path(self.name)

    def table(self, name: str, columns: Columns = None, where: Where = None, with_inner: bool = False) -> pa.Table:
        """The rows of a table."""
        empty = TABLES[name].empty_table()
        return pa.concat_tables([_select(empty, columns, None), *self.read_pieces(name, columns, where, with_inner)])

    def read_pieces(
        self, name: str, columns: Columns = None, where: Where = None, with_inner: bool = False
    ) -> Iterator[pa.Table]:
        """The rows of a table, in the order of the units' names: those compacted, then those of the small files."""
        small = self._read_small(name, columns, where, with_inner)
        if self.compacted is not None:
            of_units = name in _UNIT_TABLES and not with_inner
            rows = self._read_compacted(name, columns, _outer(where) if of_units else where)
            yield self._without_replaced(rows, name, where)
        yield from small

    def read_trials(
        self, name: str, trials: Collection[tuple[str, str, int]], columns: Columns = None, where: Where = None
    ) -> Iterator[pa.Table]:
        """The rows of some configurations, each `(system, study, trial)` with all its folds and seeds, in a unit table.

        Nothing else is read: of compacted files the row groups that hold them, of small files those of their units.
        """
        if self.compacted is not None:
            table = self._compacted_table(name)
            for (system, study), of_study in groupby(sorted(trials), key=lambda trial: trial[:2]):
                if table is not None:
                    numbers = [number for *_, number in of_study]
                    yield from table.read_trials(system, study, numbers, columns, _outer(where))
        units = [c for c in self._small_commits if (c.key.system, c.key.study, c.key.trial) in trials]
        yield from self._read_files(name, self._unit_paths(name, units, False), columns, where)

    def read_unit(self, name: str, commit: Commit) -> pa.Table:
        """The rows of one finished unit in `folds`, `predictions`, `epochs` or `genotypes`."""
        if self.compacted is not None and commit in self._compacted_commits:
            key, inner, empty = commit.key, pc.field("inner"), TABLES[name].empty_table()
            is_split = inner.is_null() if key.inner is None else inner == key.inner
            of_unit = (pc.field("seed") == key.seed) & (pc.field("fold") == key.fold) & is_split
            table = self._compacted_table(name)
            pieces = table.read_trials(key.system, key.study, [key.trial], None, of_unit) if table is not None else ()
            return pa.concat_tables([empty, *pieces])
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
            return tuple(commits_in(pq.ParquetFile(stream).read(), path))

    @cached_property
    def _small_commits(self) -> tuple[Commit, ...]:
        """Those of the units that were not compacted; `_read_small_folds` may have put them here."""

        def read(path: str) -> Commit:
            return parse_commit(self._read_file(path), self.storage.path(path))

        paths, logged = {PurePosixPath(path).stem: path for path in self._small_folds()}, self.logged.commits
        missing = [unit for unit in paths if unit not in logged]
        commits = self.storage.map(read, [paths[unit] for unit in missing])
        by_unit = {**logged, **dict(zip(missing, commits, strict=True))}
        return tuple(by_unit[unit] for unit in paths)

    @cached_property
    def logged(self) -> LoggedUnits:
        """What the sweep's log has of small files, which then need not be read."""
        return LoggedUnits.load(self.storage, self.name)

    def small_units(self) -> tuple[dict[str, Commit], frozenset[str]]:
        """What is not compacted: the commits by their units' names, and the files of trials, below the sweep."""
        files = frozenset(path.removeprefix(f"{self.name}/") for path in self._list_files("trials"))
        return {commit.key.name: commit for commit in self._small_commits}, files

    def _read_small_trials(self) -> pa.Table:
        """Those of small files, in the order of their names; what the log has is taken from there."""
        paths = self._list_files("trials")
        rows = {f"{self.name}/{file}": row for file, row in self.logged.trial_rows.items()}
        in_log, missing = [p for p in paths if p in rows], [p for p in paths if p not in rows]
        logged = self.logged.trials.take(pa.array([rows[path] for path in in_log], pa.int64()))
        places = {path: place for place, path in enumerate([*in_log, *missing])}
        table = pa.concat_tables([logged, *self._read_files("trials", missing, None, None)])
        return table.take(pa.array([places[path] for path in paths], pa.int64()))

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

    def _unit_paths(self, name: str, commits: Sequence[Commit], with_inner: bool) -> list[str]:
        """Files of units in a unit table: a pruned or failed one has no predictions and no genotype."""
        have_all = name in ("epochs", "folds")
        wanted = [c for c in commits if with_inner or c.key.inner is None]
        return [self._unit_path(name, c) for c in wanted if have_all or c.status == "complete"]

    def _read_small(self, name: str, columns: Columns, where: Where, with_inner: bool = False) -> list[pa.Table]:
        """The rows of a table that stand in small files, in the order of these; in several tables."""
        if name == "trials" and self.logged.trial_rows:
            return [_select(self._read_small_trials(), columns, where)]
        if name == "folds":
            all_paths = self._small_folds()
            paths = [path for path in all_paths if with_inner or not is_inner_name(PurePosixPath(path).stem)]
            have_all = len(paths) == len(all_paths)
        elif name in _UNIT_TABLES:
            paths, have_all = self._unit_paths(name, self._small_commits, with_inner), False
        else:
            paths, have_all = self._list_files(name), False
        tables = self._read_files(name, paths, columns, where)
        if have_all and "_small_commits" not in self.__dict__:  # their headers: they need not be read again
            headers = ((self._files_read[path].schema.metadata, self.storage.path(path)) for path in paths)
            self.__dict__["_small_commits"] = tuple(Commit.of(*header) for header in headers)
        return tables

    def _read_files(self, name: str, paths: list[str], columns: Columns, where: Where) -> list[pa.Table]:
        is_whole = where is not None or name in _READ_ONCE  # a filter may speak of any column

        def read(path: str) -> pa.Table:
            return read_parquet(self._read_file(path), name, self.storage.path(path), None if is_whole else columns)

        read_before = self._files_read if name in _READ_ONCE else {}
        missing = [path for path in paths if path not in read_before]
        read_before.update(zip(missing, self.storage.map(read, missing), strict=True))
        tables = [read_before[path] for path in paths]
        if where is not None and tables:  # one filter over all is far less than one a file
            tables = [pa.concat_tables(tables).combine_chunks().filter(where)]
        return tables if columns is None else [table.select(list(columns)) for table in tables]

    @cached_property
    def _files_read(self) -> dict[str, pa.Table]:
        """Small files that were read, of those tables that are `_READ_ONCE`."""
        return {}

    def _read_file(self, path: str) -> bytes:
        try:
            return self.storage.read(path)
        except FileNotFoundError as error:
            unit = PurePosixPath(path).name.rpartition(".s")[0]
            raise EmodartsError(
                f"{self.storage.path(path)} is gone, and its unit counts as ended: restore it, or delete all files of "
                f"the sweep whose names begin with {unit}, and another trial takes its place"
            ) from error

    def _read_compacted(self, name: str, columns: Columns, where: Where) -> pa.Table:
        table = self._compacted_table(name)
        return _select(TABLES[name].empty_table(), columns, None) if table is None else table.read(columns, where)

    def _compacted_table(self, name: str) -> CompactedTable | None:
        """None where it was compacted before there was this table."""
        assert self.compacted is not None
        path = self.compacted.files.get(name)
        if path is not None and name not in self._compacted_tables:
            self._compacted_tables[name] = CompactedTable(self.storage, self.storage.path(path), name)
        return self._compacted_tables.get(name)

    @cached_property
    def _compacted_tables(self) -> dict[str, CompactedTable]:
        """Those that were opened: their footers are read once."""
        return {}

    def _without_replaced(self, compacted: pa.Table, name: str, where: Where) -> pa.Table:
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

    def table(self, name: str, columns: Columns = None, where: Where = None, with_inner: bool = False) -> pa.Table:
        """Rows of `trials`, `rungs`, `folds`, `predictions`, `epochs`, `genotypes`, `ensembles`, `importances`,
        `utterances` or `corpora`.

        All columns, or those named; all rows, or those for which `where` holds: `pc.field("role") == "test"`; units on
        inner splits are no results, and their rows are there `with_inner` alone.
        """
        empty = _select(TABLES[name].empty_table(), columns, None)
        return pa.concat_tables([empty, *(part.table(name, columns, where, with_inner) for part in self.parts)])

    @cached_property
    def _rungs(self) -> list[RungRecord]:
        rows = [RungRecord(**row) for row in self.table("rungs").drop_columns("sweep").to_pylist()]
        return sorted(rows, key=lambda r: (r.decided_at, r.study, r.trial, r.rung))

    def rungs(self) -> list[RungRecord]:
        """The decisions on pruning, in the order in which they were taken; read once, as `trials` are."""
        return self._rungs

    def trials(self) -> list[TrialRecord]:
        """The trials as records, by study, trial and seed; read once, whatever number of systems asks for them."""
        return self._trials

    @cached_property
    def _trials(self) -> list[TrialRecord]:
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


def _select(table: pa.Table, columns: Columns, where: Where) -> pa.Table:
    if where is not None:
        table = table.filter(where)
    return table if columns is None else table.select(list(columns))


def _outer(where: Where) -> pc.Expression:
    """The same without the rows of units on inner splits."""
    is_outer = pc.field("inner").is_null()
    return is_outer if where is None else where & is_outer
