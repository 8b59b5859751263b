"""Sweeps over small copies of the licensed corpora's folders, with their default protocols, and a user's own split."""

import json

import pytest

from emodarts.report.terminal import print_report
from emodarts.results import reader
from sweeps.execution import local
from sweeps.execution.worker import run_unit_locally
from tests.support.commands import ONE_TRIAL, TINY, run_here
from tests.support.files import write_tone
from tests.support.layouts import crema_d, iemocap, msp_improv, msp_podcast, savee


def run(environment, *given, code=0):
    return run_here(environment, *TINY, *ONE_TRIAL, *given, code=code)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "protocol", "folds", "test_sets"),
    [
        (iemocap, "iemocap/session5", 5, {"iemocap/test"}),
        (msp_improv, "msp_improv/session6", 6, {"msp_improv/test"}),
        (msp_podcast, "msp_podcast/official", 1, {f"msp_podcast/test{n}" for n in (1, 2, 3)}),
    ],
)
def test_default_protocols_end_to_end(environment, tmp_path, layout, protocol, folds, test_sets):
    name = protocol.partition("/")[0]
    written = layout.write_corpus(tmp_path / "corpus")
    told = run(environment, f"corpus={name}", f"corpus.root={tmp_path / 'corpus'}", f"results={tmp_path / 'results'}")
    assert f"{protocol}, {folds} folds" in told
    opened = reader.open(tmp_path / "results")
    rows = opened.table("folds").to_pylist()
    assert {row["protocol"] for row in rows} == {protocol}
    assert {row["fold"] for row in rows} == set(range(folds))
    assert {row["protocol_caveat"] for row in rows} == {None}
    assert {row["test_set"] for row in rows if row["role"] == "test"} == test_sets
    assert all(row["n"] > 0 for row in rows if row["test_set"] != "msp_podcast/test3")
    (corpus,) = opened.table("corpora").to_pylist()
    assert {row["path"] for row in corpus["dropped"]} >= written.dropped.keys()
    audit = json.loads(corpus["audit"])
    assert audit["utterances"] == len(written.rows)
    speakers = {u: row["speaker"] for u, row in written.rows.items()}
    for row in opened.table("predictions").to_pylist():
        assert row["speaker"] == speakers[row["utterance"]]


@pytest.mark.slow(seconds=12)
def test_the_literal_command_finds_the_corpus_in_the_environment(environment, tmp_path, monkeypatch):
    """`python sweeps/run.py corpus=msp_podcast`, with all its defaults, until its first unit has ended.

    In a process of its own, and on Ray: `tests/cluster/test_cluster.py`.
    """
    msp_podcast.write_corpus(tmp_path / "corpora" / "msp_podcast", takes=1)
    environment["EMODARTS_CORPORA"] = str(tmp_path / "corpora")
    monkeypatch.chdir(tmp_path)
    units = []

    def ctrl_c_in_the_second(unit, *given):
        units.append(unit)
        if len(units) == 2:
            raise KeyboardInterrupt
        return run_unit_locally(unit, *given)

    monkeypatch.setattr(local, "run_unit_locally", ctrl_c_in_the_second)
    run_here(environment, "corpus=msp_podcast", code=130)
    opened = reader.open(tmp_path / "results")
    rows = opened.table("folds").to_pylist()
    assert {row["protocol"] for row in rows} == {"msp_podcast/official"}
    hidden = [row for row in rows if row["test_set"] == "msp_podcast/test3"]
    assert hidden
    assert all(row["n"] == 0 and row["uar"] is None for row in hidden)
    predicted = [p for p in opened.table("predictions").to_pylist() if p["test_set"] == "msp_podcast/test3"]
    assert predicted
    assert all(p["label"] is None and p["predicted"] in p["classes"] for p in predicted)


@pytest.fixture(scope="module")
def podcast(tmp_path_factory):
    """A sweep's environment, corpus and results, to be looked at and to be gone on with."""
    folder = tmp_path_factory.mktemp("podcast")
    msp_podcast.write_corpus(folder / "corpus")
    return folder


@pytest.mark.slow
def test_subsample_stands_in_every_row_and_hidden_labels_in_the_report(environment, podcast, capsys):
    arguments = ["corpus=msp_podcast", f"corpus.root={podcast / 'corpus'}", f"results={podcast / 'results'}"]
    run(environment, *arguments, "search.subsample=24")
    opened = reader.open(podcast / "results")
    (name,) = {row["subsample"] for row in opened.table("folds").to_pylist()}
    assert name.startswith("24@0:")
    from rich.console import Console

    print_report(opened, Console(width=200, markup=False))
    told = capsys.readouterr().out
    assert "msp_podcast/test3: the labels are not public" in told
    assert "emodarts on msp_podcast/test2" in told


