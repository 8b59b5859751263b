"""Differences of two figures with interval and p-value over speakers, and Holm's correction for many of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emodarts.errors import EmodartsError
from emodarts.results.statistics.estimates import (
    LEVEL,
    RESAMPLES,
    Bootstrap,
    Error,
    Estimate,
    SignedTallies,
    combined,
    jackknife,
    over_seeds,
    same_speakers,
)
from emodarts.results.statistics.intervals import Interval
from emodarts.results.statistics.tallies import Metric, Tally


@dataclass(frozen=True)
class Difference(Interval):
    """A difference, its interval and the two-sided p-value against 0; the last three are NaN with one speaker.

    p is at most 1 - level where the interval leaves 0 out. Neither is corrected for other comparisons: see `holm`.
    """

    p: float


def difference(
    ours: Sequence[Tally],
    others: Sequence[Tally],
    metric: Metric = "uar",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """The figure of `ours` minus that of `others`, each the mean over its tallies (seeds), paired by speaker.

    A speaker is left out of, or drawn into, both systems at once. What is compared are the networks as trained: with
    few seeds and many speakers, equal methods differ by their seeds' luck (`difference_over_seeds`).
    Raises EmodartsError where the two did not predict the same utterances: other speakers, or other numbers of labels
    in a class of a speaker.
    """
    return _difference(_paired(ours, others, metric), level, resamples, seed)


def uar_difference(ours: Sequence[Tally], others: Sequence[Tally], level: float = LEVEL) -> Difference:
    """`difference` of the UAR."""
    return difference(ours, others, "uar", level)


def difference_over_seeds(
    ours: Sequence[Tally], others: Sequence[Tally], metric: Metric = "uar", level: float = LEVEL
) -> Difference:
    """The same difference with an error that also holds the luck of the seeds: for claims about methods.

    `error^2` = that of the jackknife over speakers (any number of them) + `sd^2 / seeds` of each system, degrees of
    freedom by Satterthwaite. Utterances' share in the seeds' sd is counted twice, so it errs to the wide side (as does
    resampling both factors, Owen 2007). NaN limits with one seed. Raises EmodartsError as `difference` does.
    """
    estimate = _paired(ours, others, metric)
    return _by_t(
        estimate.value, combined([jackknife(estimate), over_seeds(ours, metric), over_seeds(others, metric)]), level
    )


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
    """Dev figure minus test figure, each the mean over its tallies (seeds), all folds pooled.

    Speakers that are dev in one fold and test in another are left out of, or drawn into, both at once; speakers of
    one role alone are resampled within that role, which for disjoint roles is Welch's interval (1947).
    NaN limits where one of these groups has a single speaker. Raises EmodartsError where a role has no predictions.
    """
    for tallies in (dev, test):
        same_speakers(tallies)
    return _difference(
        Estimate.of(metric, SignedTallies(tuple(dev)), SignedTallies(tuple(test), -1)), level, resamples, seed
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values, in the order given: reject at `alpha` where they are at most `alpha` (Holm 1979).

    The i-th smallest of m (i from 0) becomes the largest of `(m - j) p_j`, j <= i, at most 1. The chance of any false
    verdict among the m is then at most alpha, whatever their dependence. NaN is no comparison: it stays and is not
    counted. Raises ValueError for a value outside of 0 .. 1.
    """
    p = np.asarray(p_values, np.float64)
    there = np.flatnonzero(~np.isnan(p))
    if np.any((p[there] < 0) | (p[there] > 1)):
        raise ValueError(f"p-values lie between 0 and 1: {p.tolist()}")
    order = there[np.argsort(p[there], kind="stable")]
    adjusted = p.copy()
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(order), 0, -1) * p[order]))
    return tuple(adjusted.tolist())


def _paired(ours: Sequence[Tally], others: Sequence[Tally], metric: Metric) -> Estimate:
    tallies = [*ours, *others]
    same_speakers(tallies)
    if not all(_as_many_labels(t, tallies[0]) for t in tallies):
        raise EmodartsError("a comparison needs predictions of the same utterances: speakers have other labels")
    return Estimate.of(metric, SignedTallies(tuple(ours)), SignedTallies(tuple(others), -1))


def _as_many_labels(one: Tally, other: Tally) -> bool:
    # Expected counts (`chance`) are fractions, whose sum may miss a whole number by rounding.
    return one.sizes.shape == other.sizes.shape and np.allclose(one.sizes, other.sizes, rtol=0, atol=1e-6)


def _difference(estimate: Estimate, level: float, resamples: int, seed: int) -> Difference:
    if estimate.few_speakers():
        return _by_t(estimate.value, jackknife(estimate), level)
    bootstrap = Bootstrap.of(estimate, resamples, seed)
    return Difference(estimate.value, *bootstrap.limits(level), bootstrap.p())


def _by_t(value: float, error: Error, level: float) -> Difference:
    return Difference(value, value - error.half(level), value + error.half(level), error.p(value))
