"""What ASHA saves and costs: the same proposals with and without it, on the demo corpus and on EmoDB.

    export EMODARTS_CORPORA=...   # a folder with emodb/
    python tests/benchmarks/pruning.py demo | emodb [--default-space] [--replay] [--trials 12] [--results FOLDER]

Random proposals (those of TPE depend on what was pruned), one study a fold. Epochs of search and training that were
run, and the best dev UAR of each study, both ways. `replayed` has the same from the curves of the unpruned run, its
configurations taken in 100 random orders, one after the other; with --replay that alone. Design figures: nothing of a
test part is looked at here. A run that was stopped goes on. The last line is JSON.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import optuna
import pyarrow.compute as pc
from scipy.stats import spearmanr

from emodarts.results import reader
from sweeps.settings import SweepSettings
from sweeps.study.pruners import AshaRungs

RUN = Path(__file__).resolve().parents[2] / "sweeps" / "run.py"
# A learning rate over four and a half decades makes configurations truly differ; in the default space they hardly do,
# and what is best of twelve is then mostly luck, of which every pruner loses some (docs/sweeps.md has both).
WIDE = "+sweep.space.training.learning_rate={low:0.00001,high:0.3,log:true}"
CORPORA = {
    # Smaller than the default, so that a run takes minutes.
    "demo": [
        "corpus=demo", "search.space=emodarts",
        "search.nodes=1", "search.cells=2", "search.channels=4", "~sweep.space.training", "~sweep.space.batches",
        "training.epochs=36", WIDE,
    ],
    "emodb": [
        "corpus=emodb", "corpus.source=intended", "search.space=emodarts",
        "sweep.folds=[0,3,6]",
        "search.nodes=1", "search.cells=2", "search.channels=4", "~sweep.space.training", "~sweep.space.batches",
        "+sweep.space.search.epochs={low:5,high:6}", "training.epochs=60", WIDE,
    ],
}  # fmt: skip
DEFAULT = {corpus: [option for option in options if option != WIDE] for corpus, options in CORPORA.items()}


def run(corpus: str, pruner: str, trials: int, results: Path, default_space: bool = False) -> reader.Results:
    """One sweep, or what is missing of it."""
    name = f"pruning-{corpus}-{pruner}{'-default' if default_space else ''}"
    asked = [
        "system=emodarts",
        *(DEFAULT if default_space else CORPORA)[corpus],
        f"sweep.name={name}",
        f"sweep.pruner={pruner}",
        f"sweep.trials={trials}",
    ]
    command = [sys.executable, str(RUN), *asked, "sweep.sampler=random", f"results={results}", "ray.dashboard=false"]
    subprocess.run(command, check=True)
    return reader.open(results, sweep=name)


def dev_figures(opened: reader.Results) -> list[dict[str, Any]]:
    """Study, trial, seed and UAR of the final networks on dev."""
    where = (pc.field("role") == "dev") & (pc.field("stage") == "final")
    rows: list[dict[str, Any]] = opened.table("folds", ["study", "trial", "seed", "uar"], where).to_pylist()
    return rows


def measured(opened: reader.Results) -> dict[str, Any]:
    """Epochs that were run, how units ended, and the best dev UAR of each study."""
    best: dict[str, float] = {}
    for row in dev_figures(opened):
        best[row["study"]] = max(best.get(row["study"], 0.0), row["uar"])
    statuses = [commit.status for commit in opened.commits]
    return {
        "epochs": opened.table("epochs").num_rows,
        "seconds": round(sum(opened.table("epochs")["seconds"].to_pylist())),
        "units": {status: statuses.count(status) for status in sorted(set(statuses))},
        "best_dev_uar": {study: round(uar, 4) for study, uar in sorted(best.items())},
    }


def curves_of(opened: reader.Results) -> dict[tuple[str, str, int], list[float]]:
    """Dev UAR epoch by epoch, by phase, study and trial."""
    curves = defaultdict(list)
    rows = opened.table("epochs", ["study", "trial", "phase", "epoch", "dev_uar"]).to_pylist()
    for row in sorted(rows, key=lambda row: row["epoch"]):
        curves[row["phase"], row["study"], row["trial"]].append(row["dev_uar"])
    return curves


def epochs_until(share: float, curve: list[float]) -> int:
    """Epochs behind a unit that has come to a share of a phase."""
    return math.ceil(share * len(curve))


def best_until(share: float, curve: list[float]) -> float:
    """The best dev UAR up to there."""
    return max(curve[: epochs_until(share, curve)])


def foretold(opened: reader.Results) -> dict[str, float]:
    """How well the best dev UAR up to a share of a phase's epochs ranks configurations by their final dev UAR.

    Spearman's rank correlation over the configurations of a study, the mean over studies.
    """
    final = {(r["study"], r["trial"]): r["uar"] for r in dev_figures(opened)}
    curves, found = curves_of(opened), {}
    for phase, share in (("search", 0.5), ("search", 1.0), ("train", 0.125), ("train", 0.25), ("train", 0.5)):
        each = []
        for study in sorted({study for study, _ in final}):
            trials = [trial for place, trial in final if place == study]
            mine = [curves[phase, study, trial] for trial in trials]
            values = [best_until(share, curve) for curve in mine]
            each.append(spearmanr(values, [final[study, trial] for trial in trials]).statistic)
        found[f"{phase} {share:g}"] = round(float(np.mean(each)), 2)
    return found


def replayed(opened: reader.Results, orders: int = 100) -> dict[str, float]:
    """What ASHA would have made of an unpruned sweep, its configurations in random orders: means over the orders."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = SweepSettings(pruner="asha")
    final = {(r["study"], r["trial"]): r["uar"] for r in dev_figures(opened)}
    curves, rng = curves_of(opened), np.random.default_rng(0)
    studies = {study: sorted(trial for place, trial in final if place == study) for study, _ in final}
    used, lost = 0, []
    for _ in range(orders):
        brackets = AshaRungs(settings)
        for study, trials in studies.items():
            kept = []
            for trial in rng.permutation(trials).tolist():
                training, searched = curves["train", study, trial], len(curves["search", study, trial])
                for rung, share in enumerate(settings.training_rungs):
                    if brackets.decide(study, trial, 0, rung, best_until(share, training)):
                        used += searched + epochs_until(share, training)
                        break
                else:
                    used += searched + len(training)
                    kept.append(final[study, trial])
            lost.append(max(final[study, trial] for trial in trials) - max(kept))
    return {
        "epochs_ratio": round(used / orders / sum(map(len, curves.values())), 3),
        "best_dev_uar_lost": round(float(np.mean(lost)), 4),
    }


def main() -> None:
    """Both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=list(CORPORA))
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--default-space", action="store_true", help="without the wide learning rate")
    parser.add_argument("--replay", action="store_true", help="no run with ASHA: the curves without it, replayed")
    parser.add_argument("--results", type=Path, default=Path("pruning"))
    given = parser.parse_args()
    asked = (given.trials, given.results, given.default_space)
    plain = run(given.corpus, "none", *asked)
    found: dict[str, Any] = {"corpus": given.corpus, "trials": given.trials}
    found |= {"replayed": replayed(plain), "foretold": foretold(plain)}
    if not given.replay:
        without, by_asha = measured(plain), measured(run(given.corpus, "asha", *asked))
        lost = [uar - by_asha["best_dev_uar"][study] for study, uar in without["best_dev_uar"].items()]
        found |= {
            "epochs_ratio": round(by_asha["epochs"] / without["epochs"], 3),
            "seconds_ratio": round(by_asha["seconds"] / without["seconds"], 3),
            "best_dev_uar_lost": round(float(np.mean(lost)), 4),
            "without": without,
            "asha": by_asha,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
