"""Figures without an error over speakers: the three metrics, their spread over folds or seeds, what guessing gets."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from emodarts.results.statistics.tallies import METRICS, Floats, Tally


@dataclass(frozen=True)
class Metrics:
    """UAR, WAR and macro-F1 of some predictions."""

    uar: float
    war: float
    macro_f1: float


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (NaN for one) of the figures of `n` folds or seeds."""

    mean: float
    deviation: float
    n: int


def compute_metrics(confusion: Floats) -> Metrics:
    """The three figures of a confusion matrix `(classes, classes)`: rows are labels, columns predictions."""
    return Metrics(**{name: float(of(confusion)) for name, of in METRICS.items()})


def mean_metrics(tallies: Sequence[Tally]) -> Metrics:
    """The three figures of each tally (a seed, say), then their means."""
    metrics = [compute_metrics(tally.confusion()) for tally in tallies]
    return Metrics(*(mean(getattr(m, name) for m in metrics) for name in METRICS))


def spread(values: Sequence[float]) -> Spread:
    """Mean and `sqrt(sum (x - mean)^2 / (n - 1))`. Raises ValueError for no values.

    It is how much folds or seeds differ, not how sure their mean is: folds share most of their training data (Bengio &
    Grandvalet 2004).
    """
    if len(values) == 0:
        raise ValueError("the mean of nothing")
    x = np.asarray(values, np.float64)
    return Spread(float(x.mean()), float(x.std(ddof=1)) if len(x) > 1 else float("nan"), len(x))


def chance(tally: Tally) -> Tally:
    """The same utterances guessed at random, every declared class as likely, as expected counts.

    UAR and WAR are then 1 / classes; macro-F1 is that of the expected counts.
    """
    n_classes = tally.counts.shape[1]
    return _guessed(tally, np.full(n_classes, 1 / n_classes))


def majority(tally: Tally, training: Sequence[int] | None = None) -> Tally:
    """The same utterances, all predicted as the most frequent class, ties going to the first.

    `training` is the number of training utterances of each class `(classes,)`; without it the labels of the tally
    themselves tell, which is the best that any constant answer can do for the WAR.
    """
    sizes = tally.sizes.sum(0) if training is None else np.asarray(training)
    if sizes.shape != tally.counts.shape[1:2]:
        raise ValueError(f"{sizes.size} class sizes for {tally.counts.shape[1]} classes")
    return _guessed(tally, np.eye(len(sizes))[int(sizes.argmax())])


def _guessed(tally: Tally, probabilities: Floats) -> Tally:
    """Expected counts where each class `(classes,)` is answered with its probability, whatever the utterance."""
    return Tally(tally.speakers, tally.sizes[:, :, None] * probabilities)
