"""The command itself, on a tiny corpus: tables, resumption, refusals."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY, write_tone
from rich.console import Console
from sklearn.metrics import f1_score, recall_score
from test_settings import settings

from emodarts.errors import EmodartsError
from emodarts.results import reader
from sweeps.driver import run_sweep

TINY = [
    "ray.dashboard=false",
    "features.bands=32",
    "search.epochs=1",
    "search.cells=2",
    "search.nodes=1",
    "search.channels=4",
    "search.sequence_width=8",
    "search.stem_channels=4",
    "search.sequence_operations=[none,skip_connect,lstm_1,rnn_1]",
    "training.epochs=1",
    "training.channels=4",
    "training.sequence_width=8",
]


def command(root, results, *more):
    corpus = [
        "corpus=manifest",
        "corpus.class_set='angry,sad'",
        f"corpus.root={root}",
        "corpus.protocol=manifest/speaker4",
    ]
    arguments = [*corpus, *TINY, f"results={results}", *more]
    return [sys.executable, str(REPOSITORY / "sweeps" / "run.py"), *arguments]


@pytest.fixture
def environment(tmp_path):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EMODARTS_", "RAY_"))}
    space = [f"~sweep.space.search.{name}" for name in ("seqnn", "learning_rate")] + ["~sweep.space.training"]
    fixed = [
        f"sweep.space.search.{k}={v}" for k, v in (("nodes", 1), ("cells", 2), ("channels", 4), ("unrolled", "false"))
    ]
    bounds = ["sweep.space.search.epochs.low=1", "sweep.space.search.epochs.high=2"]
    return {**kept, "EMODARTS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}, [*space, *fixed, *bounds]


def run(environment, root, results, *more, code=0):
    env, space = environment
    done = subprocess.run(command(root, results, *space, *more), env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def comparable(results):
    """All rows without times and attempts."""
    loose = {"search_seconds", "train_seconds", "peak_memory_mb", "seconds", "proposed_at", "ended_at", "retries"}
    loose |= {"git_revision"}  # somebody may edit a file meanwhile
    opened = reader.open(results)
    rows = {}
    for name in ("trials", "folds", "predictions", "epochs", "genotypes"):
        table = opened.table(name)
        table = table.select([c for c in table.column_names if c not in loose])
        rows[name] = sorted(json.dumps(r, sort_keys=True) for r in table.to_pylist())
    return rows


@pytest.mark.timeout(900)
def test_a_sweep_from_recordings_to_tables_and_on_after_kill(environment, small_corpus, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with (small_corpus / "table.csv").open("a") as table:
        table.write("a/bored.wav,a,bored\nb/empty.wav,b,sad\nb/silent.wav,b,sad\n")
    write_tone(small_corpus / "a" / "bored.wav")
    (small_corpus / "b" / "empty.wav").write_bytes(b"")
    soundfile.write(small_corpus / "b" / "silent.wav", np.zeros(16000), 16000)
    told = run(environment, small_corpus, whole, "sweep.trials=2")
    assert "pooled" in told
    assert "next: emodarts report" in told
    opened = reader.open(whole)
    assert len(opened.commits) == 8
    _check_figures(opened)
    (corpus,) = opened.table("corpora").to_pylist()
    assert corpus["utterances"] == 32
    assert json.loads(corpus["left_out"]) == {"bored": 1}
    assert [row["path"] for row in corpus["dropped"]] == ["b/empty.wav", "b/silent.wav"]
    _kill_in_the_middle(environment, small_corpus, killed)
    run(environment, small_corpus, killed, "sweep.trials=2")
    assert comparable(killed) == comparable(whole)

    before = comparable(whole)
    begin = time.time()
    run(environment, small_corpus, whole, "sweep.trials=2")  # nothing left to do: no Ray is started
    assert comparable(whole) == before
    assert time.time() - begin < 60
    refused = run(environment, small_corpus, whole, "sweep.name=" + opened.sweeps[0], "training.epochs=2", code=1)
    assert "training.epochs was 1, now 2" in refused
    (small_corpus / "a" / "angry0.wav").write_bytes(b"")
    assert "files of the corpus have come or gone" in run(environment, small_corpus, whole, "sweep.trials=3", code=1)

    report = [sys.executable, "-m", "emodarts.cli", "report", str(whole)]
    done = subprocess.run(report, capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert done.returncode == 0
    assert "pooled" in done.stdout


def _check_figures(opened):
    """Every figure in `folds` again, from the predictions alone, by scikit-learn."""
    names = ["study", "trial", "seed", "fold", "stage", "role", "test_set"]
    predictions = opened.table("predictions").to_pylist()
    rows = opened.table("folds").to_pylist()
    assert len(rows) == 8 * 3
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


def _kill_in_the_middle(environment, root, results):
    env, space = environment
    arguments = command(root, results, *space, "sweep.trials=2")
    driver = subprocess.Popen(arguments, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.time() + 200
        while time.time() < deadline and len(list(results.glob("*/folds/*.parquet"))) < 2:
            time.sleep(0.1)
        second = subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=100)
        assert driver.poll() is None
        assert second.returncode == 1
        assert f"is held by process {driver.pid} on" in second.stderr
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert 2 <= len(list(results.glob("*/folds/*.parquet"))) < 8


@pytest.mark.timeout(600)
def test_interrupt_keeps_what_is_finished(environment, small_corpus, tmp_path):
    env, space = environment
    results = tmp_path / "results"
    arguments = command(small_corpus, results, *space, "sweep.trials=50", "sweep.folds=[0]")
    driver = subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.time() + 200
    while time.time() < deadline and not list(results.glob("*/folds/*.parquet")):
        time.sleep(0.1)
    driver.send_signal(signal.SIGTERM)
    told = driver.communicate(timeout=90)[0]
    assert driver.returncode == 130, told
    assert "To go on: python" in told
    assert "Traceback" not in told
    assert not list(results.glob("*/lease.json"))
    assert reader.open(results).commits


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("search.nodes=0", "search.nodes=0 is out of range: 1 to 8"),
        ("sweep.trails=1", "there is no setting sweep.trails: did you mean sweep.trials? `--help` lists all"),
        ("sweep.folds=[7]", "has folds 0 to 3"),
    ],
)
def test_wrong_settings_are_one_clear_sentence(environment, small_corpus, tmp_path, given, message):
    env, _ = environment
    done = subprocess.run(
        command(small_corpus, tmp_path / "r", given), env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert (done.stderr.startswith("error: "), done.stderr.count("\n")) == (True, 1)
    assert message in done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("+search.foo=1", "there is no setting search.foo: `--help` lists all"),
        ("corpus.excited=maybe", "corpus.excited=maybe: choose one of happy, drop"),
        ("sweep.space.search.nodes={low:1,high:99}", "search.nodes=99 is out of range"),
        ("+sweep.space.search.nonsense={low:1,high:2}", "there is no setting search.nonsense"),
        ("corpus.protocol=manifest/speaker77", "manifest/speaker<k> with k from 3 to 4"),
    ],
)
def test_what_the_driver_refuses_before_anything_runs(small_corpus, tmp_path, given, message):
    with pytest.raises(EmodartsError, match=re.escape(message)):
        run_sweep(settings(*command(small_corpus, tmp_path / "r", given)[2:]), Console(quiet=True))


def test_results_that_cannot_be_written(environment, small_corpus, tmp_path):
    (tmp_path / "file").write_text("")
    told = run(environment, small_corpus, tmp_path / "file" / "below", code=1)
    assert "cannot write" in told
    assert "Not a directory" in told
