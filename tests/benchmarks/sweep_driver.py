"""What the driver itself costs: many units of empty work on two workers, and taking up a large sweep again.

    python tests/benchmarks/sweep_driver.py [--units 2000] [--configurations 1000] [--folds 5]

Prints the driver's CPU time a unit and its growth in memory beside those of as many plain Ray tasks, and how long a
driver needs to rebuild the studies of a sweep of 1,000 configurations x 5 folds and its list of what is to do. The last
line is JSON.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psutil
import ray
from rich.console import Console

from emodarts.results import reader
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from sweeps.execution.tune_fit import fit
from sweeps.nodes.session import session
from sweeps.settings import RaySettings, ResourceSettings, SweepSettings
from sweeps.units.study_queue import StudyQueue
from sweeps.units.system_queues import SystemQueues
from tests.support.studies import commit, make_specs


def begin(root: str, folds: int, trials: int) -> StudyQueue:
    """A sweep under random proposals."""
    storage = Storage.open(root)
    register(storage, "s", {})
    settings = SweepSettings(trials=trials, sampler="random", study_per="sweep")
    return StudyQueue(settings, make_specs(range(folds)), SweepWriter(storage, "s"), reader.open(root))


def measured(act: Any) -> tuple[float, float, float]:
    """Seconds, CPU seconds of this process, growth of its memory in MB."""
    process = psutil.Process()
    memory, cpu, start = process.memory_info().rss, time.process_time(), time.perf_counter()
    act()
    grown = (process.memory_info().rss - memory) / 2**20
    return time.perf_counter() - start, time.process_time() - cpu, grown


def through_the_sweep(units: int) -> tuple[float, float, float]:
    """Units of empty work under Tune."""

    def empty(config: dict[str, Any]) -> None:
        from ray import tune

        tune.report({"status": "complete", "dev_uar": 0.5, "parameters": 1})

    with tempfile.TemporaryDirectory() as folder:
        studies = begin(folder, 1, units)
        return measured(lambda: fit(empty, SystemQueues([studies]), {"cpu": 1}, [], 2))


def as_plain_tasks(units: int) -> tuple[float, float, float]:
    """As many tasks, two at once."""

    @ray.remote(num_cpus=1)
    def empty(number: int) -> dict[str, Any]:
        return {"status": "complete", "dev_uar": 0.5, "parameters": 1}

    def run() -> None:
        running = [empty.remote(n) for n in range(2)]
        for number in range(2, units + 2):
            (done,), running = ray.wait(running, num_returns=1)
            ray.get(done)
            if number < units:
                running.append(empty.remote(number))
        ray.get(running)

    return measured(run)


def taken_up(configurations: int, folds: int) -> float:
    """Seconds until a new driver knows what is to do."""
    with tempfile.TemporaryDirectory() as folder:
        studies = begin(folder, folds, configurations)
        while (unit := studies.next_unit()) is not None:
            outcome = commit(studies, unit)
            if (unit.key.trial, unit.key.fold) != (configurations - 1, folds - 1):
                studies.on_unit_end(unit, outcome)
        start = time.perf_counter()
        again = begin(folder, folds, configurations)
        seconds = time.perf_counter() - start
        assert again.complete or len(again.waiting) <= folds
    return seconds


def main() -> None:
    """All three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=2000)
    parser.add_argument("--configurations", type=int, default=1000)
    parser.add_argument("--folds", type=int, default=5)
    given = parser.parse_args()
    found: dict[str, Any] = {"units": given.units}
    found["taken_up_seconds"] = round(taken_up(given.configurations, given.folds), 2)
    print(found, flush=True)
    with session(RaySettings(dashboard=False), ResourceSettings(), Console(quiet=True)):
        for name, run in (("tasks", as_plain_tasks), ("sweep", through_the_sweep)):
            seconds, cpu, grown = run(given.units)
            found[name] = {
                "seconds": round(seconds, 1),
                "driver_cpu_ms_a_unit": round(1000 * cpu / given.units, 2),
                "driver_memory_growth_mb": round(grown, 1),
            }
            print(found, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
