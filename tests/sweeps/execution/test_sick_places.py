"""Real Ray over two nodes, one of them sick, and units that strike or eat: nothing is lost to what a place does."""

import json
import subprocess
import sys
from collections import Counter

import psutil
import pytest

from emodarts.results import reader
from tests.support.chaos import local_cluster
from tests.support.commands import variables
from tests.support.files import REPOSITORY

# One driver runs them all. Units need no torch: what runs one is put in the place of `sweeps.execution.worker`.
DRIVER = """
import json
import sys
sys.path.insert(0, {repository!r})
import time
from functools import partial
from rich.console import Console
from emodarts.storage import Storage
from sweeps.execution.faults import SET_ASIDE_SECONDS
from sweeps.execution.places import write_set_aside
from sweeps.execution.tune_fit import fit
from sweeps.nodes.session import session
from sweeps.units.checkpoint_folders import checkpoint_mark
from sweeps.settings import RaySettings, ResourceSettings
from sweeps.units.system_queues import SystemQueues
from tests.support.studies import begin_with_journal


def unit_that_meets(fault, results):
    def unit(config):
        import os
        import signal
        import sys
        import time
        from pathlib import Path
        from types import SimpleNamespace

        from emodarts.storage import Storage
        from sweeps.execution import trainable
        from sweeps.execution.faults import PlaceFaultError, fault_kind
        from sweeps.units.checkpoint_folders import checkpoint_folder
        from sweeps.units.outcomes import UnitOutcome

        def eat():  # 11 GB, whose pages are there at once, until Ray ends this process
            import mmap

            taken, flags = [], mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
            for step in range(240):
                if step < 44:
                    taken.append(mmap.mmap(-1, 2**28, flags))
                time.sleep(0.05)

        def wait(folder):  # so that units are left for what follows, and those that were struck find a place
            start, before = time.time(), 2 if fault == "sick" else 0
            while not (folder / "s" / "set_aside" / "sick.json").exists() and time.time() < start + 120:
                sick, healthy = ((folder / f"visits-{{place}}") for place in ("sick", "healthy"))
                struck = sick.read_text().split()[before:] if sick.exists() else []
                if set(struck) - set(healthy.read_text().split()) and time.time() > start + 1:
                    break
                time.sleep(0.1)

        def run(unit, sweep, report, place, should_stop):
            visits = Path(results) / f"visits-{{place.replace(' ', '-')}}"
            with visits.open("a") as file:
                file.write(f"{{unit.key.trial}}\\n")
            count = len(visits.read_text().split())
            if fault in ("sick", "lost") and place == "healthy" and count > 4:
                wait(visits.parent)
            try:
                if fault == "sick" and place == "sick" and count >= 3:
                    import torch

                    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
                if fault == "lost" and place == "sick":
                    os.kill(os.getpid(), signal.SIGKILL)
                if fault == "hog" and unit.key.trial == 1:
                    eat()
                if fault == "processes" and unit.key.trial == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                if fault == "memory" and config["gpus"] < (2.0 if unit.key.trial == 0 else 0.5):
                    import torch

                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB")
                epochs = len(list(visits.parent.glob("*.epoch")))
                if fault == "processes" and unit.key.trial == 0 and epochs < 5:
                    (visits.parent / f"{{epochs}}.epoch").touch()
                    checkpoints = checkpoint_folder(Storage.open(results), unit.key)
                    checkpoints.write("search.safetensors", bytes(epochs + 1))
                    os.kill(os.getpid(), signal.SIGKILL)
            except RuntimeError as error:
                raise PlaceFaultError(fault_kind(error), str(error)) from error
            return UnitOutcome("complete", 0.5, 1)

        sys.modules["sweeps.execution.worker"] = SimpleNamespace(run_unit_locally=run)
        trainable.AVOIDED_SECONDS = 2.0
        trainable.run_unit(config, SimpleNamespace(results=results, sweep="s"))

    return unit


def run_sweep(fault, results, trials, gpus, limit):
    storage = Storage.open(results)

    def set_aside(place, reason):
        print("set aside:", place, "because", reason)
        write_set_aside(storage, "s", place, reason, time.time() + SET_ASIDE_SECONDS)

    studies = begin_with_journal(results, trials=trials)
    resources, mark_of = {{"cpu": 1, "gpu": gpus}}, partial(checkpoint_mark, storage)
    fit(unit_that_meets(fault, results), SystemQueues([studies]), resources, [], limit, mark_of, set_aside)
    print("complete" if studies.complete else f"stopped: {{studies.stopped}}")


with session(RaySettings(address={address!r}), ResourceSettings(), Console(quiet=True)):
    for line in sys.stdin:
        run_sweep(**json.loads(line))
        print("END", flush=True)
"""


