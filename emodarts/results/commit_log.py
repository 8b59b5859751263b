"""The log of a sweep: what a restart reads of ended units, in one file for many. Never the truth: an entry counts while
the small file that it copies is there.

A thread of the driver writes it, one file (segment) for every so many units; behind the last one is a short tail of
small files. A kill at any moment leaves whole segments, and what stands in none is read from its own file.
"""

import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from emodarts.records import TrialRecord
from emodarts.results.commits import Commit
from emodarts.results.compacted_files import commits_in, commits_table
from emodarts.results.encoding import encode_rows, encode_table, trial_file, trial_row
from emodarts.results.schemas import TABLES
from emodarts.storage import Storage, StorageError

LOG = "log"  # below the sweep
MOST_FILES = 400  # of segments, then they are made one
EVERY = 1000  # units a segment
Entry = TypeVar("Entry")
_TRIALS, _COMMITS = ".trials.parquet", ".commits.parquet"


@dataclass(frozen=True)
class LoggedUnits:
    """What the segments hold: commits by the unit's name, trials and the row of each of their files there."""

    commits: dict[str, Commit] = field(default_factory=dict)
    trials: pa.Table = field(default_factory=TABLES["trials"].empty_table)
    trial_rows: dict[str, int] = field(default_factory=dict)
    files: int = 0

    @classmethod
    def load(cls, storage: Storage, sweep: str) -> "LoggedUnits":
        """All segments of a sweep, later entries in the place of earlier ones; what cannot be read is in none."""

        def read(path: str) -> bytes:
            try:
                return storage.read(path)
            except FileNotFoundError:  # a driver makes the log anew
                return b""

        paths = [f"{sweep}/{LOG}/{name}" for name in storage.list(f"{sweep}/{LOG}", ".parquet")]
        commits: dict[str, Commit] = {}
        trials = [TABLES["trials"].empty_table()]
        for path, content in zip(paths, storage.map(read, paths), strict=True):
            with suppress(pa.ArrowInvalid):  # it is damaged, or gone
                rows = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
                if path.endswith(_COMMITS):
                    commits |= {commit.key.name: commit for commit in commits_in(rows, storage.path(path))}
                else:
                    trials.append(rows.replace_schema_metadata(None).cast(TABLES["trials"]))
        table = pa.concat_tables(trials)
        keys = zip(*(table[name].to_pylist() for name in ("system", "study", "trial", "seed")), strict=True)
        return cls(commits, table, {trial_file(*key): row for row, key in enumerate(keys)}, len(paths))


class CommitLog:
    """Takes ended units and trials into the log of a sweep, whose lease the caller holds.

    Nobody waits for its thread but `close`, which writes what is left. What cannot be written is left out.
    """

    def __init__(self, storage: Storage, sweep: str):
        self.storage, self.sweep = storage, sweep
        self._commits: deque[Commit] = deque()
        self._trials: deque[TrialRecord] = deque()
        self._has_ended, self._may_have_files = False, True
        self._wake, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="commit log", daemon=True)
        self._thread.start()

    def add(self, commits: Iterable[Commit] = (), trials: Iterable[TrialRecord] = ()) -> None:
        """Take units and configurations that are at their end, and whose own files are written."""
        self._commits.extend(commits)
        self._trials.extend(trials)
        if max(len(self._commits), len(self._trials)) >= EVERY:
            self._wake.set()

    def discard(self) -> None:
        """Delete the log, before one of its entries becomes wrong. Raises StorageError."""
        with self._lock:
            self._commits.clear()
            self._trials.clear()
            if self._may_have_files:
                self.storage.delete_folder(f"{self.sweep}/{LOG}")
                self._may_have_files = False

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self._has_ended = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        has_ended = False
        while not has_ended:  # asked before a segment is written: the last one has what came during the one before
            self._wake.wait()
            self._wake.clear()
            has_ended = self._has_ended
            with suppress(StorageError), self._lock:
                self._write()

    def _write(self) -> None:
        """A segment: a file of commits and one of trials, either by itself."""
        name = f"{self.sweep}/{LOG}/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        self._may_have_files = True
        if commits := _drain(self._commits):
            self.storage.write(f"{name}{_COMMITS}", encode_table(commits_table(commits)))
        if trials := _drain(self._trials):
            self.storage.write(f"{name}{_TRIALS}", encode_rows("trials", [trial_row(self.sweep, t) for t in trials]))


def _drain(entries: deque[Entry]) -> list[Entry]:
    """Take what is there now, while others may append."""
    return [entries.popleft() for _ in range(len(entries))]
