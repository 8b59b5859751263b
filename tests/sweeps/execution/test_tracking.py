"""`sweep.track`: what stands in real stores of the trackers, however a unit's workers end, and that it is no state."""

import importlib.util
import json
import struct
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from emodarts.corpora.protocols.folds import Fold
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.experiment.unit_spec import UnitSpec
from emodarts.networks.genotype import Edge, Genotype
from emodarts.records import EpochRecord, GenotypeRecord
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from sweeps.execution import metrics as telemetry
from sweeps.execution import tracking as tracking_module
from sweeps.execution import worker
from sweeps.execution.sweep_spec import SweepSpec
from sweeps.execution.tracking import Tracking, UnitTrackers, begin_tracking, check_trackers
from tests.support.made_results import SHAPE
from tests.support.unit_records import key, records

KEY = key(12, 3)
UNIT = UnitSpec(KEY, FoldSettings(), 0, "cpu")
CELL = ((Edge("skip_connect", 0), Edge("sep_conv_3x3", 1)),)
GENOTYPE = Genotype(CELL, CELL, ((Edge("skip_connect", 0), Edge("lstm_1", 1)),)).to_json()
EPOCHS = [EpochRecord(p, e, 1.0 - e / 10, 0.9, 0.5 + e / 10, 0.6, 0.25) for p in ("search", "train") for e in range(3)]
RECORDS = replace(
    records(dev=3, test=2),
    epochs=tuple(EPOCHS),
    genotypes=(GenotypeRecord("final", GENOTYPE, SHAPE.to_json(), 0),),
    settings_json=json.dumps({"features": {"kind": "log_mel"}}),
)
CURVE = {0: 0.5, 1: 0.6, 2: 0.7}  # of dev UAR, in either phase


class Killed(Exception):
    """What ends a worker in these tests."""


class Runs:
    """Runs the unit with trackers in `storage`, its epochs those above."""

    def __init__(self, location, monkeypatch, names):
        self.monkeypatch, self.location = monkeypatch, str(location)
        self.storage, self.said = Storage.open(location), []
        register(self.storage, "s", {})
        self.tracking = begin_tracking(names, self.storage, "s", self.said.append)

    def run(self, epochs=EPOCHS, error=None, anew=False):
        """Run some epochs of it, from the first, and then to its end or into an error."""

        def run_epochs(unit, sweep, storage, checkpoints, reporter):
            if anew:
                for record in EPOCHS[:2]:
                    reporter.on_epoch_end(replace(record, dev_uar=0.1))
                reporter.reset()
            for record in epochs:
                reporter.on_epoch_end(record)
            if error is not None:
                raise error
            return RECORDS

        fold = Fold("x/speaker3", 3, (), (), {}, {}, ("a", "b"), {}, {}, "h3")
        self.monkeypatch.setattr(worker, "_run", run_epochs)
        return worker.run_unit_locally(UNIT, SweepSpec("s", self.location, (), {3: fold}, 1, tracking=self.tracking))

    def run_killed(self, number, closes):
        """A worker that ends after some epochs; without the time to close anything where not `closes`."""
        with self.monkeypatch.context() as patch:
            if not closes:
                patch.setattr(UnitTrackers, "close", lambda trackers: None)
            with pytest.raises(Killed):
                self.run(EPOCHS[:number], Killed())


@pytest.fixture(autouse=True)
def of_this_test(monkeypatch):
    """No title, no address and no grudge is left to other tests."""
    monkeypatch.setattr(telemetry, "setproctitle", lambda title: None)
    monkeypatch.setattr(tracking_module, "_given_up_at", {})
    monkeypatch.setattr(tracking_module.os, "environ", dict(tracking_module.os.environ))


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"needs the package {package}")


