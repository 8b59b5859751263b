"""How often two methods are told apart that are equal, and how often a difference of .03 is found.

    python tests/benchmarks/verdicts.py [--simulations 1000] [--seed 0]

Two methods with three seeds each (`tests/support/methods.py`): speakers and seeds are drawn anew in each simulation; 4,
10, 24 and 91 speakers with the class sizes of SAVEE, EmoDB, RAVDESS and CREMA-D; the variance of the seeds' effects is
0, .5 and 2 times that of the speakers'. Prints a table in Markdown; last line, JSON: worst = the largest share of false
verdicts at a nominal .05.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emodarts.results.statistics import difference, difference_over_seeds
from tests.support.methods import Methods
from tests.support.speakers import CREMA_D, EMODB, RAVDESS, SAVEE

CORPORA, RATIOS = (SAVEE, EMODB, RAVDESS, CREMA_D), (0.0, 0.5, 2.0)
NOMINAL, GAIN, RESAMPLES = 0.05, 0.03, 999
TODAY = "equal: told apart"
HEADINGS = (TODAY, "over seeds", "one is deterministic", ".03 apart: found", "found over seeds")


def rates(methods: Methods, simulations: int, seed: int) -> list[float]:
    """The shares of the simulations with a verdict, in the order of the headings."""
    verdicts = defaultdict(list)
    rng = np.random.default_rng([seed, methods.corpus.speakers, int(10 * methods.ratio)])
    for ours, others in methods.comparisons(rng, simulations):
        verdicts["speakers"].append(difference(ours, others, resamples=RESAMPLES).p)
        verdicts["seeds"].append(difference_over_seeds(ours, others).p)
    for ours, others in Methods(methods.corpus, methods.ratio, second_is_deterministic=True).comparisons(
        rng, simulations
    ):
        verdicts["deterministic"].append(difference_over_seeds(ours, others).p)
    for ours, others in Methods(methods.corpus, methods.ratio, GAIN).comparisons(rng, simulations):
        verdicts["found"].append(difference(ours, others, resamples=RESAMPLES).p)
        verdicts["found over seeds"].append(difference_over_seeds(ours, others).p)
    return [float(np.mean(np.array(p) <= NOMINAL)) for p in verdicts.values()]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| speakers | ratio | " + " | ".join(HEADINGS) + " |", "|---" * (2 + len(HEADINGS)) + "|", sep="\n")
    false = []
    for corpus in CORPORA:
        for ratio in RATIOS:
            cells = rates(Methods(corpus, ratio), given.simulations, given.seed)
            false.append(cells[0])
            texts = [f"{rate:.3f}".lstrip("0") for rate in cells]
            print(f"| {corpus.speakers} | {ratio:g} | {' | '.join(texts)} |", flush=True)
    print("", json.dumps({"simulations": given.simulations, "nominal": NOMINAL, "worst": max(false)}), sep="\n")


if __name__ == "__main__":
    main()
