"""A sweep of 12 proposals x 4 folds on the demo corpus, killed all over, against an undisturbed one: equal tables?

    python tests/benchmarks/chaos.py [--trials 12] [--drivers 5] [--workers 10] [--nodes 2] [--seed 0]

On a cluster of two nodes that runs apart from the drivers. The last line is JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emodarts.results import reader
from tests.support.chaos import Chaos, local_cluster
from tests.support.commands import comparable
from tests.support.files import REPOSITORY

BUDGET = ["search.epochs=4", "training.epochs=8", "~sweep.space.search.epochs"]


def main() -> int:
    """Both runs; 0 where the tables are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    for kind, count in (("drivers", 5), ("workers", 10), ("nodes", 2)):
        parser.add_argument(f"--{kind}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    kills = [kind for kind in ("driver", "worker", "node") for _ in range(getattr(given, f"{kind}s"))]
    with tempfile.TemporaryDirectory() as folder, local_cluster() as cluster:
        whole, killed = (Path(folder, name) for name in ("whole", "killed"))
        command = [sys.executable, str(REPOSITORY / "sweeps" / "run.py"), "corpus=demo", *BUDGET]
        command += ["sweep.sampler=random", f"sweep.trials={given.trials}", "resources.device=cpu"]
        start = time.time()
        subprocess.run([*command, f"results={whole}"], env={**os.environ, **cluster.environment}, check=True)
        undisturbed = time.time() - start
        chaos = Chaos(cluster, [*command, f"results={killed}"], dict(os.environ), kills, (2.0, 12.0), given.seed)
        chaos.run(Path(folder, "log"))
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
                    "kills": {kind: kills.count(kind) for kind in ("driver", "worker", "node")},
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
