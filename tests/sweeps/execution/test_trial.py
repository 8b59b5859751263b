"""A unit in its worker, without Ray: what is written, kept, reported and left behind, however it ends."""

import errno
import json
import socket
from collections import Counter
from dataclasses import asdict, replace

import pytest
from ray import tune

from emodarts.experiment import unit_checkpoints
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.experiment.unit_spec import UnitSpec
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.files import SCHEMA_VERSION
from emodarts.records import EpochRecord, TrialRecord
from emodarts.results import reader
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.search.settings import SearchSettings
from emodarts.storage import Storage
from emodarts.training.settings import TrainingSettings
from sweeps.data.placement import StoreLocation
from sweeps.execution import metrics as telemetry
from sweeps.execution import trainable, worker
from sweeps.execution.faults import PlaceFaultError
from sweeps.execution.stop_requests import DRIVER, NODE, StopListener
from sweeps.execution.sweep_spec import SweepSpec
from sweeps.execution.trainable import run_unit
from sweeps.units.checkpoint_folders import CHECKPOINTS
from sweeps.units.outcomes import UnitOutcome
from tests.support.interruptions import counting

SETTINGS = FoldSettings(
    FeatureSettings(n_mels=32),
    SearchSettings(
        epochs=2, cells=2, nodes=1, channels=4, sequence_width=8, stem_channels=4, crop_seconds=0.4,
        cnn_operations=["none", "skip_connect", "avg_pool_3x3"],
        sequence_operations=["none", "skip_connect", "lstm_1"],
    ),
    TrainingSettings(epochs=2, channels=4, sequence_width=8, crop_seconds=0.4),
)  # fmt: skip


class Killed(Exception):
    """What ends a worker in these tests."""


@pytest.fixture(scope="module")
def plan(demo, demo_store):
    """Two epochs of a small search and two of a training, on a quarter of a fold."""
    whole = demo[2][0]
    tests = {name: ids[::4] for name, ids in whole.tests.items()}
    fold = replace(whole, train=whole.train[::4], dev=whole.dev[::2], tests=tests)
    store = StoreLocation(str(demo_store.folder), socket.gethostname(), None)
    return SweepSpec("s", "", (store,), {0: fold}, threads=1)


def unit_of(plan):
    trial, rungs = TrialRecord("emodarts", "fold0", 0, 0, {}), (("search", 0.5), ("train", 0.5))
    return UnitSpec.of(plan.folds[0], SETTINGS, trial, "s", ("demo",), sweep_seed=1, device="cpu", rungs=rungs)


def run(plan):
    run_unit({"unit": unit_of(plan), "gpus": 0, "avoid": (), "parkings": 0}, plan)


def test_a_place_that_struck_a_unit_is_held_the_longer_the_oftener_the_unit_comes_back(at, monkeypatch):
    """Tune gives a free worker a unit before one that still starts elsewhere, and ends the latter."""
    held, reports = [], Reports(monkeypatch)
    monkeypatch.setattr(trainable.time, "sleep", held.append)
    sweep = at()
    for parkings in (0, 1, 2, 100):
        run_unit({"unit": unit_of(sweep), "gpus": 0, "avoid": ("here",), "parkings": parkings}, sweep)
    assert held == [20, 40, 80, 640]
    assert reports.told == 4 * [{"status": "parked"}]


@pytest.fixture
def at(plan, tmp_path, monkeypatch):
    """The plan with results in a new folder, or at a place."""
    monkeypatch.setattr(telemetry, "setproctitle", lambda title: None)
    monkeypatch.setattr(trainable, "current_place", lambda: "here")

    def place(location=tmp_path):
        register(Storage.open(location), "s", {})
        return replace(plan, results=str(location))

    return place


class Reports:
    """Stands for Tune: takes reports, and at one of them does what the test says."""

    def __init__(self, monkeypatch, number=None, act=None):
        self.told, self.number, self.act = [], number, act
        monkeypatch.setattr(tune, "report", self)

    def __call__(self, metrics):
        if "place" in metrics or metrics["status"] == "struck":  # where it runs, and what met it: not of the unit
            return
        self.told.append(metrics)
        if len(self.told) == self.number:
            self.act()


def raising(error):
    def act():
        raise error

    return act


