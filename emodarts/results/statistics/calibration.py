"""Whether probabilities can be trusted: reliability, Brier score, temperature, UAR of what a system is sure of.

Of labelled utterances `labels (utterances,)` are class indices, `probabilities (utterances, classes)` predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emodarts.results.statistics.intervals import Interval, interval
from emodarts.results.statistics.tallies import Floats, Names, Tally

BINS = 15  # of equal width, as those of `metrics.expected_calibration_error`
TEMPERATURES = (0.2, 5.0)  # where dev is all right, or all wrong, the best temperature would have no end
_LEAST = 1e-12  # of a probability, before its logarithm
_RESAMPLES = 999  # of an interval of a curve


@dataclass(frozen=True)
class ReliabilityBin:
    """The `n` utterances whose largest probability lies in `(low, high]`: its mean there, and how often it is right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Coverage:
    """What is answered where only the surest `fraction` is: `threshold` is the least confidence that is answered."""

    fraction: float
    threshold: float
    uar: Interval


def reliability(labels: NDArray[np.integer], probabilities: Floats, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """The bins that hold utterances, from unsure to sure (Guo et al. 2017, section 2)."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    numbers = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(numbers, minlength=bins)
    means = [np.bincount(numbers, values, bins) / np.maximum(counts, 1) for values in (confidence, right)]
    return tuple(
        ReliabilityBin(b / bins, (b + 1) / bins, int(counts[b]), float(means[0][b]), float(means[1][b]))
        for b in np.flatnonzero(counts).tolist()
    )


def brier_score(labels: NDArray[np.integer], probabilities: Floats) -> float:
    """The mean over utterances of `sum_c (p_c - [c is the label])^2`, 0 to 2 (Brier 1950); NaN without any."""
    if not len(labels):
        return float("nan")
    return float(np.square(probabilities - np.eye(probabilities.shape[1])[labels]).sum(1).mean())


def fit_temperature(labels: NDArray[np.integer], probabilities: Floats) -> float:
    """The temperature T under which `softmax(log p / T)` has the least negative log likelihood (Guo et al. 2017).

    It lies within `TEMPERATURES`; above 1 the system was too sure of itself. 1 without utterances.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        return 1.0
    logits, rows = _logits(probabilities), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(np.logaddexp.reduce(scaled, 1) - scaled[rows, labels]))

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x))


def with_temperature(probabilities: Floats, temperature: float) -> Floats:
    """`softmax(log p / temperature)` of probabilities `(..., classes)`: the order of the classes stays."""
    scaled = _logits(probabilities) / temperature
    return np.asarray(np.exp(scaled - np.logaddexp.reduce(scaled, -1)[..., None]))


def coverage_curve(
    speakers: Names, labels: NDArray[np.integer], probabilities: Floats, fractions: Sequence[float]
) -> tuple[Coverage, ...]:
    """The UAR of the surest part of the utterances, for each fraction of them; a risk-coverage curve (El-Yaniv & Wiener
    2010) in terms of UAR.

    `probabilities (seeds, utterances, classes)`: of each seed its own surest `ceil(fraction * utterances)` (the first
    ones where several are as sure), then the mean over seeds; the interval is over speakers. The UAR is over those
    classes that are left.
    """
    names, rows = np.unique(np.asarray(speakers, np.str_), return_inverse=True)
    n_classes = probabilities.shape[2]
    confidence, predicted = probabilities.max(2), probabilities.argmax(2)
    places = (rows * n_classes + labels) * n_classes + predicted
    order = np.argsort(-confidence, axis=1, kind="stable")
    curve = []
    for fraction in fractions:
        n = max(1, int(np.ceil(round(fraction * len(labels), 9))))
        sure = order[:, :n]
        answered, shape = np.take_along_axis(places, sure, 1), (names.size, n_classes, n_classes)
        counts = [np.bincount(of_seed, minlength=names.size * n_classes**2) for of_seed in answered]
        tallies = [Tally(tuple(names.tolist()), c.astype(np.float64).reshape(shape)) for c in counts]
        threshold = float(np.mean(np.take_along_axis(confidence, sure[:, -1:], 1)))
        curve.append(Coverage(fraction, threshold, interval(tallies, resamples=_RESAMPLES)))
    return tuple(curve)


def _logits(probabilities: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(np.asarray(probabilities, np.float64), _LEAST)))
