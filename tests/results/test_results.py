import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emodarts import cli
from emodarts.errors import EmodartsError
from emodarts.records import Evaluation, TrialRecord, UnitRecords
from emodarts.report.notices import comparability_notices
from emodarts.report.report_data import load_report_data
from emodarts.report.terminal import summarise
from emodarts.results import reader
from emodarts.results.lease import STALE, Lease, process_start
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from tests.support.files import REPOSITORY
from tests.support.unit_records import evaluation, key, records


@pytest.fixture
def storage(tmp_path):
    storage = Storage.open(tmp_path)
    register(storage, "s", {"a": 1})
    return storage


def finish(writer, trial, dev, test, fold=0, seed=0, size=10, study=None):
    k = key(trial, fold, seed, study)
    writer.commit(k, records(dev, test, fold, size), "x")
    uar = reader.open(writer.storage.root).table("folds").to_pylist()[0]["uar"]
    assert uar is not None
    value = (dev / 4,)
    writer.write_trial(TrialRecord("emodarts", k.study, trial, seed, {}, "complete", values=value))


def test_a_crash_before_the_commit_leaves_no_row(storage, monkeypatch):
    """Whatever write is the last one to succeed, a unit is there whole or not at all."""
    for crash_at in range(4):
        with monkeypatch.context() as patch:
            count = []
            for name in ("write", "write_new"):
                original = getattr(Storage, name)

                def write(self, relative, content, count=count, crash_at=crash_at, original=original):
                    if len(count) == crash_at:
                        raise KeyboardInterrupt
                    count.append(relative)
                    return original(self, relative, content)

                patch.setattr(Storage, name, write)
            with pytest.raises(KeyboardInterrupt):
                SweepWriter(storage, "s").commit(key(), records(), f"attempt{crash_at}")
        opened = reader.open(storage.root)
        assert all(opened.table(t).num_rows == 0 for t in ("folds", "predictions", "epochs", "genotypes"))
    SweepWriter(storage, "s").commit(key(), records(), "whole")
    assert SweepWriter(storage, "s").commit(key(), records(test=4), "later").attempt == "whole"
    opened = reader.open(storage.root)
    assert [c.attempt for c in opened.commits] == ["whole"]
    assert opened.table("predictions").num_rows == 8
    assert opened.table("folds").num_rows == 2


@pytest.mark.slow
@pytest.mark.parametrize("place", ["local", "s3"])
def test_of_commits_that_meet_one_stands_and_all_are_told_so(tmp_path, bucket, place):
    """Attempts that all looked before any of them had committed: each with another UAR on test."""
    storage = Storage.open(tmp_path if place == "local" else bucket.format("meet"))
    register(storage, "s", {"a": 1})
    together, attempts = threading.Barrier(4), {f"attempt{n}": n for n in range(4)}

    class Meeting(SweepWriter):
        def _commit(self, commit, rows):
            together.wait()
            return super()._commit(commit, rows)

    def commit(attempt):
        return Meeting(storage, "s").commit(key(), records(test=attempts[attempt]), attempt).attempt

    with ThreadPoolExecutor(4) as pool:
        standing = set(pool.map(commit, attempts))
    (commit_in_tables,) = reader.Results.of(storage, ["s"]).commits
    assert standing == {commit_in_tables.attempt}
    (test,) = [r for r in reader.Results.of(storage, ["s"]).table("folds").to_pylist() if r["role"] == "test"]
    assert test["uar"] == attempts[commit_in_tables.attempt] / 4


def test_the_first_commit_of_a_unit_stands(storage):
    """A worker that was taken for dead, or pruned a moment ago, may still come to its end."""
    writer = SweepWriter(storage, "s")
    pruned = writer.commit_ended(key(), "pruned", "at the first rung", records().epochs, "driver")
    assert writer.commit(key(), records(), "late") == pruned
    assert writer.commit_ended(key(), "failed", "later still", (), "later") == pruned
    opened = reader.open(storage.root)
    assert [(c.status, c.attempt) for c in opened.commits] == [("pruned", "driver")]
    assert opened.table("epochs").num_rows == 1
    assert opened.table("folds").num_rows == opened.table("predictions").num_rows == 0


def test_a_failed_unit_keeps_its_epochs_and_no_figures(storage):
    SweepWriter(storage, "s").commit_ended(key(), "failed", "NaN loss", records().epochs, "x")
    opened = reader.open(storage.root)
    assert opened.commits[0].status == "failed"
    assert opened.table("epochs").num_rows == 1
    assert opened.table("folds").num_rows == opened.table("predictions").num_rows == 0