def kept(plan):
    """Names of the checkpoint files of the unit."""
    storage = Storage.open(plan.results)
    return [name for unit in storage.list(f"s/{CHECKPOINTS}") for name in storage.list(f"s/{CHECKPOINTS}/{unit}")]


def commits(plan):
    opened = reader.Results.of(Storage.open(plan.results), ["s"])
    return [(c.status, c.reason) for c in opened.commits]


def rows(plan):
    opened = reader.Results.of(Storage.open(plan.results), ["s"])
    loose = ["seconds"]
    return {
        "predictions": opened.table("predictions").to_pylist(),
        "epochs": opened.table("epochs").drop(loose).to_pylist(),
        "genotypes": opened.table("genotypes").to_pylist(),
    }


@pytest.fixture(scope="module")
def undisturbed(plan, tmp_path_factory):
    """Rows, reports and steps of a unit that nobody disturbed."""
    place = replace(plan, results=str(tmp_path_factory.mktemp("undisturbed")))
    register(Storage.open(place.results), "s", {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telemetry, "setproctitle", lambda title: None)
        patch.setattr(trainable, "current_place", lambda: "here")
        reports, steps = Reports(patch), Counter()
        with counting(steps):
            run(place)
    assert kept(place) == []
    assert commits(place) == [("complete", None)]
    return rows(place), reports.told, steps


@pytest.mark.slow
def test_rungs_are_reported_with_all_epochs_so_far_and_then_the_end(undisturbed):
    first, second, end = undisturbed[1]
    assert [(r["status"], r["rung"], len(r["epochs"])) for r in (first, second)] == [
        ("running", 0, 1),
        ("running", 1, 3),
    ]
    assert [(e.phase, e.epoch) for e in second["epochs"]] == [("search", 0), ("search", 1), ("train", 0)]
    assert second["dev_uar"] == second["epochs"][-1].dev_uar
    assert end["status"] == "complete"
    assert 0 <= end["dev_uar"] <= 1
    assert end["parameters"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("where", ["folder", "object store"])
def test_a_killed_unit_goes_on_bit_for_bit_and_reports_its_rungs_again(at, undisturbed, monkeypatch, request, where):
    place = at() if where == "folder" else at(request.getfixturevalue("bucket").format("killed"))
    for number in (1, 2):
        Reports(monkeypatch, number, raising(Killed()))
        with pytest.raises(Killed):
            run(place)
    assert "searched.safetensors" in kept(place)
    assert commits(place) == []
    reports = Reports(monkeypatch)
    run(place)
    assert rows(place) == undisturbed[0]
    # What was told before the kill is told again, the seconds of the epochs included.
    assert [(r["status"], r["dev_uar"]) for r in reports.told] == [(r["status"], r["dev_uar"]) for r in undisturbed[1]]
    assert kept(place) == []


def test_a_pruned_unit_leaves_no_checkpoints_and_writes_nothing(at, monkeypatch):
    place = at()
    writer, key = SweepWriter(Storage.open(place.results), "s"), unit_of(place).key

    def prune():  # what the driver does before Tune lets the worker's report raise
        writer.commit_ended(key, "pruned", "at the first rung", (), "driver")
        raise SystemExit(0)

    Reports(monkeypatch, 1, prune)
    with pytest.raises(SystemExit):
        run(place)
    assert kept(place) == []
    assert commits(place) == [("pruned", "at the first rung")]


@pytest.mark.slow
def test_a_unit_whose_worker_died_after_its_commit_is_told_and_not_run_again(at, undisturbed, monkeypatch):
    place = at()
    killed = Reports(monkeypatch, 3, raising(Killed()))
    with pytest.raises(Killed):
        run(place)
    reports, steps = Reports(monkeypatch), Counter()
    with counting(steps):
        run(place)
    assert not steps
    assert reports.told == killed.told[-1:]
    assert reports.told[0]["dev_uar"] == undisturbed[1][-1]["dev_uar"]
    assert rows(place) == undisturbed[0]


@pytest.mark.parametrize("where", ["folder", "object store"])
def test_a_unit_that_is_stopped_with_the_experiment_keeps_its_checkpoints(at, monkeypatch, request, where):
    place = at() if where == "folder" else at(request.getfixturevalue("bucket").format("stopped"))
    Reports(monkeypatch, 1, raising(SystemExit(0)))
    with pytest.raises(SystemExit):
        run(place)
    assert kept(place) == ["search.safetensors"]
    assert commits(place) == []


@pytest.mark.slow
@pytest.mark.parametrize("reason", [DRIVER, NODE])
def test_a_unit_stops_within_an_epoch_with_its_driver_or_before_its_node_goes(at, undisturbed, monkeypatch, reason):
    place = at()

    class Asking(StopListener):
        def _listen(self):  # at once
            self.reason = reason

        def __enter__(self):
            self._listen()
            return self

    with monkeypatch.context() as patch:
        patch.setattr(trainable, "StopListener", Asking)
        reports = Reports(monkeypatch, 1, raising(SystemExit(0)))  # as Tune's does, when it ends the trial
        with pytest.raises(SystemExit if reason == DRIVER else PlaceFaultError):
            run(place)
    assert reports.told == ([{"status": "stopped"}] if reason == DRIVER else [])
    assert kept(place) == ["search.within.safetensors"]
    assert commits(place) == []
    reports, steps = Reports(monkeypatch), Counter()
    with counting(steps):
        run(place)
    assert steps["steps"] < undisturbed[2]["steps"]
    assert rows(place) == undisturbed[0]
    assert kept(place) == []


@pytest.mark.slow
def test_a_full_disk_fails_no_unit_and_costs_no_training(at, undisturbed, monkeypatch):
    place = at()
    original = Storage._write_local

    def full(path, content):
        if path.parent.name == "predictions":
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, content)

    reports = Reports(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "_write_local", staticmethod(full))
        with pytest.raises(PlaceFaultError, match=r"struck by its place \(storage\).*No space left on device"):
            run(place)
    assert commits(place) == []
    assert [r["status"] for r in reports.told] == ["running", "running"]
    assert kept(place) == ["searched.safetensors", "training.safetensors"]
    steps = Counter()
    with counting(steps):
        run(place)
    assert not steps, "all of it is in the checkpoints"
    assert rows(place) == undisturbed[0]
    assert kept(place) == []


@pytest.mark.slow
def test_a_checkpoint_of_other_code_means_a_new_start(at, undisturbed, monkeypatch):
    place = at()
    Reports(monkeypatch, 2, raising(Killed()))
    with monkeypatch.context() as patch:
        patch.setattr(unit_checkpoints, "source_digest", lambda: "an older one")
        with pytest.raises(Killed):
            run(place)
    reports, steps = Reports(monkeypatch), Counter()
    with counting(steps):
        run(place)
    assert steps == undisturbed[2]
    assert [r["status"] for r in reports.told] == ["running", "running", "complete"]
    assert len(reports.told[0]["epochs"]) == 1  # epochs of the refused checkpoint are not told twice
    assert rows(place) == undisturbed[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "error", [FloatingPointError("the loss is not finite"), RuntimeError("shapes cannot be multiplied")]
)
def test_a_mistake_of_the_units_own_is_committed_with_its_epochs(at, monkeypatch, error):
    place = at()

    def run_fold(store, fold, settings, seed, device, on_epoch_end, folder, **more):
        on_epoch_end(EpochRecord("search", 0, 1.0, 1.0, 0.5, 0.5, 0.1))
        folder.storage.write("search.safetensors", b"")
        raise error

    monkeypatch.setattr(worker, "run_fold", run_fold)
    reports = Reports(monkeypatch)
    run(place)
    ((status, reason),) = commits(place)
    assert status == "failed"
    assert reason.startswith(f"{type(error).__name__}: {error} (test_trial.py:")
    attempt = reports.told[-1]["attempt"]
    assert reports.told[-1] == asdict(UnitOutcome("failed", reason=reason, attempt=attempt))
    assert len(rows(place)["epochs"]) == 1
    assert kept(place) == []


def test_a_node_that_sees_other_results_or_no_features_fails_no_unit(at, plan, tmp_path, monkeypatch):
    reports = Reports(monkeypatch)
    with pytest.raises(
        PlaceFaultError, match=r"does not see sweep s in .*results has to be a place that every node sees"
    ):
        run(replace(plan, results=str(tmp_path / "other")))
    place = at()
    damaged = tmp_path / "store"
    damaged.mkdir()
    (damaged / "store.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION}))
    with pytest.raises(PlaceFaultError, match="cannot use the features at"):
        run(replace(place, stores=(replace(place.stores[0], folder=str(damaged)),)))
    assert commits(place) == []
    assert reports.told == []
