"""Differences of two figures with interval and p-values over speakers and seeds, and Holm's correction for many."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emodarts.errors import EmodartsError
from emodarts.results.statistics.estimates import (
    LEVEL,
    RESAMPLES,
    Bootstrap,
    CombinedError,
    Error,
    Estimate,
    SignedTallies,
    jackknife,
    luck_of_seeds,
    same_speakers,
)
from emodarts.results.statistics.intervals import Interval
from emodarts.results.statistics.tallies import Metric, Tally

MARGIN = 0.02  # of UAR, WAR or macro-F1: what is surely less apart is as good


@dataclass(frozen=True)
class Difference(Interval):
    """A difference, its interval, its standard error, and two p-values; all but the value are NaN with one speaker.

    `p`: two-sided, against 0; at most 1 - level where the interval leaves 0 out. `p_equivalence`: against being
    `MARGIN` or more apart, the larger of two one-sided tests (Schuirmann 1987): .05 where the interval of level .9 lies
    within the margin. Neither is corrected for other comparisons: see `holm`. `over_seeds`: the error holds the luck of
    seeds, so that it is a difference of methods.
    """

    error: float
    p: float
    p_equivalence: float
    over_seeds: bool = False

    @classmethod
    def by_t(cls, value: float, error: Error | CombinedError, level: float, over_seeds: bool = False) -> "Difference":
        """That of a value with an error."""
        half, p, p_equivalence = error.half(level), 2 * error.tail(abs(value)), error.tail(MARGIN - abs(value))
        return cls(value, value - half, value + half, error.size, p, p_equivalence, over_seeds)


def difference(
    system: Sequence[Tally],
    reference: Sequence[Tally],
    metric: Metric = "uar",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """The figure of `system` minus that of `reference`, each the mean over its tallies (seeds), paired by speaker.

    A speaker is left out of, or drawn into, both systems at once. What is compared are the networks as trained: with
    few seeds and many speakers, equal methods differ by their seeds' luck (`difference_over_seeds`).
    Raises EmodartsError where the two did not predict the same utterances: other speakers, or other numbers of labels
    in a class of a speaker.
    """
    return _difference(_paired(system, reference, metric), level, resamples, seed)


def difference_over_seeds(
    system: Sequence[Tally], reference: Sequence[Tally], metric: Metric = "uar", level: float = LEVEL
) -> Difference:
    """The same difference with an error that also holds the luck of the seeds: for claims about methods.

    Half the interval is the root of the sum of the squares of two: that of the jackknife over speakers (any number of
    them), and that of the seeds (`luck_of_seeds`). docs/statistics.md has its rates of false verdicts. NaN limits with
    one seed. Raises EmodartsError as `difference` does.
    """
    estimate = _paired(system, reference, metric)
    error = CombinedError((jackknife(estimate), luck_of_seeds(estimate)))
    return Difference.by_t(estimate.value, error, level, over_seeds=True)


def optimism(
    shared: Sequence[Tally],
    nested: Sequence[Tally],
    metric: Metric = "uar",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Test figure under shared selection minus that under nested selection, paired by speaker (Cawley & Talbot 2010).

    What the selection gains by having seen the test speakers as dev speakers of other folds; `selection` has both
    choices. Raises EmodartsError as `difference` does.
    """
    return difference(shared, nested, metric, level, resamples, seed)


def dev_test_drop(
    dev: Sequence[Tally],
    test: Sequence[Tally],
    metric: Metric = "uar",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Dev figure minus test figure, all folds pooled: `difference_of_parts`."""
    return difference_of_parts(dev, test, metric, level, resamples, seed)


def difference_of_parts(
    part: Sequence[Tally],
    other: Sequence[Tally],
    metric: Metric = "uar",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """The figure of a part of the utterances minus that of another, each the mean over its tallies (seeds).

    Speakers of both parts are left out of, or drawn into, both at once; speakers of one part alone are resampled within
    it, which for disjoint parts is Welch's interval (1947).
    NaN limits where one of these groups has a single speaker. Raises EmodartsError where a part has no predictions.
    """
    for tallies in (part, other):
        same_speakers(tallies)
    return _difference(
        Estimate.of(metric, SignedTallies(tuple(part)), SignedTallies(tuple(other), -1)), level, resamples, seed
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values, in the order given: reject at `alpha` where they are at most `alpha` (Holm 1979).

    The i-th smallest of m (i from 0) becomes the largest of `(m - j) p_j`, j <= i, at most 1. The chance of any false
    verdict among the m is then at most alpha, whatever their dependence. NaN is no comparison: it stays and is not
    counted. Raises ValueError for a value outside of 0 .. 1.
    """
    p = np.asarray(p_values, np.float64)
    compared = np.flatnonzero(~np.isnan(p))
    if np.any((p[compared] < 0) | (p[compared] > 1)):
        raise ValueError(f"p-values lie between 0 and 1: {p.tolist()}")
    order = compared[np.argsort(p[compared], kind="stable")]
    adjusted = p.copy()
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(order), 0, -1) * p[order]))
    return tuple(adjusted.tolist())


def _paired(system: Sequence[Tally], reference: Sequence[Tally], metric: Metric) -> Estimate:
    tallies = [*system, *reference]
    same_speakers(tallies)
    if not all(_has_labels_of(t, tallies[0]) for t in tallies):
        raise EmodartsError("a comparison needs predictions of the same utterances: speakers have other labels")
    return Estimate.of(metric, SignedTallies(tuple(system)), SignedTallies(tuple(reference), -1))


def _has_labels_of(tally: Tally, other: Tally) -> bool:
    # Expected counts (`chance`) are fractions, whose sum may miss a whole number by rounding.
    return tally.sizes.shape == other.sizes.shape and np.allclose(tally.sizes, other.sizes, rtol=0, atol=1e-6)


def _difference(estimate: Estimate, level: float, resamples: int, seed: int) -> Difference:
    if estimate.few_speakers():
        return Difference.by_t(estimate.value, jackknife(estimate), level)
    bootstrap = Bootstrap.of(estimate, resamples, seed)
    p_equivalence = max(bootstrap.share(bootstrap.values <= -MARGIN), bootstrap.share(bootstrap.values >= MARGIN))
    error = float(bootstrap.values.std(ddof=1))
    return Difference(estimate.value, *bootstrap.limits(level), error, bootstrap.p(), p_equivalence)
