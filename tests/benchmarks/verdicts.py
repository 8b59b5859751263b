"""How often two methods are told apart that are equal, how often a difference of .03 is found, and what is "as good".

    python tests/benchmarks/verdicts.py [--simulations 1000] [--seed 0]

Two methods with three seeds each (`tests/support/methods.py`): speakers and seeds are drawn anew in each simulation; 4,
10, 24 and 91 speakers with the class sizes of SAVEE, EmoDB, RAVDESS and CREMA-D; the variance of the seeds' effects is
0, .5 and 2 times that of the speakers'. Then the mean over these four corpora, and over them and four more of the same
sizes, where the true difference varies from corpus to corpus. Prints two tables in Markdown; last line, JSON: worst =
the largest share of false verdicts on equal methods at a nominal .05, over speakers alone and by the rules.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emodarts.results.statistics import MARGIN, compare_systems, difference, mean_over_corpora
from emodarts.results.statistics.comparisons import Difference
from tests.support.methods import Methods
from tests.support.speakers import CREMA_D, EMODB, RAVDESS, SAVEE, Corpus

CORPORA, RATIOS, DEVIATIONS = (SAVEE, EMODB, RAVDESS, CREMA_D), (0.0, 0.5, 2.0), (0.0, 0.03)
NOMINAL, GAIN, RESAMPLES = 0.05, 0.03, 999
HEADINGS = (
    "speakers | ratio | equal, over speakers alone: told apart | equal: told apart | equal, one without luck: told "
    "apart | .03 apart: found | equal: as good | .02 apart: as good"
)
OVER_CORPORA = (
    "corpora | sd of differences | equal: told apart | .03 apart: found | equal: as good | .02 apart: as good"
)


def share(p_values: Sequence[float]) -> float:
    """That of the verdicts."""
    return float(np.mean(np.array(p_values) <= NOMINAL))


def rates(corpus: Corpus, ratio: float, simulations: int, rng: np.random.Generator) -> list[float]:
    """The shares of the simulations with a verdict, in the order of the headings."""
    draws = list(Methods(corpus, ratio).comparisons(rng, simulations))
    alone = [difference(*pair, resamples=RESAMPLES).p for pair in draws]
    equal = [compare_systems(*pair) for pair in draws]
    others = (
        Methods(corpus, ratio, second_is_deterministic=True),
        Methods(corpus, ratio, GAIN),
        Methods(corpus, ratio, MARGIN),
    )
    without_luck, apart, margin = ([compare_systems(*p) for p in m.comparisons(rng, simulations)] for m in others)
    told = [share(alone), *(share([d.p for d in differences]) for differences in (equal, without_luck, apart))]
    return [*told, *(share([d.p_equivalence for d in differences]) for differences in (equal, margin))]


def rates_over_corpora(number: int, deviation: float, simulations: int, rng: np.random.Generator) -> list[float]:
    """The same of the mean over corpora (ratio .5)."""

    def draw(gain: float) -> list[Difference]:
        gains = rng.normal(gain, deviation, (number, simulations))
        pairs = [Methods(c, 0.5, g).comparisons(rng, simulations) for c, g in zip(CORPORA * 2, gains, strict=False)]
        measured = zip(*([compare_systems(*pair) for pair in of_corpus] for of_corpus in pairs), strict=True)
        means = [mean_over_corpora({str(i): [d] for i, d in enumerate(of_corpora)}) for of_corpora in measured]
        return [mean.difference for mean in means if mean is not None]

    equal, apart, margin = draw(0.0), draw(GAIN), draw(MARGIN)
    told = [share([d.p for d in differences]) for differences in (equal, apart)]
    return [*told, *(share([d.p_equivalence for d in differences]) for differences in (equal, margin))]


def print_table(headings: str, rows: Sequence[tuple[object, object, Callable[[], list[float]]]]) -> list[list[float]]:
    """Print a line as soon as it is known; what the lines hold."""
    print(f"| {headings} |", "|---" * (headings.count("|") + 1) + "|", sep="\n")
    lines = []
    for first, second, compute in rows:
        lines.append(compute())
        print(f"| {first} | {second:g} | {' | '.join(f'{rate:.3f}'.lstrip('0') for rate in lines[-1])} |", flush=True)
    print()
    return lines


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    n, rng = given.simulations, np.random.default_rng(given.seed)
    cells = [
        (corpus.speakers, ratio, lambda c=corpus, r=ratio: rates(c, r, n, rng))
        for corpus in CORPORA
        for ratio in RATIOS
    ]
    lines = print_table(HEADINGS, cells)
    over = [(k, sd, lambda k=k, sd=sd: rates_over_corpora(k, sd, n, rng)) for k in (4, 8) for sd in DEVIATIONS]
    means = print_table(OVER_CORPORA, over)
    worst = {
        "over_speakers": max(line[0] for line in lines),
        "by_the_rules": max(x for line in lines for x in line[1:3]),
    }
    worst["over_corpora"] = max(line[0] for line in means)
    print(json.dumps({"simulations": n, "nominal": NOMINAL, "worst": worst}))


if __name__ == "__main__":
    main()
