"""Builders of a store: killed, waiting, in several processes; the bytes are the same."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from emodarts.errors import EmodartsError
from emodarts.features.store import building, extraction, workers
from emodarts.features.store.store import open_store
from tests.support.builders import builder, plan_of
from tests.support.files import assert_same_bytes

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["emodarts.features.store.building", "emodarts.corpora.readers.manifest"]
)  # once, not in each builder


def start(*arguments):
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=builder, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def listen(pipe, beginning, seconds=60):
    """Wait for a sentence that begins so."""
    while pipe.poll(seconds):
        text = pipe.recv()
        if text.startswith(beginning):
            return text
    raise AssertionError(f"nobody said '{beginning}'")


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


def workers_of(folder):
    """Processes with this folder on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder).encode() in words:
            found.append(int(path.parent.name))
    return found


@pytest.mark.cluster(seconds=5)
def test_processes_give_the_same_bytes(small_corpus, tmp_path):
    done = []
    one = building.build_planned(plan_of(small_corpus), tmp_path / "one", processes=1)
    two = building.build_planned(
        plan_of(small_corpus), tmp_path / "two", processes=2, progress=lambda done_, total: done.append((done_, total))
    )
    assert_same_bytes(one.folder, two.folder)
    assert done == [(rows, 32) for rows in range(0, 33, 4)]
    assert workers_of(two.folder) == []


def test_an_interrupted_build_resumes_to_the_same_bytes(small_corpus, tmp_path, monkeypatch):
    whole = building.build_planned(plan_of(small_corpus), tmp_path / "whole")
    written = []
    original = extraction.extract_shard

    def fail_third(plan, number, *more):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(number)
        original(plan, number, *more)

    monkeypatch.setattr(extraction, "extract_shard", fail_third)
    with pytest.raises(KeyboardInterrupt):
        building.build_planned(plan_of(small_corpus), tmp_path / "resumed")
    folder = tmp_path / "resumed" / whole.folder.name
    (folder / "shard-00005.arrow.123-abcd.partial").write_bytes(b"of a dead builder")
    with pytest.raises(EmodartsError, match="no complete feature store"):
        open_store(folder)
    resumed = []
    monkeypatch.setattr(
        extraction, "extract_shard", lambda plan, n, *more: (resumed.append(n), original(plan, n, *more))
    )
    building.build_planned(plan_of(small_corpus), tmp_path / "resumed")
    assert resumed == [2, 3, 4, 5, 6, 7]
    assert_same_bytes(whole.folder, folder)


@pytest.mark.slow(seconds=15)
def test_twenty_kills_leave_the_same_bytes(small_corpus, tmp_path):
    """SIGKILL at random moments: of builders that work alone, and of some with workers, which end by themselves."""
    for number in range(32, 40):  # more shards to die in
        shutil.copy(small_corpus / "a" / "sad0.wav", small_corpus / "a" / f"sad{number}.wav")
        with (small_corpus / "table.csv").open("a") as table:
            table.write(f"a/sad{number}.wav,a,sad\n")
    whole = building.build_planned(plan_of(small_corpus, 1), tmp_path / "whole").folder
    cache, rng, kills, finished = tmp_path / "killed", random.Random(0), 0, 0
    folder = cache / whole.name
    while kills < 20:
        processes = 2 if kills in (7, 15) else 1
        if processes == 2:
            shutil.rmtree(cache, ignore_errors=True)
        process, pipe = start(cache, small_corpus, 1, processes)
        listen(pipe, "starting")
        if processes == 2:
            until(lambda: list(folder.glob("shard-*.arrow")))
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            kills += 1
        if (folder / "store.json").exists():
            assert_same_bytes(whole, building.build_planned(plan_of(small_corpus, 1), cache).folder)
            shutil.rmtree(cache)
            finished += 1
    building.build_planned(plan_of(small_corpus, 1), cache)
    assert_same_bytes(whole, folder)
    until(lambda: not workers_of(folder))


@pytest.mark.slow
def test_one_builds_the_others_wait_and_go_on_if_it_dies(small_corpus, tmp_path):
    cache, folder = tmp_path / "cache", tmp_path / "cache" / plan_of(small_corpus, 1).name
    first, _ = start(cache, small_corpus, 1, 1, 5)
    until(lambda: len(list(folder.glob("shard-*.arrow"))) == 5)
    waiting = [start(cache, small_corpus, 1, 1) for _ in range(2)]
    for _, pipe in waiting:
        assert f"by process {first.pid} on" in listen(pipe, f"{folder.name} is being built")
    time.sleep(0.6)
    assert len(list(folder.glob("shard-*.arrow"))) == 5
    first.kill()
    for process, pipe in waiting:
        assert listen(pipe, "built") == "built 32"
        process.join()
        assert process.exitcode == 0
    assert not list(cache.glob("*.lock"))


@pytest.mark.slow
def test_waiting_shows_how_far_the_builder_is(small_corpus, tmp_path):
    folder = tmp_path / plan_of(small_corpus, 1).name
    first, _ = start(tmp_path, small_corpus, 1, 1, 5)
    until(lambda: len(list(folder.glob("shard-*.arrow"))) == 5)

    def progress(done, total):
        assert (done, total) in ((5, 32), (32, 32)) or done > 5
        if done == 5:
            first.kill()

    assert len(building.build_planned(plan_of(small_corpus, 1), tmp_path, progress=progress).utterances) == 32


@pytest.mark.cluster(seconds=5)
def test_a_worker_that_dies_is_told(small_corpus, tmp_path):
    """As the system ends a process for its memory."""
    plan = plan_of(small_corpus, 1)

    def kill_one(done, total):
        if done == 2:
            os.kill(workers_of(tmp_path / plan.name)[0], signal.SIGKILL)

    with pytest.raises(EmodartsError, match=r"killed by signal 9 in shard .* run again"):
        building.build_planned(plan, tmp_path, processes=2, progress=kill_one)
    assert workers_of(tmp_path / plan.name) == []
    assert len(building.build_planned(plan, tmp_path).utterances) == 32


def test_a_dead_worker_whose_output_is_held_open_is_told(tmp_path, monkeypatch):
    """As by a process that a library of the worker started, and that lives on."""
    script = ["sh", "-c", "read shard; sleep 9 & exit 3"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    monkeypatch.setattr(workers, "_start", lambda folder: subprocess.Popen(script, **pipes))
    monkeypatch.setattr(workers, "_LOOK_SECONDS", 0.05)
    start = time.monotonic()
    with pytest.raises(EmodartsError, match="ended with status 3 in shard 0"):
        list(workers.extract_in_processes(tmp_path, [0], 1))
    assert time.monotonic() - start < 8


@pytest.mark.cluster(seconds=5)
def test_what_goes_wrong_in_a_worker_is_told(small_corpus, tmp_path, monkeypatch):
    plan = plan_of(small_corpus)
    monkeypatch.setattr(building, "_is_whole", lambda *_: False)
    (tmp_path / plan.name / "shard-00003.arrow").mkdir(parents=True)  # cannot be replaced by a file
    with pytest.raises(EmodartsError, match=r"cannot build features in .*EMODARTS_CACHE"):
        building.build_planned(plan, tmp_path, processes=2)
