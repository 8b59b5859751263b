"""How sure a figure is: intervals over speakers, since utterances of one speaker are no independent draws.

Few speakers take the delete-one-speaker jackknife with quantiles of Student's t (Efron & Stein 1981): the percentile
bootstrap covers far too little with 4 to 10 speakers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from emodarts.errors import EmodartsError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure and its interval; `low` and `high` are NaN where there is only one speaker."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Tally:
    """Right and all predictions of each speaker and class: `hits`, `totals` `(speakers, classes)`."""

    speakers: tuple[str, ...]
    hits: Floats
    totals: Floats

    @classmethod
    def of(cls, speakers: Sequence[str], labels: Sequence[int], predicted: Sequence[int], n_classes: int) -> "Tally":
        """Count the predictions. `labels` and `predicted` are class indices."""
        names = sorted(set(speakers))
        rows = np.searchsorted(np.array(names), np.array(speakers))
        y, p = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
        hits, totals = (np.zeros((len(names), n_classes)) for _ in range(2))
        np.add.at(totals, (rows, y), 1)
        np.add.at(hits, (rows, y), y == p)
        return cls(tuple(names), hits, totals)

    def uar(self) -> float:
        """Mean recall over the classes that occur, all speakers' predictions pooled."""
        return float(_uar(self.hits.sum(0), self.totals.sum(0)))

    def uar_without_each(self) -> Floats:
        """The same with one speaker left out at a time `(speakers,)`."""
        return np.asarray(_uar(self.hits.sum(0) - self.hits, self.totals.sum(0) - self.totals))


def uar_interval(tallies: Sequence[Tally], level: float = 0.95) -> Interval:
    """Pooled UAR, averaged over the tallies (one a seed), with its interval over the speakers they share."""
    _same_speakers(tallies)
    return _jackknife(_mean([t.uar() for t in tallies]), _mean([t.uar_without_each() for t in tallies]), level)


def uar_difference(ours: Sequence[Tally], others: Sequence[Tally], level: float = 0.95) -> Interval:
    """Pooled UAR of `ours` minus that of `others`, each averaged over its seeds, paired by speaker.

    Raises EmodartsError where the two did not predict the same speakers.
    """
    _same_speakers([*ours, *others])
    value = _mean([t.uar() for t in ours]) - _mean([t.uar() for t in others])
    without = _mean([t.uar_without_each() for t in ours]) - _mean([t.uar_without_each() for t in others])
    return _jackknife(value, without, level)


def _jackknife(value: float | Floats, without: Floats, level: float) -> Interval:
    """`value +- t * sqrt((n - 1) / n * sum (without_i - mean)^2)`, t with n - 1 degrees of freedom."""
    n = len(without)
    if n < 2:
        return Interval(float(value), float("nan"), float("nan"))
    error = np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    half = float(stats.t.ppf(0.5 + level / 2, n - 1) * error)
    return Interval(float(value), float(value) - half, float(value) + half)


def _uar(hits: Floats, totals: Floats) -> Floats:
    present = totals > 0
    recalls = np.divide(hits, totals, out=np.zeros_like(hits), where=present)
    return np.asarray(recalls.sum(-1) / np.maximum(present.sum(-1), 1))


def _mean(values: Sequence[float] | Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(np.asarray(values), axis=0))


def _same_speakers(tallies: Sequence[Tally]) -> None:
    if any(t.speakers != tallies[0].speakers for t in tallies):
        raise EmodartsError("a comparison needs predictions of the same speakers from both systems, and every seed")
