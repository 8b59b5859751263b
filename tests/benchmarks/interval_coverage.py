"""How often the intervals hold the truth, and how often a difference is found: simulated speakers, nominal .95.

    python tests/benchmarks/interval_coverage.py [--simulations 2000] [--seed 0]

Speakers are drawn anew in each simulation (`tests/speakers.py`): 4, 10, 24 and 91 of them with the class sizes of
SAVEE, EmoDB, RAVDESS and CREMA-D, and 30, where the bootstrap begins. Prints a table in Markdown; last line, JSON:
worst = the coverage that is furthest from .95 among the intervals that the rules choose for 4, 10, 24 and 91 speakers
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emodarts.results.statistics import Interval, Tally, dev_test_drop, difference, difference_over_seeds, interval
from emodarts.results.statistics.estimates import Bootstrap, Estimate, SignedTallies, jackknife
from tests.support.speakers import CREMA_D, EMODB, RAVDESS, SAVEE, Corpus, Recognition

CORPORA = (SAVEE, EMODB, RAVDESS, replace(CREMA_D, speakers=30), CREMA_D)
NOMINAL, RESAMPLES = 0.95, 1_999
SKILLS = (2.3, 2.6, 2.2, 2.4, 2.5)  # of five systems, or five fold models; the second is about .05 better in UAR
SEEDS, SEED_NOISE = 3, 0.1  # seeds of a system, and the standard deviation of their skill: about .02 in UAR
BY_THE_RULES = ("uar", "war", "macro_f1", "cross", "difference", "drop")
HEADINGS = {
    "uar": "UAR",
    "war": "WAR",
    "macro_f1": "macro-F1",
    "cross": "UAR over 5 fold models",
    "difference": "difference of UAR",
    "drop": "dev-to-test drop",
    "jackknife": "UAR, jackknife",
    "bootstrap": "UAR, bootstrap",
    "found": "difference of .05 found",
    "seeds": "none, but seeds differ: found",
    "over_seeds": "the same, `difference_over_seeds`",
}


def rates(corpus: Corpus, simulations: int, seed: int) -> dict[str, float]:
    """The share of the simulations in which each interval held the truth; the last three: left 0 out."""
    rng = np.random.default_rng([seed, corpus.speakers])
    systems = Recognition(corpus, SKILLS)
    truth = [t.uar() for t in systems.truth]
    expected = {m: systems.truth[0].value(m) for m in ("uar", "war", "macro_f1")}
    expected |= {"jackknife": expected["uar"], "bootstrap": expected["uar"], "cross": float(np.mean(truth))}
    expected |= {"difference": truth[1] - truth[0], "drop": truth[1] - truth[0]}
    hits: dict[str, list[bool]] = defaultdict(list)
    for simulation in range(simulations):
        tallies, other = systems.tallies(rng), systems.tallies(rng)[1]
        for name, found in intervals(tallies, other, simulation):
            hits[name].append(found.low <= expected[name] <= found.high)
            if name == "difference":
                hits["found"].append(found.low > 0)
        for name, verdict in differ_by_seeds(corpus, rng, simulation).items():
            hits[name].append(verdict)
    return {name: float(np.mean(found)) for name, found in hits.items()}


def intervals(tallies: list[Tally], other: Tally, seed: int) -> Iterator[tuple[str, Interval]]:
    """All intervals of one simulation: those that the rules choose, and both methods for the UAR."""
    first, second, *_ = tallies
    for metric in ("uar", "war", "macro_f1"):
        yield metric, interval([first], metric, resamples=RESAMPLES, seed=seed)
    yield "cross", interval(tallies, resamples=RESAMPLES, seed=seed)
    yield "difference", difference([second], [first], resamples=RESAMPLES, seed=seed)
    dev = Tally(tuple(f"dev-{s}" for s in other.speakers), other.counts)  # other speakers, as in an official split
    yield "drop", dev_test_drop([dev], [first], resamples=RESAMPLES, seed=seed)
    estimate = Estimate.of("uar", SignedTallies((first,)))
    half = jackknife(estimate).half(NOMINAL)
    yield "jackknife", Interval(estimate.value, estimate.value - half, estimate.value + half)
    yield "bootstrap", Interval(estimate.value, *Bootstrap.of(estimate, RESAMPLES, seed).limits(NOMINAL))


def differ_by_seeds(corpus: Corpus, rng: np.random.Generator, seed: int) -> dict[str, bool]:
    """Whether two systems are told apart that are equal but for the luck of their seeds, by both differences."""
    skills = SKILLS[0] + SEED_NOISE * rng.normal(size=2 * SEEDS)
    tallies = Recognition(corpus, tuple(skills)).tallies(rng)
    ours, others = tallies[:SEEDS], tallies[SEEDS:]
    over_speakers = difference(ours, others, resamples=RESAMPLES, seed=seed)
    verdicts = {"seeds": over_speakers, "over_seeds": difference_over_seeds(ours, others)}
    return {name: found.p <= 1 - NOMINAL for name, found in verdicts.items()}


def table(found: dict[int, dict[str, float]]) -> str:
    """The rates as a table in Markdown, one line a number of speakers."""
    lines = ["| speakers | " + " | ".join(HEADINGS.values()) + " |", "|---" * (1 + len(HEADINGS)) + "|"]
    for speakers, rate in found.items():
        lines.append(f"| {speakers} | " + " | ".join(f"{rate[name]:.3f}".lstrip("0") for name in HEADINGS) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = {c.speakers: rates(c, given.simulations, given.seed) for c in CORPORA}
    print(table(found), end="\n\n")
    judged = [found[n][name] for n in (4, 10, 24, 91) for name in BY_THE_RULES]
    worst = max(judged, key=lambda rate: abs(rate - NOMINAL))
    print(json.dumps({"simulations": given.simulations, "nominal": NOMINAL, "worst": worst, "coverage": found}))


if __name__ == "__main__":
    main()