AVAILABLE, MARGIN = 14 * 2**30, 8 * 2**30  # bytes; what else runs on this machine meanwhile takes less than the margin


@pytest.fixture(scope="module")
def memory():
    """The machine's memory before anything was started."""
    return psutil.virtual_memory()


@pytest.fixture(scope="module")
def run_sweep(memory, tmp_path_factory):
    """Runs trials that meet a fault, on two nodes: what the driver said, and the trials by number."""
    environment = variables(tmp_path_factory.mktemp("cache"))
    used = min(0.99, (memory.total - memory.available + MARGIN) / memory.total)
    head = {"cpus": 1, "gpus": 1, "name": "healthy"}
    with local_cluster(nodes=0, head=head, RAY_memory_usage_threshold=f"{used:.3f}") as cluster:
        cluster.add_node(1, 1, "sick")
        command = [sys.executable, "-c", DRIVER.format(repository=str(REPOSITORY), address=cluster.address)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        driver = subprocess.Popen(command, env={**environment, **cluster.environment}, **pipes)

        def run(fault, results, trials, gpus=0, limit=None):
            asked = {"fault": fault, "results": str(results), "trials": trials, "gpus": gpus, "limit": limit}
            driver.stdin.write(json.dumps(asked) + "\n")
            driver.stdin.flush()
            output = ""
            for line in driver.stdout:
                if line == "END\n":
                    return output, {t.trial: t for t in reader.open(results).trials()}
                output += line
            raise AssertionError(f"the driver has ended: {output}")

        yield run
        driver.stdin.close()
        driver.kill()
        driver.wait()


@pytest.fixture(scope="module")
def processes_that_die(run_sweep, tmp_path_factory):
    """Unit 0 dies five times, each time one epoch further; unit 1 wherever it begins."""
    return run_sweep("processes", tmp_path_factory.mktemp("processes"), trials=4)


@pytest.mark.cluster(seconds=30)
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("fault", "count"), [("sick", 40), ("lost", 30)])
def test_a_place_that_is_sick_is_set_aside_and_no_unit_fails(run_sweep, tmp_path, fault, count):
    """`sick`: its GPU fails from its third unit on; `lost`: every worker there is killed at once."""
    output, trials = run_sweep(fault, tmp_path, count)
    assert Counter(t.status for t in trials.values()) == {"complete": count}
    assert "complete" in output
    assert "set aside: sick because" in output
    assert output.count("set aside:") == 1
    visits = Counter((tmp_path / "visits-sick").read_text().split())
    healthy = 2 if fault == "sick" else 0
    assert sum(visits.values()) == healthy + 3, "three quick faults, and nothing came there any more"
    assert sum(t.retries for t in trials.values()) == 3
    about = json.loads((tmp_path / "s" / "set_aside" / "sick.json").read_text())
    assert about["place"] == "sick"
    assert about["reason"] in output


@pytest.mark.cluster(seconds=20)
@pytest.mark.timeout(400)
def test_a_unit_that_crashes_its_process_everywhere_fails_by_itself(processes_that_die):
    output, trials = processes_that_die
    assert {number: t.status for number, t in trials.items()} == {
        n: "failed" if n == 1 else "complete" for n in range(4)
    }
    assert "set aside" not in output
    assert "without progress (healthy, sick)" in trials[1].reason


@pytest.mark.cluster(seconds=1)
@pytest.mark.timeout(400)
def test_deaths_with_progress_between_are_no_failure(processes_that_die):
    output, trials = processes_that_die
    assert trials[0].status == "complete"
    assert trials[0].retries == 5
    assert "set aside" not in output


@pytest.mark.cluster(seconds=20)
@pytest.mark.timeout(400)
def test_out_of_memory_on_a_gpu_takes_twice_the_share_and_fails_with_a_whole_one(run_sweep, tmp_path):
    output, trials = run_sweep("memory", tmp_path, trials=3, gpus=0.25)
    assert {n: t.status for n, t in trials.items()} == {0: "failed", 1: "complete", 2: "complete"}
    assert trials[0].reason.startswith("out of GPU memory with a whole GPU to itself: CUDA out of memory")
    assert "set aside" not in output


@pytest.mark.cluster(seconds=20)
@pytest.mark.timeout(400)
def test_a_unit_that_eats_the_memory_fails_and_the_others_go_on(memory, run_sweep, tmp_path):
    if memory.available < AVAILABLE:
        pytest.skip(f"needs {AVAILABLE // 2**30} GB of free memory, and {memory.available / 2**30:.1f} GB are")
    _, trials = run_sweep("hog", tmp_path, trials=3, limit=1)
    assert {number: t.status for number, t in trials.items()} == {0: "complete", 1: "failed", 2: "complete"}
    assert trials[1].retries == 2
    assert "its worker died 3 times" in trials[1].reason
    assert "memory" in trials[1].reason.partition(":")[2]
