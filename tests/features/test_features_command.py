"""`emodarts features`: build, list, delete."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import soundfile

from emodarts.cli import main
from emodarts.features.store.inventory import list_stores
from emodarts.files import file_lock
from tests.support.files import write_tone


@pytest.fixture
def features(small_corpus, tmp_path, monkeypatch, capsys):
    """Runs `emodarts features` with the small corpus in an empty cache: (exit code, output, errors)."""
    monkeypatch.setenv("EMODARTS_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        code = main(["features", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def build(small_corpus, features):
    return lambda *more: features("manifest", "--root", str(small_corpus), "--set", "corpus.class_set=full", *more)


def only(tmp_path):
    (store,) = list_stores(tmp_path / "cache" / "features")
    return store


def test_builds_and_says_what(build, small_corpus, tmp_path):
    soundfile.write(small_corpus / "a" / "sad0.wav", [0.0] * 16000, 16000)
    code, output, errors = build("--set", "features.n_mels=32", "--set", "features.speeds=[1.0]", "--processes", "1")
    assert (code, errors) == (0, "")
    size, folder, counts, dropped = output.splitlines()
    assert size.startswith(
        "features of manifest: 32 utterances, one copy of each, 50 frames a second of 32 values, at most "
    )
    assert "are free" in size
    assert folder == str(only(tmp_path).folder)
    assert counts.startswith("31 utterances, 1 dropped, ")
    assert counts.endswith(" s")
    assert dropped == "  a/sad0.wav: silent: every sample is the same"
    about = json.loads((only(tmp_path).folder / "store.json").read_text())
    assert (about["corpus"], about["root"], about["utterances"]) == ("manifest", str(small_corpus), 31)
    assert about["settings"]["n_mels"] == 32

    code, output, _ = build("--set", "features.n_mels=32", "--set", "features.speeds=[1.0]")
    assert code == 0
    assert output.splitlines()[0] == folder  # it is there: nothing is built


def test_lists_complete_unfinished_and_damaged_stores(build, features, tmp_path):
    assert "no feature stores" in features("--list")[1]
    build("--set", "features.kind=mfcc")
    whole = only(tmp_path)
    assert (whole.complete, whole.state, whole.utterances) == (True, "complete", 32)
    output = features("--list")[1]
    assert whole.folder.name in output  # unbroken, to be copied
    assert "mfcc 40" in output
    about = json.loads((whole.folder / "store.json").read_text())
    about["settings"]["a_setting_of_tomorrow"] = 1
    (whole.folder / "store.json").write_text(json.dumps(about))
    assert "of another version" in only(tmp_path).state  # and the other stores are still listed
    (whole.folder / "store.json").unlink()
    assert only(tmp_path).state == "1 of 1 shards"
    assert not only(tmp_path).complete
    (whole.folder / "plan.arrow").write_bytes(b"torn")
    assert "cannot be read" in only(tmp_path).state
    assert features("--list")[0] == 0


def test_deletes_one_or_all_that_are_unfinished(build, features, tmp_path):
    cache = tmp_path / "cache" / "features"
    for bands in (16, 24, 32):
        build("--set", f"features.n_mels={bands}")
    one, other, third = (store.folder for store in list_stores(cache))
    code, output, _ = features("--delete", one.name)
    assert (code, output.split(" (")[0]) == (0, f"deleted {one.name}")
    (other / "store.json").unlink()
    assert other.name in features("--delete", "unfinished")[1]
    assert [store.folder for store in list_stores(cache)] == [third]
    assert "nothing unfinished" in features("--delete", "unfinished")[1]
    assert os.listdir(cache) == [third.name]
    for name in ("nothing", "../features", ""):
        code, _, errors = features("--delete", name)
        assert code == 1
        assert errors.startswith("error: no feature store")


def test_what_is_being_built_is_not_deleted(build, features, tmp_path):
    build()
    store = only(tmp_path).folder
    (store / "store.json").unlink()
    with file_lock(store, lambda holder: False) as locked:
        assert locked
        code, _, errors = features("--delete", store.name)
        assert code == 1
        assert "is being built right now" in errors
        assert "nothing unfinished to delete" in features("--delete", "unfinished")[1]
    assert features("--delete", store.name)[0] == 0
    assert not store.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say what to do"),
        (["manifest", "--list"], "say what to do"),
        (["manifest", "--root", "/nowhere"], "/nowhere, does not exist"),
        (["demo", "--device", "tpu"], "there is no such device"),
        (["demo", "--processes", "0"], "give 1 or more"),
        (["demo", "--set", "features.kind=mel"], "log_mel | mfcc | pretrained | encoder | egemaps"),
        (["demo", "--set", "features.nothing=1"], "there is no setting features.nothing"),
    ],
)
def test_mistakes_are_told_in_a_sentence(features, arguments, words):
    code, _, errors = features(*arguments)
    assert code == 1
    assert errors.startswith("error: ")
    assert words in errors
    assert errors.count("\n") == 1


@pytest.mark.slow
def test_ctrl_c_ends_all_and_keeps_what_is_finished(small_corpus, tmp_path):
    """From a terminal the signal goes to the whole group; the workers leave it to the builder."""
    for number in range(100):
        write_tone(small_corpus / "e" / f"sad{number}.wav", seconds=4.0, seed=number)
        with (small_corpus / "table.csv").open("a") as table:
            table.write(f"e/sad{number}.wav,e,sad\n")
    command = [sys.executable, "-m", "emodarts.cli", "features", "manifest", "--root", str(small_corpus)]
    process = subprocess.Popen(
        [
            *command,
            *("--set", "features.hop_ms=1"),
            *("--set", "features.noise_snr_db=[5,10,15,20]"),
            "--processes",
            "2",
        ],
        env={**os.environ, "EMODARTS_CACHE": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    end = time.monotonic() + 60
    while not list(tmp_path.glob("features/*/shard-*.arrow")) and time.monotonic() < end:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "stopped; what is finished is kept\n")
    (folder,) = tmp_path.glob("features/*-log_mel-????????????????")
    names = sorted(path.name for path in folder.iterdir())
    assert names[0] == "plan.arrow"
    assert all(name.startswith("shard-") and name.endswith(".arrow") for name in names[1:])
    assert 1 <= len(names[1:]) < 5
