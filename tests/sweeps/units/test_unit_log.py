"""The log of ended units: the same rows with and without it, whatever moment a driver is killed at, and few reads."""

import json
import shutil
import threading

import pytest

from emodarts.results import commit_log, reader
from emodarts.results.commit_log import LOG
from emodarts.results.compaction import compact
from emodarts.results.reader import Results
from emodarts.results.schemas import TABLES
from emodarts.storage import Storage, StorageError
from sweeps.units.outcomes import UnitOutcome
from sweeps.units.unit_log import logging_ended_units
from tests.support.studies import begin, commit, rows

SWEEP = {"folds": (0, 1), "trials": 3, "sampler": "random"}


class Killed(Exception):
    """What ends a driver in these tests."""


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(commit_log, "EVERY", 2)


def run(root, fails=(), **sweep):
    """A driver from its start to the end of what there is to do; units of the trials `fails` fail."""
    queue = begin(root, **{**SWEEP, **sweep})
    with logging_ended_units(queue.writer, reader.open(root)):
        while (unit := queue.next_unit()) is not None:
            if unit.key.trial in fails:
                ended = queue.writer.commit_ended(unit.key, "failed", "NaN", (), f"x{unit.key.fold}")
                queue.on_unit_end(unit, UnitOutcome.of_commit(ended))
            else:
                commit(queue, unit)
                (stands,) = [c for c in reader.open(root).commits if c.key.name == unit.key.name]
                queue.on_unit_end(unit, UnitOutcome.of_commit(stands))
    return queue


def tables(root):
    opened = Results.of(Storage.open(root), ["s"])
    commits = sorted(json.dumps(c.header()) for c in opened.commits)
    return commits, {n: [json.dumps(r, default=str) for r in opened.table(n).to_pylist()] for n in TABLES}


def tables_without_log(root, folder):
    shutil.copytree(root, folder)
    shutil.rmtree(folder / "s" / LOG, ignore_errors=True)
    return tables(folder)


def reads(root, monkeypatch):
    """The small files that a start of the driver reads."""
    paths, read = [], Storage.read
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "read", lambda self, path: paths.append(path) or read(self, path))
        begin(root, **SWEEP)
    return [path for path in paths if path.startswith(("s/folds/", "s/trials/"))]


def test_a_start_reads_the_log_in_the_place_of_its_small_files(tmp_path, monkeypatch):
    run(tmp_path / "a")
    assert tables(tmp_path / "a") == tables_without_log(tmp_path / "a", tmp_path / "b")
    assert len(reads(tmp_path / "b", monkeypatch)) == 12, "six units and six configurations"
    assert reads(tmp_path / "a", monkeypatch) == []


def test_what_earlier_versions_left_is_logged_at_the_next_start(tmp_path, monkeypatch):
    run(tmp_path / "a")
    shutil.rmtree(tmp_path / "a/s" / LOG)
    run(tmp_path / "a")
    assert reads(tmp_path / "a", monkeypatch) == []
    assert tables(tmp_path / "a") == tables_without_log(tmp_path / "a", tmp_path / "b")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The trials of a sweep that nobody disturbed."""
    root = tmp_path_factory.mktemp("undisturbed")
    run(root)
    return rows(root)


@pytest.mark.slow
@pytest.mark.parametrize("step", range(0, 38, 4))
def test_a_kill_at_any_moment_loses_and_doubles_nothing(tmp_path, monkeypatch, undisturbed, step):
    root, count = tmp_path / "a", [0]

    def counted(name):
        original = getattr(Storage, name)

        def act(self, relative, *more):
            count[0] += 1
            if count[0] > step:  # nothing is written any more, by whatever thread
                raise Killed if threading.current_thread() is threading.main_thread() else StorageError("killed")
            return original(self, relative, *more)

        return act

    with monkeypatch.context() as patch:
        for name in ("write", "write_new", "delete", "delete_folder"):
            patch.setattr(Storage, name, counted(name))
        with pytest.raises(Killed):
            run(root)
    if (root / "s").exists():
        assert tables(root) == tables_without_log(root, tmp_path / "b")
    run(root)
    assert tables(root) == tables_without_log(root, tmp_path / "c")
    assert rows(root) == undisturbed


def test_a_failed_unit_that_runs_again_is_what_is_read(tmp_path):
    run(tmp_path / "a", fails=(1,))
    run(tmp_path / "a", retry_failed=True)
    assert {c.status for c in reader.open(tmp_path / "a").commits} == {"complete"}
    assert tables(tmp_path / "a") == tables_without_log(tmp_path / "a", tmp_path / "b")


def test_a_unit_that_somebody_deleted_and_that_ran_again_is_what_is_read(tmp_path):
    root = tmp_path / "a"
    run(root, study_per="sweep", trials=1)
    for path in (root / "s/trials").iterdir():  # the configuration goes on with the fold whose files are gone
        path.unlink()
    (root / "s/folds/emodarts.shared.t00000.s0.f1.parquet").unlink()
    run(root, study_per="sweep", trials=1)
    assert tables(root) == tables_without_log(root, tmp_path / "b")


def test_a_compacted_sweep_has_no_log_and_goes_on_with_one(tmp_path, monkeypatch):
    run(tmp_path / "a", trials=2)
    before = tables(tmp_path / "a")[0]
    compact(Storage.open(tmp_path / "a"), "s")
    assert not (tmp_path / "a/s" / LOG).exists()
    assert tables(tmp_path / "a")[0] == before
    run(tmp_path / "a")
    assert reads(tmp_path / "a", monkeypatch) == []
    assert len(tables(tmp_path / "a")[0]) == 6


def test_segments_that_are_damaged_or_too_many_are_made_anew(tmp_path, monkeypatch):
    root = tmp_path / "a"
    run(root)
    segments = sorted((root / "s" / LOG).iterdir())
    assert len(segments) > 2
    segments[0].write_bytes(b"PAR1")
    assert tables(root) == tables_without_log(root, tmp_path / "b")
    monkeypatch.setattr("sweeps.units.unit_log.MOST_FILES", 2)
    run(root)
    assert len(list((root / "s" / LOG).iterdir())) == 2, "one of commits and one of trials"
    assert reads(root, monkeypatch) == []
