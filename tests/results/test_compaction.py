"""Compaction: the same rows from a few large files, whatever moment a process is killed at, and on from there."""

import json

import pytest

from emodarts.cli import main
from emodarts.errors import EmodartsError
from emodarts.records import TrialRecord
from emodarts.results import open as open_results
from emodarts.results import reader
from emodarts.results.compacted_files import COMPACT_FILE
from emodarts.results.compaction import compact
from emodarts.results.lease import Lease
from emodarts.results.schemas import TABLES
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from tests.support.studies import begin, commit, run_all
from tests.support.unit_records import key, records


class Killed(Exception):
    """What ends a process in these tests."""


def rows(storage):
    opened = reader.Results.of(storage, ["s"])
    found = {n: sorted(json.dumps(r, sort_keys=True, default=str) for r in opened.table(n).to_pylist()) for n in TABLES}
    return found, sorted((c.key.name, c.attempt, c.status, str(c.reason)) for c in opened.commits)


def fill(storage, trials=range(3)):
    """Units of all ends, and the files of an attempt that does not count."""
    register(storage, "s", {})
    writer = SweepWriter(storage, "s")
    for trial in trials:
        for fold in range(2):
            unit = key(trial, fold)
            writer._write("predictions", f"predictions/{unit.name}.lost.parquet", [])
            if (trial, fold) == (1, 1):
                writer.commit_ended(unit, "pruned", "at a rung", records().epochs, "driver")
            elif (trial, fold) == (2, 1):
                writer.commit_ended(unit, "failed", "NaN", (), "x")
            else:
                writer.commit(unit, records(fold=fold), "x")
            status = "complete" if trial == 0 else ("pruned" if trial == 1 else "failed")
            writer.write_trial(TrialRecord("emodarts", unit.study, trial, 0, {"a": 1}, status, values=(0.5,)))
    writer.write_importances("emodarts", "fold0", {"search.nodes": 0.7, "search.epochs": 0.3})
    writer.write_corpus("demo", 10, [{"path": "a.wav", "reason": "is empty"}], {"bored": 2}, "{}")
    return writer


@pytest.fixture(params=["folder", "object store"])
def storage(request, tmp_path):
    if request.param == "folder":
        return Storage.open(tmp_path)
    return Storage.open(request.getfixturevalue("bucket").format(request.node.name.partition("[")[0]))


@pytest.mark.slow
def test_rows_are_the_same_and_the_small_files_are_gone(storage):
    fill(storage)
    before = rows(storage)
    assert compact(storage, "s") > 20
    assert rows(storage) == before
    assert not any(storage.list(f"s/{name}") for name in TABLES)
    assert len(storage.list("s/compact")) == len(TABLES) + 1
    assert compact(storage, "s") == 0  # once more changes nothing
    assert rows(storage) == before


@pytest.mark.slow
def test_a_compacted_sweep_goes_on_and_is_compacted_again(storage):
    writer = fill(storage)
    compact(storage, "s")
    before = rows(storage)
    unit = key(3, 0)
    writer.commit(unit, records(), "x")
    writer.write_trial(TrialRecord("emodarts", unit.study, 3, 0, {"a": 2}, "complete", values=(0.6,)))
    writer.write_trial(TrialRecord("emodarts", unit.study, 0, 0, {"a": 1}, "complete", retries=5, values=(0.5,)))
    writer.write_importances("emodarts", "fold0", {"search.nodes": 1.0})
    between = rows(storage)
    assert len(between[1]) == len(before[1]) + 1
    opened = reader.Results.of(storage, ["s"])
    assert [(t.trial, t.retries) for t in opened.trials() if t.study == unit.study][:1] == [(0, 5)]
    assert [r["value"] for r in opened.table("importances").to_pylist()] == [1.0]
    compact(storage, "s")
    assert rows(storage) == between
    assert len(storage.list("s/compact")) == len(TABLES) + 1


@pytest.mark.slow
@pytest.mark.parametrize("step", range(0, 27, 2))
def test_a_kill_at_any_moment_loses_and_doubles_nothing(tmp_path, monkeypatch, step):
    storage = Storage.open(tmp_path)
    fill(storage)
    compact(storage, "s")
    fill(storage, trials=range(3, 5))
    before = rows(storage)
    done = []

    def counted(name):
        original = getattr(Storage, name)

        def act(self, relative, *more):
            if "lease" not in relative:
                if len(done) == step:
                    raise Killed
                done.append(relative)
            return original(self, relative, *more)

        return act

    with monkeypatch.context() as patch:
        for name in ("write", "create", "delete", "delete_folder"):
            patch.setattr(Storage, name, counted(name))
        with pytest.raises(Killed):
            compact(storage, "s")
    assert rows(storage) == before
    compact(storage, "s")
    assert rows(storage) == before
    assert not any(storage.list(f"s/{name}") for name in TABLES)


@pytest.mark.slow
def test_studies_are_rebuilt_from_compacted_tables(tmp_path):
    whole = run_all(begin(tmp_path / "a", trials=3))
    run_all(begin(tmp_path / "b", trials=2))
    compact(Storage.open(tmp_path / "b"), "s")
    again = begin(tmp_path / "b", trials=3)
    assert again.units_ended == 6
    while (unit := again.next_unit()) is not None:
        assert unit.key.trial == 2, "what was compacted is not run again"
        again.on_unit_end(unit, commit(again, unit))
    assert {s: list(t) for s, t in again.trials.items()} == {s: list(t) for s, t in whole.trials.items()}
    drawn = [[t.parameters for t in s.trials["fold0"].values()] for s in (again, whole)]
    assert drawn[0] == drawn[1]


def test_what_is_not_at_its_end_is_refused(tmp_path):
    storage = Storage.open(tmp_path)
    writer = fill(storage)
    with Lease(storage, "s"), pytest.raises(EmodartsError, match="is held by process"):
        compact(storage, "s")
    writer.write_trial(TrialRecord("emodarts", "fold0", 9, 0, {}))
    with pytest.raises(EmodartsError, match="has 1 configurations that are not at their end"):
        compact(storage, "s")
    assert not storage.exists(f"s/{COMPACT_FILE}")


def test_damaged_files_are_named(tmp_path):
    storage = Storage.open(tmp_path)
    fill(storage)
    compact(storage, "s")
    (folds,) = (tmp_path / "s" / "compact").glob("*.folds.parquet")
    folds.write_bytes(folds.read_bytes()[:100])
    with pytest.raises(EmodartsError, match=r"folds.parquet cannot be read as Parquet .*restore it from a copy"):
        reader.open(tmp_path).table("folds")
    (tmp_path / "s" / COMPACT_FILE).write_text("{}")
    with pytest.raises(EmodartsError, match=r"compact.json is damaged .*restore it from a copy"):
        reader.open(tmp_path).table("folds")


def test_the_command_and_several_places(tmp_path, capsys):
    for name in ("a", "b"):
        fill(Storage.open(tmp_path / name))
    assert main(["compact", str(tmp_path / "a")]) == 0
    assert "s: " in capsys.readouterr().out
    both = open_results(tmp_path / "a", tmp_path / "b")
    assert both.sweeps == ("s", "s")
    assert both.table("folds").num_rows == 2 * open_results(tmp_path / "a").table("folds").num_rows
    assert main(["compact", str(tmp_path / "nothing")]) == 1
    assert "does not exist" in capsys.readouterr().err
