"""Sweeps that train on several corpora: leave-one-corpus-out from folders to tables, and on to a model."""

import json
import shutil
from dataclasses import replace

import pytest
from rich.console import Console

from emodarts import cli
from emodarts.audit import cues
from emodarts.errors import EmodartsError
from emodarts.report.notices import find_leaks
from emodarts.report.report_data import load_report_data
from emodarts.results import reader
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from sweeps.data.placement import publish
from sweeps.data.preparation import prepare
from sweeps.data.sweep_data import write_trained
from sweeps.execution.worker import SweepSpec
from tests.support.commands import ONE_TRIAL, TINY, comparable, run_here, settings, variables
from tests.support.layouts import crema_d, savee, tess

LAYOUTS = {"crema_d": crema_d, "savee": savee, "tess": tess}
CLASSES = ["angry", "happy", "neutral", "sad"]
SHARED = "dev shares speakers with train"  # TESS has two speakers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three small corpora and a cache; what sweeps and tests leave there is theirs together."""
    made = tmp_path_factory.mktemp("joined")
    for name, layout in LAYOUTS.items():
        layout.write_corpus(made / ("elsewhere" if name == "savee" else "corpora") / name, junk=False)
    return made


@pytest.fixture(scope="module")
def environment(folder):
    return variables(folder / "cache", EMODARTS_CORPORA=str(folder / "corpora"))


@pytest.fixture(scope="module")
def run(folder, environment):
    """Runs a command that leaves one corpus out: what it said."""

    def run(names):
        roots = [f"roots.savee={folder / 'elsewhere' / 'savee'}", f"results={folder / 'results'}"]
        asked = [f"train_corpora=[{names}]", "extra_tests=[crema_d]", "sweep.folds=[0,3]", "system=cnn"]
        return run_here(environment, *TINY, *ONE_TRIAL, *roots, *asked)

    return run


@pytest.fixture(scope="module")
def told(run):
    """What the first start of the sweep said; its tables are in the folder from then on."""
    return run("tess,savee")


@pytest.fixture
def here(environment, monkeypatch):
    """The environment of the commands, for what is called in this process."""
    for name in ("EMODARTS_CACHE", "EMODARTS_CORPORA"):
        monkeypatch.setenv(name, environment[name])


@pytest.fixture
def data(folder, here):
    """What a sweep is given, for the settings of a command."""

    def data(*arguments):
        root = f"roots.savee={folder / 'elsewhere' / 'savee'}"
        return prepare(settings("corpus=joined", "features.n_mels=32", root, *arguments), Console(quiet=True))

    return data


@pytest.mark.slow
def test_leave_one_corpus_out_from_folders_to_tables(told, folder):
    assert "savee: 36 utterances of angry, happy, neutral, sad; 24 of other classes left out, 0 dropped" in told
    assert "savee+tess/joined-random-dev, 2 folds: trained on together" in told
    assert "crema_d/all: 80 utterances of 10 speakers" in told
    assert "savee, audit, warning: sentences go with emotions: 12 of an emotion" in told  # with its own figure
    assert "tess, audit, warning: two speakers" in told
    opened = reader.open(folder / "results")
    (sweep,) = opened.sweeps
    assert sweep.startswith("savee-tess-")
    rows = opened.table("folds").to_pylist()
    assert {(tuple(r["train_corpora"]), r["protocol"], r["protocol_caveat"]) for r in rows} == {
        (("savee", "tess"), "savee+tess/joined-random-dev", SHARED)
    }
    assert all(r["classes"] == CLASSES for r in rows)
    parts = [
        ("dev", "dev", "train"), ("test", "savee/test", "train"), ("test", "tess/test", "train"),
        ("cross", "crema_d/all", "train"), ("cross", "crema_d/all", "test"),
    ]  # fmt: skip
    found = {(r["fold"], r["role"], r["test_set"], r["normalisation"]) for r in rows}
    assert found == {(fold, *part) for fold in (0, 3) for part in parts}
    predicted = opened.table("predictions").to_pylist()
    assert {p["speaker"].partition("/")[0] for p in predicted if p["role"] == "cross"} == {"crema_d"}
    tested = {(p["fold"], p["speaker"]) for p in predicted if p["role"] == "test"}
    assert tested == {(0, "savee/DC"), (0, "tess/OAF"), (3, "savee/KL"), (3, "tess/YAF")}


