"""How well many slots are kept busy: 64 logical GPUs on several local nodes, sleeping units that import no torch.

    python tests/benchmarks/sweep_occupancy.py [--slots 64] [--nodes 4] [--waves 4] [--seconds 30 90]

Occupied = share of slot seconds in which a unit slept, from the moment all slots were taken for the first time until no
unit waits any more (the last wave). At least 95 % are wanted. The last line is JSON.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from sweep_driver import begin

from sweeps.execution.tune_fit import fit
from sweeps.nodes.session import session
from sweeps.settings import RaySettings, ResourceSettings
from sweeps.units.system_queues import SystemQueues
from tests.support.chaos import local_cluster


def drive(units: int, low: float, high: float, folder: str, address: str) -> None:
    """The driver: a sweep of units that sleep and write down when."""
    studies, spans = begin(folder, 1, units), f"{folder}/spans"

    def sleep(config: dict[str, Any]) -> None:
        from ray import tune

        seconds = random.Random(config["unit"].key.trial).uniform(low, high)
        begun = time.time()
        time.sleep(seconds)
        with open(spans, "a") as file:
            file.write(f"{begun} {time.time()}\n")
        tune.report({"status": "complete", "dev_uar": 0.5, "parameters": 1})

    with session(RaySettings(address=address), ResourceSettings(), Console(quiet=True)):
        fit(sleep, SystemQueues([studies]), {"cpu": 1, "gpu": 1}, [], None)


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--waves", type=int, default=4)
    parser.add_argument("--seconds", type=float, nargs=2, default=(30.0, 90.0))
    parser.add_argument("--drive", nargs=2, help=argparse.SUPPRESS)  # folder and address, in a process of its own
    given = parser.parse_args()
    units = given.slots * given.waves
    if given.drive:
        drive(units, *given.seconds, *given.drive)
        return
    # Workers wait for the driver, as Ray has it: 64 of them start on the cores that it runs on.
    with tempfile.TemporaryDirectory() as folder, local_cluster(0, RAY_worker_niceness="15") as cluster:
        for _ in range(given.nodes):
            cluster.add_node(cpus=given.slots // given.nodes, gpus=given.slots // given.nodes)
        # Ray reads the cluster's variables when it is imported: the driver is another process.
        again = [sys.executable, *sys.argv, "--drive", folder, cluster.address]
        subprocess.run(again, env={**os.environ, **cluster.environment}, check=True)
        found = sorted(tuple(map(float, line.split())) for line in Path(folder, "spans").read_text().splitlines())
    assert len(found) == units, f"{len(found)} of {units} units"
    begins = [begun for begun, _ in found]
    first, last = begins[given.slots - 1], begins[-1]
    busy = sum(max(0.0, min(end, last) - max(begun, first)) for begun, end in found)
    print(
        json.dumps(
            {
                "occupied": round(busy / (given.slots * (last - first)), 4),
                "slots": given.slots,
                "nodes": given.nodes,
                "units": units,
                "measured_seconds": round(last - first, 1),
                "seconds_until_all_taken": round(first - begins[0], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