@pytest.mark.slow
def test_systems_side_by_side_and_tested_on_another_corpus(environment, tmp_path):
    savee.write_corpus(tmp_path / "corpora" / "savee")
    crema_d.write_corpus(tmp_path / "elsewhere")
    environment["EMODARTS_CORPORA"] = str(tmp_path / "corpora")
    asked = ["corpus=savee", "sweep.folds=[0,1]", "extra_tests=[crema_d]", f"roots.crema_d={tmp_path / 'elsewhere'}"]
    told = run(environment, *asked, "system=[cnn,svm]", f"results={tmp_path / 'results'}")
    assert "crema_d/all: " in told
    assert "other corpora: means over the models of the folds" in told
    opened = reader.open(tmp_path / "results")
    rows = opened.table("folds").to_pylist()
    assert {row["system"] for row in rows} == {"cnn", "svm"}
    for system in ("cnn", "svm"):
        mine = [row for row in rows if row["system"] == system]
        cross = [row for row in mine if row["role"] == "cross"]
        assert {(row["test_set"], row["normalisation"]) for row in cross} == {
            ("crema_d/all", "train"), ("crema_d/all", "test"),
        }  # fmt: skip
        assert len(cross) == 2 * 2
        assert len({row["n"] for row in cross}) == 1
        assert len({(row["fold"], row["fold_hash"]) for row in mine}) == 2
    assert {row["corpus"] for row in opened.table("corpora").to_pylist()} == {"savee", "crema_d"}
    foreign = [p for p in opened.table("predictions").to_pylist() if p["role"] == "cross"]
    assert {p["speaker"].partition("/")[0] for p in foreign} == {"crema_d"}
    more = run(environment, *asked, "system=linear_probe", f"results={tmp_path / 'results'}")
    assert "linear_probe on savee/test" in more
    assert len(reader.open(tmp_path / "results").sweeps) == 1, "a system may be added to a sweep"
    refused = run(environment, "corpus=savee", "extra_tests=[savee]", f"results={tmp_path / 'r'}", code=1)
    assert "savee trains here (savee/speaker4)" in refused


def test_a_weak_protocol_says_so_in_every_row(environment, tmp_path):
    iemocap.write_corpus(tmp_path / "corpus", junk=False)
    corpus = ["corpus=iemocap", f"corpus.root={tmp_path / 'corpus'}", "sweep.folds=[2]"]
    told = run(environment, *corpus, f"results={tmp_path / 'results'}", "protocol=session5-random-dev")
    assert "iemocap/session5-random-dev: dev shares speakers with train" in told
    for table in ("folds", "predictions", "epochs", "genotypes"):
        rows = reader.open(tmp_path / "results").table(table).to_pylist()
        assert {row["protocol_caveat"] for row in rows} == {"dev shares speakers with train"}


def test_a_unit_that_fails_is_told_with_its_reason(environment, podcast, tmp_path):
    arguments = ["corpus=msp_podcast", f"corpus.root={podcast / 'corpus'}", f"results={tmp_path / 'results'}"]
    told = run(environment, *arguments, "+sweep.space.search.subsample=4", "sweep.max_failures=1", code=1)
    assert "search.subsample=4: msp_podcast/official fold 0 has 4 classes in train" in told
    assert "every configuration fails" in told
    told = run(environment, *arguments, "search.subsample=4", code=1)
    assert "each needs 2 utterances there" in told
    assert "stopped" not in told  # refused before anything was begun


def test_a_user_s_own_split(environment, small_corpus, tmp_path):
    role = {"a": "train", "b": "train", "c": "dev", "d": "test"}
    ids = [f"{speaker}/{name}{take}" for speaker in "abcd" for name in ("angry", "sad") for take in range(4)]
    (tmp_path / "mine.csv").write_text("utterance,role\n" + "".join(f"{u},{role[u[0]]}\n" for u in ids))
    corpus = ["corpus=manifest", "corpus.class_set='angry,sad'", f"corpus.root={small_corpus}"]
    told = run(environment, *corpus, f"results={tmp_path / 'results'}", f"corpus.protocol={tmp_path / 'mine.csv'}")
    assert "manifest/mine.csv, 1 folds" in told
    rows = reader.open(tmp_path / "results").table("folds").to_pylist()
    assert {row["protocol"] for row in rows} == {"manifest/mine.csv"}
    write_tone(small_corpus / "b" / "sad0.wav", f0=300.0)  # ids and labels, and so the folds, stay as they are
    told = run(environment, *corpus, f"results={tmp_path / 'results'}", f"protocol={tmp_path / 'mine.csv'}", code=1)
    assert "was begun with other settings or data: recordings was" in told


@pytest.mark.slow
def test_what_a_sweep_refuses(environment, tmp_path):
    iemocap.write_corpus(tmp_path / "corpus", junk=False)
    root = f"corpus.root={tmp_path / 'corpus'}"
    told = run(environment, "corpus=iemocap", root, "corpus.protocol=iemocap/emodarts", "corpus.excited=drop", code=1)
    assert "iemocap/emodarts-no-dev has no dev part" in told
    told = run(environment, "corpus=iemocap", root, "corpus.protocol=iemocap/speaker99", code=1)
    assert "choose one of iemocap/session5, iemocap/session5-random-dev" in told
    told = run(environment, "corpus=iemocap", root, "corpus.source=intended", code=1)
    assert "iemocap has perceived labels alone" in told
    write_tone(tmp_path / "corpus" / "odd.wav")
    assert "where is iemocap?" in run(environment, "corpus=iemocap", code=1)