def test_each_corpus_has_a_row_and_an_audit_by_its_own_protocol(told, folder):
    opened = reader.open(folder / "results")
    corpora = {row["corpus"]: row for row in opened.table("corpora").to_pylist()}
    assert corpora.keys() == {"crema_d", "savee", "tess"}
    assert corpora["crema_d"]["audit"] is None
    for name, folds in (("savee", 4), ("tess", 2)):
        audit = json.loads(corpora[name]["audit"])
        assert (audit["corpus"], audit["settings"]["name"]) == (name, name)
        assert len(audit["protocol"]["folds"]) == folds
        assert f"  {name}, audit, " in told
    given = json.loads(opened.parts[0].storage.read(f"{opened.sweeps[0]}/sweep.json"))["settings"]
    assert given["train_corpora"] == ["savee", "tess"]
    assert given["search.stem_strides"] != [8, 2], "the demo's budget is the demo's alone"


@pytest.mark.slow
def test_the_same_corpora_in_another_order_have_nothing_left_to_do(told, run, folder):
    before = comparable(folder / "results")
    files = sorted(path.name for path in (folder / "results").rglob("*.parquet"))
    assert "next: emodarts report" in run("savee,tess")
    assert comparable(folder / "results") == before
    assert sorted(path.name for path in (folder / "results").rglob("*.parquet")) == files


def test_a_model_of_a_joined_sweep(told, here, folder, tmp_path, capsys):
    command = ["export", str(folder / "results"), "--out", str(tmp_path / "model"), "--fold", "3"]
    assert cli.main(command) == 1
    assert "roots.savee" in capsys.readouterr().err
    assert cli.main([*command, "--root", f"savee={folder / 'elsewhere' / 'savee'}"]) == 0
    assert "equal the stored ones" in capsys.readouterr().out
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    for words in ("- Corpus: SAVEE", "- Corpus: TESS", "test savee/test", "these corpora", "default source"):
        assert words in card.replace("\\", "")


def test_no_test_speaker_of_any_corpus_learns_or_chooses(data):
    found = data("train_corpora=[savee,crema_d]", "extra_tests=[tess]")
    assert (found.names, found.protocol, len(found.all_folds)) == (("crema_d", "savee"), "crema_d+savee/joined", 5)
    known = {
        row["utterance"]: row["speaker"]
        for one in found.trained
        for row in one.corpus.utterances.select(["utterance", "speaker"]).to_pylist()
    }
    own = {one.corpus.name: one.folds for one in found.trained}
    for index, fold in enumerate(found.all_folds):
        assert fold.tests == {
            "crema_d/test": own["crema_d"][index].tests["crema_d/test"],
            "savee/test": own["savee"][index % 4].tests["savee/test"],
        }
        tested = {known[u] for ids in fold.tests.values() for u in ids}
        assert {speaker.partition("/")[0] for speaker in tested} == {"crema_d", "savee"}
        for part in (fold.train, fold.dev):
            assert tested.isdisjoint(known[u] for u in part)
            assert {u.partition("/")[0] for u in part} == {"crema_d", "savee"}
    (held_out,) = found.foreign
    assert all(u.startswith("tess/") for u in held_out.test.utterances)
    alone = [one.store.folder for one in found.trained]
    assert alone == [data_of.folder for data_of in found.store.stores]