def test_hidden_labels_stay_out_of_the_figures(storage):
    hidden = evaluation("test", 2)
    hidden = Evaluation(**{**hidden.__dict__, "labels": (None,) * 4})
    base = records()
    SweepWriter(storage, "s").commit(key(), UnitRecords(**{**base.__dict__, "evaluations": (hidden,)}), "x")
    row = reader.open(storage.root).table("folds").to_pylist()[0]
    assert row["n"] == 0
    assert row["uar"] is None
    assert reader.open(storage.root).table("predictions").num_rows == 4


def system_results(storage):
    """What a report has of the one system, on its one test set."""
    (system,) = load_report_data(reader.open(storage.root), top=0).systems
    (part,) = system.parts("test")
    return system, part


def test_report_selects_by_dev_alone(storage, capsys):
    writer = SweepWriter(storage, "s")
    finish(writer, 0, dev=3, test=4)  # the best test figure, a worse dev figure
    finish(writer, 1, dev=4, test=2, size=20)
    finish(writer, 2, dev=4, test=1, size=10)  # equal dev figure, fewer parameters
    finish(writer, 0, dev=4, test=3, fold=1)
    system, part = system_results(storage)
    summary = summarise(system, part)
    assert [(line.fold, line.trial) for line in summary.folds] == [(0, 2), (1, 0)]
    assert [line.test.uar for line in summary.folds] == [0.25, 0.75]
    assert summary.pooled.uar == pytest.approx(0.5)
    over_folds = summary.over_folds("uar")
    assert (over_folds.mean, over_folds.deviation) == (0.5, pytest.approx(0.5 / np.sqrt(2)))
    assert summary.majority.uar == 0.5
    assert not system.shared
    assert cli.main(["report", storage.root]) == 0
    (chance,) = (line for line in capsys.readouterr().out.splitlines() if "chance" in line)
    assert ".500" in chance


def test_report_averages_the_winners_seeds_and_counts_failures(storage, capsys):
    writer = SweepWriter(storage, "s")
    finish(writer, 0, dev=4, test=4)
    writer.commit(key(0, 0, 1), records(4, 2), "x")
    writer.write_trial(TrialRecord("emodarts", "fold0", 0, 1, {}, "complete", values=(1.0,)))
    writer.write_trial(TrialRecord("emodarts", "fold0", 1, 0, {}, "failed", reason="NaN loss"))
    summary = summarise(*system_results(storage))
    assert summary.folds[0].seeds == 2
    assert summary.folds[0].test.uar == pytest.approx(0.75)
    assert summary.pooled.uar == pytest.approx(0.75)
    assert load_report_data(reader.open(storage.root)).sweeps[0].failures == ("emodarts, fold0 trial 1: NaN loss",)
    assert cli.main(["report", storage.root]) == 0
    assert "NaN loss" in capsys.readouterr().out


def test_shared_selection_is_marked(storage):
    writer = SweepWriter(storage, "s")
    for fold in (0, 1):
        writer.commit(key(0, fold, study="shared"), records(fold=fold), "x")
    writer.write_trial(TrialRecord("emodarts", "shared", 0, 0, {}, "complete", values=(0.5,)))
    system, _ = system_results(storage)
    assert system.shared
    assert any("selection saw these speakers" in n for n in comparability_notices([system]))


@pytest.mark.parametrize("where", ["nowhere", "empty"])
def test_no_results(tmp_path, where, capsys):
    (tmp_path / "empty").mkdir()
    assert cli.main(["report", str(tmp_path / where)]) == 1
    assert "error: there" in capsys.readouterr().err


def test_foreign_and_damaged_files_are_refused(storage, tmp_path):
    SweepWriter(storage, "s").commit(key(), records(), "x")
    foreign = tmp_path / "s" / "folds" / "foreign.parquet"
    pq.write_table(pa.table({"x": [1]}), foreign)
    with pytest.raises(EmodartsError, match=r"foreign\.parquet is no folds table"):
        _ = reader.open(tmp_path).commits
    foreign.write_bytes(b"PAR1 but no more")
    with pytest.raises(EmodartsError, match="cannot be read as Parquet"):
        _ = reader.open(tmp_path).commits


def test_other_settings_under_the_same_name_are_refused(storage):
    register(storage, "s", {"a": 1})
    with pytest.raises(EmodartsError, match="a was 1, now 2; b was None, now 3"):
        register(storage, "s", {"a": 2, "b": 3})


def test_unwritable_places(tmp_path):
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(EmodartsError, match="cannot write"):
            Storage.open(bad).check_writable()
    with pytest.raises(EmodartsError, match="cannot be opened"):
        Storage.open("nonsense://bucket/x")


