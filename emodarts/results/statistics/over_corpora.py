"""A difference over corpora: a random-effects mean, in which each corpus has one vote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from emodarts.results.statistics.comparisons import Difference
from emodarts.results.statistics.estimates import LEVEL, Error
from emodarts.results.statistics.tallies import Floats

ENOUGH_CORPORA = 4


@dataclass(frozen=True)
class CorporaMean:
    """The mean difference over `corpora` corpora; `deviation` is how much true differences vary from one to another."""

    difference: Difference
    deviation: float
    corpora: int


def mean_over_corpora(differences: Mapping[str, Sequence[Difference]], level: float = LEVEL) -> CorporaMean | None:
    """The random-effects mean of differences, `corpus: those measured on it`; None for fewer than four corpora.

    Several of a corpus (protocols, labels) count as their mean with their mean error: they share its speakers.
    Weights are `1 / (error^2 + deviation^2)`, the deviation by Paule & Mandel (1982), the interval by t with corpora
    - 1 degrees of freedom (Hartung & Knapp 2001; never shorter than by the weights alone: Roever, Knapp & Friede 2015).
    Corpora whose error is NaN, as with one speaker, are left out.
    """
    votes = [(mean(d.value for d in of), mean(d.error for d in of)) for of in differences.values()]
    values, errors = np.array([vote for vote in votes if vote[1] == vote[1]]).reshape(-1, 2).T
    if len(values) < ENOUGH_CORPORA:
        return None
    variances = errors**2
    between = _variance_between(values, variances)
    value, total, q = _weighted(values, variances + between)
    freedom = len(values) - 1
    error = Error(float(np.sqrt(max(1, q / freedom) / total)), freedom)
    over_seeds = all(d.over_seeds for of_corpus in differences.values() for d in of_corpus)
    return CorporaMean(Difference.by_t(value, error, level, over_seeds), between**0.5, freedom + 1)


def _weighted(values: Floats, variances: Floats) -> tuple[float, float, float]:
    """Mean by inverse variances, the sum of the weights, and Cochran's Q."""
    weights = 1 / np.maximum(variances, 1e-12)  # equal predictions on a corpus have no error at all
    value = float(weights @ values / weights.sum())
    return value, float(weights.sum()), float(weights @ (values - value) ** 2)


def _variance_between(values: Floats, variances: Floats) -> float:
    """Where Q is its expectation, the number of corpora - 1; 0 where it is below that without any (Paule & Mandel)."""
    from scipy import optimize  # half a second, for several corpora alone

    def excess(between: float) -> float:
        return _weighted(values, variances + between)[2] - (len(values) - 1)

    upper = float(np.var(values, ddof=1)) + 1e-9  # there Q is at most that, as all weights are smaller than 1 / upper
    return float(optimize.brentq(excess, 0, upper)) if excess(0) > 0 else 0.0