@pytest.mark.slow
def test_the_stores_are_those_of_sweeps_of_one(data):
    """Extracted once, whatever is joined with what; and the order of the names changes nothing at all."""
    one = prepare(settings("corpus=crema_d", "features.n_mels=32"), Console(quiet=True))
    first, second = (data(f"train_corpora=[{names}]") for names in ("savee,crema_d", "crema_d,savee"))
    assert first.trained[0].store.folder == one.store.folder
    assert (first.recordings, first.all_folds) == (second.recordings, second.all_folds)


def test_another_node_fetches_the_stores_of_all_corpora(data, tmp_path, monkeypatch):
    found = data("train_corpora=[savee,crema_d]")
    storage = Storage.open(tmp_path / "results")
    places = tuple(replace(publish(one.store, storage, joined=True), host="elsewhere") for one in found.trained)
    monkeypatch.setenv("EMODARTS_CACHE", str(tmp_path / "node"))
    opened = SweepSpec("s", storage.root, places, found.folds, threads=1).open_stores(storage)
    assert {store.folder.parent for store in opened.stores} == {tmp_path / "node" / "features"}
    assert opened.utterances.equals(found.store.utterances)


def test_a_weak_part_is_told(data):
    found = data("train_corpora=[tess,savee]")
    assert found.protocol == "savee+tess/joined-random-dev"
    assert found.all_folds[0].protocol_caveat == SHARED


@pytest.mark.slow
def test_what_cannot_be_joined_is_told_before_extraction(data, monkeypatch):
    from emodarts.experiment import training_corpus

    monkeypatch.setattr(training_corpus, "build_store", lambda *a, **k: pytest.fail("extracted"))
    with pytest.raises(EmodartsError, match="savee trains here"):
        data("train_corpora=[savee,crema_d]", "extra_tests=[savee]")
    full = "corpus.class_set=full"
    with pytest.raises(EmodartsError, match="crema_d: angry, happy, neutral, sad; savee: angry, disgusted"):
        data("train_corpora=[savee,crema_d]", full)
    with pytest.raises(EmodartsError, match=r"set corpus\.class_set='angry,happy,neutral,sad'"):
        data("train_corpora=[savee,crema_d]", full)
    with pytest.raises(EmodartsError, match=r"crema_d: too few utterances of surprised \(0\)"):
        data("train_corpora=[savee,crema_d]", "corpus.class_set='angry,surprised'")
    with pytest.raises(EmodartsError, match=r"where is emodb\? .*roots\.emodb|the folder of emodb.*roots\.emodb"):
        data("train_corpora=[savee,emodb]")


@pytest.mark.slow
def test_recordings_that_stand_in_two_corpora_are_told(data, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cues, "TREES", 2)
    shutil.copytree(folder / "corpora" / "tess", tmp_path / "tess")
    first, second = sorted((tmp_path / "tess").rglob("*_angry.wav"))[:2]
    for copy, name in ((first, "DC/a01.wav"), (second, "DC/a15.wav")):
        shutil.copy(folder / "elsewhere" / "savee" / "AudioData" / name, copy)
    root = f"roots.tess={tmp_path / 'tess'}"
    found = data("train_corpora=[savee,crema_d]", "extra_tests=[tess]", root)
    assert found.copies == data("train_corpora=[savee,tess]", root).copies == [("savee", "tess", 2)]
    assert data("train_corpora=[savee,crema_d]", "extra_tests=[tess]").copies == []
    storage = Storage.open(tmp_path / "results")
    register(storage, "s", {})
    told = write_trained(SweepWriter(storage, "s"), reader.open(storage.root), found)
    assert "  savee, audit, leak: copies in tess: 2 recordings of this corpus are recordings of tess too" in told
    leaks = find_leaks(load_report_data(reader.open(storage.root)))
    assert any("audit of savee has a leak: copies in tess" in leak for leak in leaks)


def test_a_class_set_that_all_have(data):
    found = data("train_corpora=[savee,tess]", "corpus.class_set=full")
    assert found.all_folds[0].classes == (
        "angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised",
    )  # fmt: skip
