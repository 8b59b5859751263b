"""The command itself, on a tiny corpus: tables, resumption, refusals."""

import json
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import ray
import soundfile
from sklearn.metrics import f1_score, recall_score

from emodarts import cli
from emodarts.results import reader
from emodarts.results.ensembles import evaluate_ensembles
from sweeps.execution import local
from sweeps.execution.worker import run_unit_locally
from tests.support.commands import ONE_TRIAL, RUN, VARIED, comparable, manifest, run_here, variables
from tests.support.files import write_corpus, write_tone


def until(condition, driver, seconds=200):
    deadline = time.time() + seconds
    while not condition() and driver.poll() is None and time.time() < deadline:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A sweep on Ray that SIGTERM ended after its first unit: environment, what was asked for, results, and output.

    One worker, so that the other three units are not begun before the signal is there.
    """
    folder = tmp_path_factory.mktemp("interrupted")
    environment, corpus, results = variables(folder / "cache"), write_corpus(folder / "corpus"), folder / "results"
    with (corpus / "table.csv").open("a") as table:
        table.write("a/bored.wav,a,bored\nb/empty.wav,b,sad\nb/silent.wav,b,sad\n")
    write_tone(corpus / "a" / "bored.wav")
    (corpus / "b" / "empty.wav").write_bytes(b"")
    soundfile.write(corpus / "b" / "silent.wav", np.zeros(16000), 16000)
    asked = manifest(corpus, results, *VARIED, "sweep.trials=2", "sweep.folds=[0,2]")
    command = [*RUN, *asked, "resources.max_concurrent_trials=1"]
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until(lambda: list(results.glob("*/lease.json")), driver)
        assert f"is held by process {driver.pid} on" in run_here(environment, *asked, code=1)
        until(lambda: list(results.glob("*/folds/*.parquet")), driver)
        driver.send_signal(signal.SIGTERM)
        output = driver.communicate(timeout=90)[0]
    finally:
        driver.kill()
    assert driver.returncode == 130, output
    assert "Traceback" not in output
    assert f"To go on: {shlex.join(['python', *command[1:]])}" in output
    assert 1 <= len(reader.open(results).commits) < 4
    return environment, asked, results


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_interrupt_keeps_what_is_finished(interrupted):
    _, _, results = interrupted
    assert not list(results.glob("*/lease.json"))
    assert reader.open(results).commits


@pytest.mark.cluster(seconds=12)
@pytest.mark.timeout(400)
def test_a_sweep_from_recordings_to_tables_and_on_after_an_interruption(interrupted, tmp_path, monkeypatch, capsys):
    environment, asked, begun = interrupted
    root, results, whole = asked[2].partition("=")[2], tmp_path / "begun", tmp_path / "whole"
    shutil.copytree(begun, results)
    of = {results: [*asked, f"results={results}"], whole: [*asked, f"results={whole}"]}
    told = run_here(environment, *of[results])
    assert "pooled" in told
    assert "next: emodarts report" in told
    opened = reader.open(results)
    assert len(opened.commits) == 4
    _check_figures(opened)
    (corpus,) = opened.table("corpora").to_pylist()
    assert corpus["utterances"] == 32
    assert json.loads(corpus["left_out"]) == {"bored": 1}
    assert [row["path"] for row in corpus["dropped"]] == ["b/empty.wav", "b/silent.wav"]
    run_here(environment, *of[whole])
    assert comparable(results) == comparable(whole), "those of a worker and of two starts are those of one process"

    files = {path: path.stat().st_mtime_ns for path in results.rglob("*.parquet")}
    monkeypatch.setattr(ray, "init", lambda *given, **options: pytest.fail("nothing is left to do"))
    run_here(environment, *of[results], address="local")
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*.parquet")} == files
    name = f"sweep.name={opened.sweeps[0]}"
    assert "training.epochs was 1, now 2" in run_here(environment, *of[whole], name, "training.epochs=2", code=1)
    (Path(root) / "a" / "angry0.wav").write_bytes(b"")
    told = run_here(environment, *of[whole], "sweep.trials=3", code=1)
    assert "files of the corpus have come or gone" in told

    assert cli.main(["report", str(whole)]) == 0
    assert "pooled" in capsys.readouterr().out


@pytest.mark.slow
def test_without_ray_units_are_pruned_and_interrupted_alike(environment, small_corpus, tmp_path, monkeypatch):
    asked = manifest(small_corpus, tmp_path / "results", *VARIED, "sweep.trials=5", "sweep.folds=[0]")
    asked += ["sweep.pruner=asha", "sweep.sampler=random", "sweep.training_rungs=[0.5]", "training.epochs=2"]
    units = []

    def ctrl_c_in_the_third(unit, *given):
        units.append(unit.key.trial)
        if len(units) == 3:
            raise KeyboardInterrupt
        return run_unit_locally(unit, *given)

    monkeypatch.setattr(local, "run_unit_locally", ctrl_c_in_the_third)
    assert "stopped; what is finished is kept. To go on: python" in run_here(environment, *asked, code=130)
    assert [t.status for t in reader.open(tmp_path / "results").trials()].count("running") == 1
    run_here(environment, *asked)
    assert units == [0, 1, 2, 2, 3, 4]
    opened = reader.open(tmp_path / "results")
    statuses = {t.trial: t.status for t in opened.trials()}
    assert sorted(statuses) == [0, 1, 2, 3, 4]
    assert set(statuses.values()) == {"complete", "pruned"}
    assert {c.key.trial: c.status for c in opened.commits} == statuses
    pruned = [number for number, status in statuses.items() if status == "pruned"]
    trained = [e["epoch"] for e in opened.table("epochs").to_pylist() if e["phase"] == "train" and e["trial"] in pruned]
    assert set(trained) == {0}, "they stopped at their rung"
    assert not list((tmp_path / "results").glob("*/checkpoints/*"))


@pytest.mark.slow(seconds=8)
def test_ensembles_are_written_at_the_end_and_nobody_who_proposes_hears_of_them(environment, small_corpus, tmp_path):
    def asked(results, *more):
        systems = ["system=[emodarts,cnn_lstm_attention]", "ensemble=[emodarts,cnn_lstm_attention]"]
        more = ["sweep.trials=2", "sweep.folds=[0,2]", "sweep.name=s", *more]
        return manifest(small_corpus, tmp_path / results, *VARIED, *systems, *more)

    told = run_here(environment, *asked("with"))
    assert "emodarts+top5" in told.replace("│\n│ ", "")
    run_here(environment, *asked("without", "sweep.top=0", "ensemble=[]"))
    assert comparable(tmp_path / "with") == comparable(tmp_path / "without")
    assert reader.open(tmp_path / "without").table("ensembles").num_rows == 0
    (sweep,) = reader.open(tmp_path / "with").parts
    rows = sweep.table("ensembles").to_pylist()
    assert rows == [e.row for e in evaluate_ensembles(sweep, 5, ("emodarts", "cnn_lstm_attention"))]
    names = ["cnn_lstm_attention+top5", "emodarts&cnn_lstm_attention+top5", "emodarts+top5"]
    assert sorted({(r["system"], r["fold"], r["n_members"]) for r in rows}) == [
        (name, fold, 4 if "&" in name else 2) for name in names for fold in (0, 2)
    ]
    (file,) = (tmp_path / "with" / "s" / "ensembles").iterdir()
    before = file.stat().st_mtime_ns
    run_here(environment, *asked("with"))
    assert file.stat().st_mtime_ns == before, "the same ones are not written again"
    run_here(environment, *asked("without", "sweep.top=1", "sweep.trials=3", "sweep.seeds=2", "sweep.seeds_of=members"))
    found = reader.open(tmp_path / "without").table("ensembles").to_pylist()
    assert {(r["system"], r["seed"]) for r in found} == {
        (f"{name}+top1", seed)
        for name in ("emodarts", "cnn_lstm_attention", "emodarts&cnn_lstm_attention")
        for seed in (0, 1)
    }


def _check_figures(opened):
    """Every figure in `folds` again, from the predictions alone, by scikit-learn."""
    names = ["study", "trial", "seed", "fold", "stage", "role", "test_set"]
    predictions = opened.table("predictions").to_pylist()
    rows = opened.table("folds").to_pylist()
    assert len(rows) == 4 * 3
    for row in rows:
        mine = [p for p in predictions if all(p[n] == row[n] for n in names)]
        y, p = [m["label"] for m in mine], [m["predicted"] for m in mine]
        present = sorted(set(y))
        assert row["n"] == len(mine) > 0
        assert row["uar"] == pytest.approx(recall_score(y, p, labels=present, average="macro"), abs=1e-6)
        assert row["war"] == pytest.approx(np.mean(np.array(y) == np.array(p)), abs=1e-6)
        f1 = f1_score(y, p, labels=present, average="macro", zero_division=0)
        assert row["macro_f1"] == pytest.approx(f1, abs=1e-6)
        for m in mine:
            assert m["predicted"] == row["classes"][int(np.argmax(m["probabilities"]))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("search.nodes=0", "search.nodes=0 is out of range: 1 to 8"),
        ("sweep.trails=1", "there is no setting sweep.trails: did you mean sweep.trials? `--help` lists all"),
    ],
)
def test_wrong_settings_are_one_clear_sentence(environment, small_corpus, tmp_path, given, message):
    asked = [*RUN, *manifest(small_corpus, tmp_path / "r", given)]
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert (done.stderr.startswith("error: "), done.stderr.count("\n")) == (True, 1)
    assert message in done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sweep.folds=[7]", "has folds 0 to 3"),
        ("+search.foo=1", "there is no setting search.foo: `--help` lists all"),
        ("corpus.excited=maybe", "corpus.excited=maybe is out of range: happy | drop"),
        ("+sweep.space.search.nodes={low:1,high:99}", "search.nodes=99 is out of range"),
        ("+sweep.space.search.nonsense={low:1,high:2}", "there is no setting search.nonsense"),
        ("corpus.protocol=manifest/speaker77", "manifest/speaker<k> with k from 3 to 4"),
    ],
)
def test_what_is_refused_before_anything_runs(environment, small_corpus, tmp_path, given, message):
    assert message in run_here(environment, *manifest(small_corpus, tmp_path / "r", given), code=1)


def test_without_a_system_nothing_is_searched_and_the_command_says_why(environment, small_corpus, tmp_path):
    of_a_search = ("system=", "search.epochs=", "search.channels=", "search.sequence_width=")
    asked = [given for given in manifest(small_corpus, tmp_path / "r") if not given.startswith(of_a_search)]
    for given in ("search.epochs=2", "search.method=darts", "search.scope=joint"):
        assert (
            f"{given} is of a search, and system=emodarts:fixed, the default, has none: add system=emodarts"
            in run_here(environment, *asked, given, code=1)
        )
    told = run_here(environment, *asked, *ONE_TRIAL, "sweep.folds=[0]")
    assert "no search is shown to be better (docs/evidence.md); system=emodarts searches" in told
    opened = reader.open(tmp_path / "r")
    assert {(row["system"], row["phase"]) for row in opened.table("epochs").to_pylist()} == {
        ("emodarts:fixed:joint", "train")
    }
    named = run_here(environment, *asked, *ONE_TRIAL, "system=emodarts:fixed", "sweep.folds=[0]", "search.epochs=2")
    assert "without effect on emodarts:fixed:joint: search.epochs=2" in named


@pytest.mark.slow
def test_a_sweep_whose_folder_is_deleted_says_so(environment, small_corpus, tmp_path, monkeypatch):
    asked = manifest(small_corpus, tmp_path / "results", *VARIED, "sweep.trials=1", "sweep.folds=[0]")
    monkeypatch.setattr(
        local, "run_unit_locally", lambda *given: shutil.rmtree(tmp_path / "results") or run_unit_locally(*given)
    )
    told = run_here(environment, *asked, code=1)
    assert "sweep.json is gone: the sweep's folder was moved or deleted" in told


def test_results_that_cannot_be_written(environment, small_corpus, tmp_path):
    (tmp_path / "file").write_text("")
    told = run_here(environment, *manifest(small_corpus, tmp_path / "file" / "below"), code=1)
    assert "cannot write" in told
    assert "Not a directory" in told