def test_the_second_holder_is_told_who_holds_the_sweep(storage):
    with Lease(storage, "s"), pytest.raises(EmodartsError, match=rf"held by process {os.getpid()} on .* since 20"):
        Lease(storage, "s").__enter__()
    with Lease(storage, "s"):
        pass
    assert not storage.exists("s/lease.json")


@pytest.mark.slow
def test_the_start_of_a_process_with_a_title_that_is_cut_within_a_character():
    """As those of Ray's workers are: `ray::trial 12 · fold 3`."""
    title = "from ray._raylet import setproctitle as s; s('ray::trial 12 \u00b7 x'); print(1, flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", title], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        assert b"\xc2)" in Path(f"/proc/{process.pid}/stat").read_bytes()
        assert process_start(process.pid).isdigit()
    finally:
        process.communicate(b"\n")


def test_the_lease_of_a_killed_holder_is_taken_over(storage):
    code = (
        "import sys, time; from emodarts.results.lease import Lease; from emodarts.storage import Storage\n"
        "with Lease(Storage.open(sys.argv[1]), 's'): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, storage.root], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(EmodartsError, match=f"process {holder.pid}"):
        Lease(storage, "s").__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with Lease(storage, "s"):
        pass


def test_a_lease_of_another_host_goes_stale(storage):
    now = [1000.0]
    far = Lease(storage, "s", clock=lambda: now[0], host="far")
    far.__enter__()
    far._stop.set()
    near = Lease(storage, "s", clock=lambda: now[0], host="near")
    now[0] += STALE - 1
    with pytest.raises(EmodartsError, match="on far"):
        near.__enter__()
    now[0] += 2
    with near:
        assert json.loads(storage.read(near.path))["host"] == "near"
        far.__exit__()  # the old holder does not take away what is not its own
        assert storage.exists(near.path)
        with pytest.raises(EmodartsError, match="on near"):
            Lease(storage, "s", clock=lambda: now[0], host="third").__enter__()
    assert not [name for name in storage.list("s") if name.startswith("lease")]


@pytest.mark.parametrize("is_stale", [False, True], ids=["free", "stale"])
def test_of_drivers_that_meet_one_holds_the_sweep_though_its_put_comes_late(bucket, monkeypatch, is_stale):
    """On an S3 server: the first to ask is the last whose PUT arrives."""
    storage = Storage.open(bucket.format(f"late-lease-{is_stale}"))
    if is_stale:
        Lease(storage, "s", host="far", clock=lambda: 0.0)._take()
    original, late = Storage.write_new, threading.Event()

    def write_new(self, relative, content):
        if not late.is_set():
            late.set()
            time.sleep(0.3)
        return original(self, relative, content)

    monkeypatch.setattr(Storage, "write_new", write_new)

    def hold(_):
        try:
            return Lease(storage, "s").__enter__()
        except EmodartsError as error:
            return str(error)

    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(hold, range(3))
    (held,) = [lease for lease in (first, *others) if isinstance(lease, Lease)]
    assert all("is held by process" in text for text in (first, *others) if isinstance(text, str))
    held.__exit__()
    assert storage.list("s") == []


def test_a_lease_can_be_waited_for(storage, monkeypatch):
    monkeypatch.setattr("emodarts.results.lease.WAITING", 0.02)
    sentences = []
    with Lease(storage, "s") as first, ThreadPoolExecutor(1) as pool:
        second = pool.submit(Lease(storage, "s", on_wait=sentences.append).__enter__)
        deadline = time.time() + 10
        while not sentences and time.time() < deadline:
            time.sleep(0.01)
        assert not second.done()
        first.__exit__()
        second.result(timeout=10).__exit__()
    (sentence,) = sentences
    assert "is held by process" in sentence


def test_a_lease_that_was_cut_off_holds_nothing(storage):
    """As a machine leaves it that loses its power."""
    storage.write("s/lease.json", b'{"token": "12')
    with Lease(storage, "s"), pytest.raises(EmodartsError, match="is held by process"):
        Lease(storage, "s").__enter__()
    assert not [name for name in storage.list("s") if name.startswith("lease")]


def test_a_lost_lease_is_noticed(storage, monkeypatch):
    monkeypatch.setattr("emodarts.results.lease.RENEWAL", 0.05)
    lost = []
    with Lease(storage, "s", on_lost=lambda: lost.append(True)):
        content = json.loads(storage.read("s/lease.json"))
        storage.write("s/lease.json", json.dumps({**content, "token": "another"}).encode())
        deadline = time.time() + 10
        while not lost and time.time() < deadline:
            time.sleep(0.02)
    assert lost
