"""A disk that fills up."""

import re
import subprocess
import time
from contextlib import suppress

import pytest

from emodarts.results import reader
from tests.support.commands import RUN, VARIED, manifest, run_here


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
    asked = [*RUN, *manifest(small_corpus, results, *space, "resources.max_concurrent_trials=1")]
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
