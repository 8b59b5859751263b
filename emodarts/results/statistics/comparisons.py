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

    `error^2` = that of the jackknife over speakers (any number of them) + `sd^2 / seeds` of each system, degrees of
    freedom by Satterthwaite. Utterances' share in the seeds' sd is counted twice, so it errs to the wide side (as does
    resampling both factors, Owen 2007). NaN limits with one seed. Raises EmodartsError as `difference` does.
    """
    estimate = _paired(system, reference, metric)
    return _by_t(
        estimate.value,
        combined([jackknife(estimate), over_seeds(system, metric), over_seeds(reference, metric)]),
        level,
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
        return _by_t(estimate.value, jackknife(estimate), level)
    bootstrap = Bootstrap.of(estimate, resamples, seed)
    return Difference(estimate.value, *bootstrap.limits(level), bootstrap.p())


def _by_t(value: float, error: Error, level: float) -> Difference:
    return Difference(value, value - error.half(level), value + error.half(level), error.p(value))
