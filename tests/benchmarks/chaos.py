"""A sweep of 12 proposals x 4 folds on the demo corpus, killed all over, against an undisturbed one: equal tables?

    python tests/benchmarks/chaos.py [--trials 12] [--seed 0]
        [--driver 5] [--worker 10] [--node 2] [--sick 2] [--storage 2] [--file 2]

On a cluster of two nodes that runs apart from the drivers, with the results on an S3 server of this machine. So many
drivers, workers and nodes are killed; units meet a CUDA error; the server is away for 20 s; checkpoints of a killed
worker
are cut to their half. The last line is JSON.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emodarts.results import reader
from tests.support.chaos import SICKNESS, Chaos, ObjectStore, local_cluster
from tests.support.commands import comparable
from tests.support.files import REPOSITORY

BUDGET = ["system=emodarts", "search.epochs=4", "training.epochs=8"]
STRIKES = {"driver": 5, "worker": 10, "node": 2, "sick": 2, "storage": 2, "file": 2}


def main() -> int:
    """Both runs; 0 where the tables are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    for kind, count in STRIKES.items():
        parser.add_argument(f"--{kind}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kills = [kind for kind in STRIKES for _ in range(getattr(options, kind))]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "sitecustomize.py").write_text(SICKNESS)
        cluster = stack.enter_context(local_cluster(PYTHONPATH=str(folder)))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        store = ObjectStore(port)
        stack.callback(store.stop)
        whole, killed = store.uri("whole"), store.uri("killed")
        command = [sys.executable, str(REPOSITORY / "sweeps" / "run.py"), "corpus=demo", *BUDGET]
        command += ["sweep.sampler=random", f"sweep.trials={options.trials}", "resources.device=cpu"]
        start = time.time()
        environment = {**os.environ, **cluster.environment}
        subprocess.run([*command, f"results='{whole}'"], env=environment, check=True)
        undisturbed = time.time() - start
        chaos = Chaos(
            cluster,
            [*command, f"results='{killed}'"],
            dict(os.environ),
            kills,
            (2.0, 12.0),
            options.seed,
            store=store,
            sickness=folder,
        )
        chaos.run(folder / "log")
        disturbed = time.time() - start - undisturbed
        mine, theirs = comparable(killed), comparable(whole)
        trials = reader.open(killed).trials()
        differing = [name for name in mine if mine[name] != theirs[name]]
        print(
            json.dumps(
                {
                    "equal": not differing,
                    "differing_tables": differing,
                    "rows": {name: len(rows) for name, rows in mine.items()},
                    "seed": options.seed,
                    "strikes": {kind: kills.count(kind) for kind in STRIKES},
                    "starts": chaos.starts,
                    "retries": sum(t.retries for t in trials),
                    "failed": sum(t.status == "failed" for t in trials),
                    "seconds": {"undisturbed": round(undisturbed), "disturbed": round(disturbed)},
                }
            )
        )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
