"""Results and checkpoints of version 0.1.0 are refused by every command, in one sentence that says what reads them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emodarts import cli
from emodarts.checkpoints import VERSION, Checkpoint, CheckpointError
from emodarts.errors import EmodartsError
from emodarts.records import TrialRecord
from emodarts.results import reader
from emodarts.results.schemas import SCHEMA_VERSION, TABLES
from emodarts.results.sweep_file import register, settings_of
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from tests.support.checkpoints import checkpoints_at
from tests.support.commands import manifest, run_here

OLD = "has schema version 4, this program reads 5: read it with emodarts 0.1.0, or take another results folder"
SETTINGS = {"corpus.name": "demo", "search.level": "single", "sweep.nesting": "fold", "sweep.seed": 0}
TRIAL = {
    "sweep": "old",
    "system": "emodarts",
    "study": "fold0",
    "trial": 0,
    "seed": 0,
    "parameters": "{}",
    "status": "complete",
    "reason": None,
    "retries": 0,
    "values": [0.5],
}
FOLD = {
    "sweep": "old",
    "system": "emodarts",
    "study": "fold0",
    "trial": 0,
    "seed": 0,
    "train_corpora": ["demo"],
    "protocol": "demo/speaker4",
    "weakness": None,
    "fold": 0,
    "fold_hash": "h0",
    "classes": ["angry", "sad"],
    "stage": "final",
    "epoch_rule": "late_dev",
    "role": "dev",
    "test_set": "demo/dev",
    "uar": 0.5,
}
COMMIT = {"key": {"sweep": "old", "weakness": None}, "attempt": "x", "status": "complete", "reason": None}


def write_old_table(path, row):
    """A Parquet file as 0.1.0 wrote it."""
    path.parent.mkdir(parents=True)
    table = pa.Table.from_pylist([row])
    header = {"emodarts.schema_version": "4", "emodarts.commit": json.dumps(COMMIT)}
    pq.write_table(table.replace_schema_metadata(header), path)


@pytest.fixture
def old(tmp_path):
    """A results folder that holds one sweep of 0.1.0."""
    sweep = tmp_path / "results" / "old"
    write_old_table(sweep / "trials" / "emodarts.fold0.t00000.s0.parquet", TRIAL)
    write_old_table(sweep / "folds" / "emodarts.fold0.t00000.s0.f0.parquet", FOLD)
    (sweep / "sweep.json").write_text(json.dumps({"schema_version": 4, "settings": SETTINGS}))
    return sweep


@pytest.mark.parametrize("command", ["report", "report one sweep", "report a page", "export", "compact"])
def test_commands_refuse_old_results(old, tmp_path, capsys, command):
    arguments = {
        "report": ["report", old.parent],
        "report one sweep": ["report", old],
        "report a page": ["report", old.parent, "--html", tmp_path / "page.html"],
        "export": ["export", old.parent, "--out", tmp_path / "model"],
        "compact": ["compact", old.parent],
    }[command]
    before = sorted(tmp_path.rglob("*"))
    assert cli.main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"error: {old}/sweep.json {OLD}\n"
    assert captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["sweep.name=old", "genotypes_from={old}"])
def test_a_sweep_refuses_old_results(environment, small_corpus, old, setting):
    printed = run_here(environment, *manifest(small_corpus, old.parent, setting.format(old=old)), code=1)
    assert " ".join(printed.split()).endswith(f"{old}/sweep.json {OLD}")
    assert not (old / "lease.json").exists()


def test_a_sweep_of_now_stands_beside_an_old_one(old):
    storage = Storage.open(old.parent)
    register(storage, "new", {"a": 1})
    SweepWriter(storage, "new").write_trial(TrialRecord("emodarts", "fold0", 0, 0, {}))
    assert reader.open(old.parent, sweep="new").table("trials").num_rows == 1
    assert settings_of(storage, "new") == {"a": 1}
    with pytest.raises(EmodartsError, match=OLD):
        reader.open(old.parent)


@pytest.mark.parametrize("table", ["trials", "folds"])
def test_every_file_is_checked_by_itself(old, table):
    """A sweep that was begun by 0.1.0 and got another `sweep.json` since."""
    (old / "sweep.json").unlink()
    register(Storage.open(old.parent), "old", SETTINGS)
    (file,) = (old / table).iterdir()
    with pytest.raises(EmodartsError, match=f"{file.name} {OLD}"):
        reader.open(old).table(table)
    if table == "folds":
        with pytest.raises(EmodartsError, match=f"{file.name} {OLD}"):
            _ = reader.open(old).commits


def test_a_compacted_sweep_is_checked(old):
    (old / "sweep.json").unlink()
    register(Storage.open(old.parent), "old", SETTINGS)
    (old / "compact.json").write_text(json.dumps({"schema_version": 4, "files": {}, "commits": ""}))
    with pytest.raises(EmodartsError, match=f"compact.json {OLD}"):
        reader.open(old).table("importances")


def test_files_of_a_later_version_name_no_version_to_read_them_with(old):
    (old / "sweep.json").write_text(json.dumps({"schema_version": 6, "settings": {}}))
    with pytest.raises(
        EmodartsError, match=r"has schema version 6, .*: read it with the version of emodarts that wrote"
    ):
        reader.open(old)


def test_old_checkpoints_are_refused(tmp_path):
    file = tmp_path / "search.safetensors"
    checkpoints_at(file).save(Checkpoint({}, {}))
    file.write_bytes(file.read_bytes().replace(f'"version":"{VERSION}"'.encode(), b'"version":"1"'))
    with pytest.raises(
        CheckpointError, match=r"is a checkpoint of version 1, .*: go on with emodarts 0.1.0, or delete"
    ):
        checkpoints_at(file).load()


def test_columns_that_later_versions_fill_are_there_and_null(tmp_path):
    from tests.support.made_results import Made, write

    write(tmp_path, Made(folds=2, trials=1))
    later = {
        "folds": {"inner": "int32", "condition": "string", "target": "string", "ccc": "double", "rmse": "double"},
        "predictions": {"inner": "int32", "condition": "string", "target": "string"},
        "epochs": {"inner": "int32", "place": "string"},
        "genotypes": {"inner": "int32"},
        "rungs": {"inner": "int32"},
    }
    later["folds"]["place"] = "string"
    assert SCHEMA_VERSION == 5
    for name, columns in later.items():
        assert {column: str(TABLES[name].field(column).type) for column in columns} == columns
        table = reader.open(tmp_path).table(name, list(columns))
        assert all(table[column].null_count == len(table) for column in columns)
