"""Predictions as one confusion matrix a speaker: every figure and every resample is a sum of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from emodarts import metrics
from emodarts.errors import EmodartsError

Floats = NDArray[np.float64]
Names = Sequence[str] | NDArray[np.str_]
Indices = Sequence[int] | NDArray[np.integer]
Metric = Literal["uar", "war", "macro_f1"]

METRICS: dict[str, Callable[[Floats], Floats]] = {
    "uar": metrics.uar_of,
    "war": metrics.war_of,
    "macro_f1": metrics.macro_f1_of,
}


@dataclass(frozen=True)
class Tally:
    """Counts of predictions `(speakers, classes, classes)`: for each speaker, rows are labels, columns predictions."""

    speakers: tuple[str, ...]
    counts: Floats

    @classmethod
    def of(cls, speakers: Names, labels: Indices, predicted: Indices, n_classes: int) -> "Tally":
        """Count predictions; `labels` and `predicted` are class indices.

        Raises ValueError for unequal lengths and for an index outside of 0 .. n_classes - 1.
        """
        names, rows = np.unique(np.asarray(speakers, np.str_), return_inverse=True)
        y, p = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
        if not rows.shape == y.shape == p.shape:
            raise ValueError(f"{rows.size} speakers, {y.size} labels and {p.size} predictions")
        for indices in (y, p):
            if indices.size and not 0 <= indices.min() <= indices.max() < n_classes:
                raise ValueError(f"class index outside of 0 .. {n_classes - 1}: {indices.min()} to {indices.max()}")
        places = (rows * n_classes + y) * n_classes + p
        counts = np.bincount(places, minlength=names.size * n_classes**2).astype(np.float64)
        return cls(tuple(names.tolist()), counts.reshape(names.size, n_classes, n_classes))

    @classmethod
    def of_table(cls, predictions: pa.Table, classes: Sequence[str]) -> "Tally":
        """Count rows of the `predictions` table (its speaker, label, predicted); rows without a label are left out.

        Raises EmodartsError for a class that is not in `classes` and for a row without a speaker.
        """
        labelled = predictions.filter(pc.is_valid(predictions["label"]))
        if labelled["speaker"].null_count:
            raise EmodartsError("predictions without a speaker: intervals over speakers need every speaker's name")
        labels, predicted = (_indices(labelled, column, classes) for column in ("label", "predicted"))
        return cls.of(labelled["speaker"].to_pylist(), labels, predicted, len(classes))

    @property
    def sizes(self) -> Floats:
        """How many labels each speaker and class has `(speakers, classes)`."""
        return np.asarray(self.counts.sum(-1))

    def confusion(self) -> Floats:
        """The confusion matrix of all speakers `(classes, classes)`: rows are labels, columns predictions."""
        return np.asarray(self.counts.sum(0))

    def value(self, metric: Metric) -> float:
        """UAR, WAR or macro-F1 of all speakers' predictions pooled; NaN without any."""
        return float(METRICS[metric](self.confusion()))

    def uar(self) -> float:
        """Mean recall over the classes that occur, all speakers' predictions pooled."""
        return self.value("uar")


def pooled(tallies: Sequence[Tally]) -> Tally:
    """The predictions of several tallies as one, as those of a protocol's folds. Raises ValueError for none."""
    if not tallies:
        raise ValueError("there is nothing to pool")
    speakers = tuple(sorted({s for t in tallies for s in t.speakers}))
    return Tally(speakers, np.sum([aligned(t, speakers) for t in tallies], axis=0))


def aligned(tally: Tally, speakers: Sequence[str]) -> Floats:
    """The counts for these speakers in this order, zeros for one that the tally lacks."""
    rows = {name: number for number, name in enumerate(speakers)}
    counts = np.zeros((len(rows), *tally.counts.shape[1:]))
    counts[[rows[name] for name in tally.speakers]] = tally.counts
    return counts


def _indices(table: pa.Table, column: str, classes: Sequence[str]) -> NDArray[np.int64]:
    indices = pc.index_in(table[column], value_set=pa.array(classes, pa.string()))
    if indices.null_count:
        wrong = sorted({str(x) for x in table[column].filter(pc.is_null(indices)).unique().to_pylist()})
        raise EmodartsError(f"predictions: {column} {', '.join(wrong)} is none of the classes {', '.join(classes)}")
    return np.asarray(indices.to_numpy(), np.int64)
