"""Kendall's tau-b with its bootstrap interval, for benchmarks that ask how well something ranks."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

RESAMPLES, LEVEL = 2_000, 0.95
Floats = NDArray[np.float64]


def draws(count: int) -> list[NDArray[np.int64]]:
    """All of so many things first, then `RESAMPLES` times as many of them with replacement, the same ones each time."""
    rng = np.random.default_rng(0)
    return [np.arange(count), *(rng.integers(count, size=count) for _ in range(RESAMPLES))]


def mean_tau(pairs: Sequence[tuple[Floats, Floats]], rows: NDArray[np.int64]) -> float:
    """Tau of some of the things, the mean over pairs of rankings of them; NaN where all are equal."""
    with np.errstate(all="ignore"):
        return float(np.mean([kendalltau(values[rows], others[rows]).statistic for values, others in pairs]))


def interval(statistics: Floats) -> list[float] | None:
    """Of what `draws` give: the first, which is that of all, and percentiles of the others; None: it is not known."""
    value, known = statistics[0], statistics[1:][~np.isnan(statistics[1:])]
    if math.isnan(value) or not len(known):
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [round(float(x), 3) for x in (value, low, high)]
