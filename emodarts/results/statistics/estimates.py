"""A figure as a function of how often each speaker counts, and what resampling speakers says about its error.

Few speakers take the delete-one-speaker jackknife with quantiles of Student's t: the percentile bootstrap covers far
too little with 4 to 10 speakers. Many take the bootstrap. docs/statistics.md has the coverage of both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emodarts.errors import EmodartsError
from emodarts.results.statistics.tallies import METRICS, Floats, Metric, Tally, aligned

BOOTSTRAP_FROM = 30  # speakers
RESAMPLES = 9_999  # the smallest p-value is 2 / (RESAMPLES + 1), so that Holm's correction can still find something
LEVEL = 0.95
_SUBTRACTED = 0.75  # of what would count twice: with few seeds the rest is too small too often, as simulated
_MOST_Z = 30  # normal quantile of the smallest p-value that is told from 0, 5e-198
_AT_ONCE = 2_000_000  # numbers in memory at a time


@dataclass(frozen=True)
class SignedTallies:
    """The mean figure of tallies of one kind (seeds, fold models), counted with a sign."""

    tallies: tuple[Tally, ...]
    sign: int = 1

    @property
    def speakers(self) -> set[str]:
        """All that occur in it."""
        return {s for t in self.tallies for s in t.speakers}


@dataclass(frozen=True)
class Estimate:
    """The sum over `factors (tallies,)` times the metric of `counts (tallies, speakers, classes, classes)`.

    `strata (speakers,)` numbers the groups within which speakers are exchangeable.
    """

    counts: Floats
    factors: Floats
    strata: NDArray[np.int64]
    metric: Metric

    @classmethod
    def of(cls, metric: Metric, *terms: SignedTallies) -> "Estimate":
        """A figure (one term) or a difference of two; strata are made of who occurs in which terms.

        Raises EmodartsError where there are no tallies or they differ in their number of classes.
        """
        tallies = [t for term in terms for t in term.tallies]
        predicted = all(term.speakers for term in terms)
        if not predicted or len({t.counts.shape[1] for t in tallies}) != 1:
            raise EmodartsError("a figure needs predictions, all with the same number of classes")
        speakers = sorted({s for t in tallies for s in t.speakers})
        names = [term.speakers for term in terms]
        member = [[s in of_term for of_term in names] for s in speakers]
        strata = np.unique(member, axis=0, return_inverse=True)[1].reshape(-1)
        factors = np.concatenate([np.full(len(t.tallies), t.sign / len(t.tallies)) for t in terms])
        return cls(np.stack([aligned(t, speakers) for t in tallies]), factors, strata, metric)

    def by_tally(self, weights: Floats) -> Floats:
        """The figure of each tally where speakers count `weights (..., speakers)` times: `(..., tallies)`."""
        by_speaker = self.counts.transpose(1, 0, 2, 3)
        sums = weights @ by_speaker.reshape(len(by_speaker), -1)
        return METRICS[self.metric](sums.reshape(*weights.shape[:-1], *by_speaker.shape[1:]))

    def at(self, weights: Floats) -> Floats:
        """The figure where speakers count `weights (..., speakers)` times: `(...)`."""
        # Equal figures must differ by exactly 0: what is left of rounding would be tested against an error as small.
        return np.asarray(np.round(self.by_tally(weights) @ self.factors, 12))

    @property
    def value(self) -> float:
        """The figure of the speakers as they are."""
        return float(self.at(np.ones(len(self.strata))))

    def few_speakers(self) -> bool:
        """Whether a stratum has too few speakers for the bootstrap."""
        return bool(np.bincount(self.strata).min() < BOOTSTRAP_FROM)


@dataclass(frozen=True)
class Error:
    """The standard error of a figure and the degrees of freedom of its t; NaN where it cannot be told."""

    size: float
    freedom: float

    def half(self, level: float) -> float:
        """Half the width of the interval: `t * error`."""
        from scipy import special  # not scipy.stats, whose t has these very functions: its import takes a second

        return float(special.stdtrit(self.freedom, 0.5 + level / 2) * self.size)

    def tail(self, distance: float) -> float:
        """The chance that the figure lies further above its truth than `distance`; with no error at all 1, .5 or 0."""
        if self.size == 0:
            return float(1 - np.sign(distance)) / 2
        from scipy import special

        return float(special.stdtr(self.freedom, -distance / self.size))


@dataclass(frozen=True)
class CombinedError:
    """The error of a sum of independent parts, of which some have few degrees of freedom.

    Half the interval is `sqrt(sum_i half_i^2)`, which is never too short (Banerjee 1961); a t with Satterthwaite's
    degrees of freedom is, where a part of two degrees happens to look small.
    """

    parts: tuple[Error, ...]

    @property
    def size(self) -> float:
        """The standard error."""
        return math.hypot(*(part.size for part in self.parts))

    def half(self, level: float) -> float:
        """Half the width of the interval."""
        return math.hypot(*(part.half(level) for part in self.parts))

    def tail(self, distance: float) -> float:
        """As `Error.tail`: half of 1 - level of the interval that ends at this distance."""
        if math.isnan(self.size) or self.size == 0 or distance == 0:
            return Error(self.size, 1).tail(distance)
        from scipy import optimize, special  # half a second, for differences over seeds alone

        def excess(z: float) -> float:  # of the distance at which the interval with the tails of this z ends
            quantiles = -special.stdtrit([part.freedom for part in self.parts], special.ndtr(-z))
            return math.hypot(*(quantiles * [part.size for part in self.parts])) - abs(distance)

        tail = float(special.ndtr(-optimize.brentq(excess, 0, _MOST_Z))) if excess(_MOST_Z) > 0 else 0.0
        return tail if distance > 0 else 1 - tail


def combined(errors: Sequence[Error]) -> Error:
    """The error of a sum of independent parts; degrees of freedom by Satterthwaite (1946).

    `(sum_i e_i^2)^2 / sum_i (e_i^4 / f_i)`, which for one part is its own.
    """
    variances = np.square([e.size for e in errors])
    total = variances.sum()
    shares = variances / total if total > 0 else np.full(len(errors), 1 / len(errors))
    return Error(float(np.sqrt(total)), float(1 / np.sum(np.square(shares) / [e.freedom for e in errors])))


def jackknife(estimate: Estimate) -> Error:
    """Delete-one-speaker jackknife (Efron & Stein 1981): `error^2 = (n - 1) / n * sum_i (without_i - mean)^2`.

    Each stratum gives such a part by itself (Wolter 2007, ch. 4, without finite-population terms); NaN where one has a
    single speaker.
    """
    without = estimate.at(1 - np.eye(len(estimate.strata)))
    return combined([_of_group(without[estimate.strata == h]) for h in np.unique(estimate.strata)])


def luck_of_seeds(estimate: Estimate) -> Error:
    """The error of a difference of two methods' means over seeds (an `Estimate` of two terms) that seeds alone make.

    Variance `sum (sd^2 / seeds - 3/4 shared)` over the methods, at least 0, with the degrees of freedom of Welch (1947)
    for `sd^2 / seeds`. `shared` is what the jackknife over speakers holds already: the jackknife variance of a seed's
    deviation from the mean over seeds, mean over seeds, divided by seeds - 1. NaN where a method has one seed.
    """
    values, without = (estimate.by_tally(w) for w in (np.ones(len(estimate.strata)), 1 - np.eye(len(estimate.strata))))
    between, shared = [], 0.0
    for of_method in (estimate.factors > 0, estimate.factors < 0):
        n = int(of_method.sum())
        if n < 2:
            return Error(math.nan, math.nan)
        between.append(Error(float(values[of_method].std(ddof=1) / np.sqrt(n)), n - 1))
        deviations = without[:, of_method] - without[:, of_method].mean(1, keepdims=True)
        shared += sum(_of_group(of_seed).size ** 2 for of_seed in deviations.T) / n / (n - 1)
    error = combined(between)
    return Error(float(np.sqrt(max(0, error.size**2 - _SUBTRACTED * shared))), error.freedom)


@dataclass(frozen=True)
class Bootstrap:
    """The figure in each resample of speakers, sorted `(resamples,)`."""

    values: Floats

    @classmethod
    def of(cls, estimate: Estimate, resamples: int, seed: int) -> "Bootstrap":
        """Draw speakers with replacement, within strata, all tallies of a speaker together (Efron & Tibshirani 1993).

        A resample is a multinomial weight a speaker, so it is a product of matrices.
        """
        rng = np.random.default_rng(seed)
        size = max(1, _AT_ONCE // (len(estimate.strata) + estimate.counts[:, 0].size))
        parts = [min(size, resamples - begin) for begin in range(0, resamples, size)]
        values = np.concatenate([estimate.at(_weights(estimate.strata, n, rng)) for n in parts])
        return cls(np.sort(values))

    def limits(self, level: float) -> tuple[float, float]:
        """The percentile interval: the values at `(B + 1) q` of the sorted B (Davison & Hinkley 1997, ch. 5.3)."""
        low, high = np.quantile(self.values, [0.5 - level / 2, 0.5 + level / 2], method="weibull")
        return float(low), float(high)

    def p(self) -> float:
        """Two-sided: `2 (1 + number beyond 0) / (B + 1)` (Davison & Hinkley 1997, ch. 4.2), at most 1.

        At most 1 - level exactly where the percentile interval of that level leaves 0 out, if `(B + 1) q` is whole.
        """
        return min(1.0, 2 * min(self.share(self.values <= 0), self.share(self.values >= 0)))

    def share(self, beyond: NDArray[np.bool_]) -> float:
        """One-sided: `(1 + number beyond) / (B + 1)`."""
        return (1 + int(beyond.sum())) / (len(self.values) + 1)


def same_speakers(tallies: Sequence[Tally]) -> None:
    """Raises EmodartsError where tallies differ in their speakers."""
    if any(t.speakers != tallies[0].speakers for t in tallies):
        raise EmodartsError("a comparison needs predictions of the same speakers from both systems, and every seed")


def _of_group(without: Floats) -> Error:
    n = len(without)
    if n < 2:
        return Error(float("nan"), float("nan"))
    return Error(float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())), n - 1)


def _weights(strata: NDArray[np.int64], resamples: int, rng: np.random.Generator) -> Floats:
    """How often each speaker is drawn `(resamples, speakers)`: in all, as often as its stratum has speakers."""
    weights = np.empty((resamples, len(strata)))
    for stratum, n in enumerate(np.bincount(strata)):
        drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
        weights[:, strata == stratum] = np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n)
    return weights
