"""Faults that only the machine can provoke: a disk that fills up, a worker that eats the memory of its node."""

import re
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from emodarts.results import reader
from tests.support.chaos import local_cluster
from tests.support.commands import RUN, VARIED, manifest, run_here
from tests.support.files import REPOSITORY


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("needs a user who may mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Take all the room there is."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_a_disk_that_fills_up_stops_the_sweep_and_costs_nothing(environment, small_corpus, small_disk):
    results = small_disk / "results"
    space = [*VARIED, "sweep.trials=3", "sweep.folds=[0,1]", "sweep.sampler=random"]
    asked = [*RUN, *manifest(small_corpus, results, *space)]
    driver = subprocess.Popen(asked, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.time() + 200
    while not list(results.glob("*/folds/*.parquet")) and driver.poll() is None and time.time() < deadline:
        time.sleep(0.02)
    fill(small_disk)
    told = driver.communicate(timeout=200)[0]
    assert driver.returncode == 1, told
    # A checkpoint's message names the file in between.
    assert re.search(r"No space left on device[^;]*; make room", " ".join(told.split())), told
    assert "Nothing is lost: once that is mended, go on with python" in told
    assert "Traceback" not in told
    opened = reader.open(results)
    before = {c.key.name: c.attempt for c in opened.commits}
    assert 1 <= len(before) < 6
    assert {c.status for c in opened.commits} == {"complete"}
    assert {t.status for t in opened.trials()} <= {"complete", "running"}
    (small_disk / "filler").unlink()
    run_here(environment, *asked[len(RUN) :])
    opened = reader.open(results)
    after = {c.key.name: c.attempt for c in opened.commits}
    assert len(after) == 6
    assert before.items() <= after.items(), "what had ended was not run again"
    assert {t.status for t in opened.trials()} == {"complete"}


AVAILABLE, MARGIN = 14 * 2**30, 8 * 2**30  # bytes; what else runs on this machine meanwhile takes less than the margin
HOG = """
import sys
sys.path.insert(0, {repository!r})
from rich.console import Console
from tests.support.studies import begin_with_journal
from sweeps.execution.ray_session import fit, session
from sweeps.settings import RaySettings, ResourceSettings
from sweeps.units.system_queues import SystemQueues

def unit(config):
    import mmap
    import time
    from ray import tune

    taken, flags = [], mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    for step in range(240 if config["unit"].key.trial == 1 else 0):
        if step < 44:  # 11 GB, whose pages are there at once
            taken.append(mmap.mmap(-1, 2**28, flags))
        time.sleep(0.05)
    tune.report({{"status": "complete", "dev_uar": 0.5, "parameters": 1}})

with session(RaySettings(address={address!r}), ResourceSettings(), Console(quiet=True)):
    studies = begin_with_journal({results!r}, trials=3)
    fit(unit, SystemQueues([studies]), {{"cpu": 1}}, [], 1)
"""


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_a_unit_that_eats_the_memory_fails_and_the_others_go_on(environment, tmp_path):
    memory = psutil.virtual_memory()
    if memory.available < AVAILABLE:
        pytest.skip(f"needs {AVAILABLE // 2**30} GB of free memory, and {memory.available / 2**30:.1f} GB are")
    share = (memory.total - memory.available + MARGIN) / memory.total
    with local_cluster(nodes=1, RAY_memory_usage_threshold=f"{share:.3f}") as cluster:
        told = {"repository": str(REPOSITORY), "address": cluster.address, "results": str(tmp_path)}
        variables = {**environment, **cluster.environment}
        done = subprocess.run(
            [sys.executable, "-c", HOG.format(**told)], env=variables, capture_output=True, text=True, timeout=300
        )
    assert done.returncode == 0, done.stdout + done.stderr
    trials = {t.trial: t for t in reader.open(tmp_path).trials()}
    assert {number: t.status for number, t in trials.items()} == {0: "complete", 1: "failed", 2: "complete"}
    assert trials[1].retries == 2
    assert "its worker died 3 times" in trials[1].reason
    assert "memory" in trials[1].reason.partition(":")[2]