def events(folder):
    """All events of a folder of TensorBoard, in the order in which they were written."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content, at = path.read_bytes(), 0
        while at < len(content):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("<Q", content, at)
            yield Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length


def board(folder):
    """Scalars as lists of (step, value), and the other tags."""
    scalars, others = defaultdict(list), {}
    for event in events(folder):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                scalars[value.tag].append((event.step, pytest.approx(value.simple_value)))
            else:
                others[value.tag] = value
    return scalars, others


@pytest.mark.parametrize("closes", [True, False])
def test_tensorboard_has_each_epoch_once_whoever_ran_it_and_the_end(tmp_path, monkeypatch, closes):
    runs, folder = Runs(tmp_path, monkeypatch, ["tensorboard"]), tmp_path / "s/tensorboard/trial 12 · fold 3"
    runs.run_killed(4, closes)
    assert board(folder)[0]["search/dev_uar"] == [*CURVE.items()], "epochs stand there while the unit runs"
    assert runs.run().tracker_errors is None
    scalars, others = board(folder)
    assert scalars["search/dev_uar"] == scalars["train/dev_uar"] == [*CURVE.items()]
    assert scalars["dev/x/dev/uar"] == [(0, 0.75)]
    assert scalars["test/x/test/uar"] == [(0, 0.5)]
    assert scalars["parameters"] == [(0, 10)]
    assert GENOTYPE in others["genotype/text_summary"].tensor.string_val[0].decode()
    assert others["genotype"].image.encoded_image_string.startswith(b"\x89PNG")
    assert b"| search.nodes | 2 |" in others["settings/text_summary"].tensor.string_val[0]


def test_event_files_of_an_object_store_are_there_while_the_unit_runs(bucket, monkeypatch, tmp_path):
    monkeypatch.setattr("sweeps.execution.tracker_backends._UPLOAD_SECONDS", 0.0)
    runs = Runs(bucket.format("tracked"), monkeypatch, ["tensorboard"])
    runs.run_killed(2, closes=False)
    below = runs.storage.below("s/tensorboard/trial 12 · fold 3")
    assert len(below.list("")) == 1
    runs.run()
    for name in below.list(""):
        (tmp_path / name).write_bytes(below.read(name))
    assert board(tmp_path)[0]["search/dev_uar"] == [*CURVE.items()]


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """A store of MLflow in a folder."""
    module = pytest.importorskip("mlflow", reason="needs the package mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    return module.MlflowClient((tmp_path / "mlruns").as_uri())


def only_run(client):
    experiment = client.get_experiment_by_name("s")
    (run,) = client.search_runs([experiment.experiment_id])
    return run


@pytest.mark.slow
@pytest.mark.parametrize("closes", [True, False])
def test_mlflow_has_each_epoch_once_whoever_ran_it_and_the_end(mlflow, tmp_path, monkeypatch, closes):
    runs = Runs(tmp_path, monkeypatch, ["mlflow"])
    runs.run_killed(4, closes)
    assert only_run(mlflow).info.status == ("SCHEDULED" if closes else "RUNNING")
    assert runs.run().tracker_errors is None
    assert runs.said == []
    run = only_run(mlflow)
    assert (run.info.run_name, run.info.status) == ("trial 12 · fold 3", "FINISHED")
    assert (run.data.tags["trial"], run.data.tags["fold"], run.data.tags["system"]) == ("12", "3", "emodarts")
    assert run.data.params["search.nodes"] == "2"
    for name in ("search/dev_uar", "train/dev_uar"):
        history = [(m.step, m.value) for m in mlflow.get_metric_history(run.info.run_id, name)]
        assert history == [*CURVE.items()]
    figures = {name: run.data.metrics[name] for name in ("dev/x/dev/uar", "test/x/test/uar", "parameters")}
    assert figures == {"dev/x/dev/uar": 0.75, "test/x/test/uar": 0.5, "parameters": 10}
    assert {entry.path for entry in mlflow.list_artifacts(run.info.run_id)} == {"genotype.json", "genotype.png"}
    path = mlflow.download_artifacts(run.info.run_id, "genotype.json", str(tmp_path))
    assert Path(path).read_text() == GENOTYPE


@pytest.mark.slow
def test_epochs_of_a_checkpoint_that_was_refused_do_not_stay(mlflow, tmp_path, monkeypatch):
    runs = Runs(tmp_path, monkeypatch, ["mlflow", "tensorboard"])
    runs.run(anew=True)
    run = only_run(mlflow)
    assert [m.value for m in mlflow.get_metric_history(run.info.run_id, "search/dev_uar")] == [*CURVE.values()]
    scalars, _ = board(tmp_path / "s/tensorboard/trial 12 · fold 3")
    assert scalars["search/dev_uar"] == [*CURVE.items()]


@pytest.mark.slow
def test_a_unit_that_fails_and_results_made_anew_have_runs_of_their_own(mlflow, tmp_path, monkeypatch):
    Runs(tmp_path / "a", monkeypatch, ["mlflow"]).run(EPOCHS[:1], FloatingPointError("the loss is not finite"))
    assert only_run(mlflow).info.status == "FAILED"
    Runs(tmp_path / "b", monkeypatch, ["mlflow"]).run()
    assert len(mlflow.search_runs([mlflow.get_experiment_by_name("s").experiment_id])) == 2


def test_a_commit_whose_worker_died_is_what_its_run_says(tmp_path, monkeypatch):
    runs, folder = Runs(tmp_path, monkeypatch, ["tensorboard"]), tmp_path / "s/tensorboard/trial 12 · fold 3"
    with monkeypatch.context() as patch:
        patch.setattr(UnitTrackers, "end", lambda trackers, commit: trackers.close())
        runs.run()
    assert "test/x/test/uar" not in board(folder)[0]
    runs.run([], AssertionError("its commit stands, so it does not run"))
    scalars, _ = board(folder)
    assert scalars["search/dev_uar"] == [*CURVE.items()]
    assert scalars["test/x/test/uar"] == [(0, 0.5)]


def test_a_tracker_that_cannot_be_written_fails_no_unit_and_is_left_alone_for_a_while(tmp_path, monkeypatch):
    (tmp_path / "s").mkdir()
    (tmp_path / "s/tensorboard").write_text("a file where its folder should be")
    runs = Runs(tmp_path, monkeypatch, ["tensorboard"])
    outcome = runs.run()
    assert outcome.status == "complete"
    assert list(outcome.tracker_errors) == ["tensorboard"]
    assert UnitTrackers(runs.tracking, UNIT, runs.storage).trackers == {}, "not tried again at once"
    assert SweepWriter(runs.storage, "s").commit(KEY, RECORDS, "other").attempt != "other"


def test_a_missing_package_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmodartsError, match=r"sweep.track=\[mlflow\]: the package mlflow is missing: pip install 'emo"):
        check_trackers(["mlflow"])


def test_without_trackers_nothing_is_written(tmp_path, monkeypatch):
    runs = Runs(tmp_path, monkeypatch, [])
    assert runs.tracking == Tracking()
    runs.run()
    assert not {"tensorboard", "tracking.json"} & {path.name for path in (tmp_path / "s").iterdir()}


@pytest.mark.slow
@needs("wandb")
def test_wandb_offline_has_one_folder_for_a_unit_that_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(tracking_module.os.environ, "WANDB_MODE", "offline")
    runs = Runs(tmp_path, monkeypatch, ["wandb"])
    runs.run_killed(4, closes=True)
    assert runs.run().tracker_errors is None
    (folder,) = (tmp_path / "s/wandb").glob("offline-run-*")
    assert [path.name for path in (folder / "files").glob("genotype*")] == ["genotype.json"]
    assert list((folder / "files/media/images").glob("genotype*.png"))
