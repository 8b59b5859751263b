"""UAR, WAR and macro-F1 as pure functions of integer class indices.

A declared class that does not occur in the labels is left out of every mean; `absent_classes` names it.
"""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.integer]


def confusion_matrix(labels: Indices, predicted: Indices, n_classes: int) -> NDArray[np.int64]:
    """Counts `(n_classes, n_classes)`: rows are labels, columns predictions.

    Raises ValueError for unequal lengths and for an index outside of 0 .. n_classes - 1.
    """
    labels, predicted = _pair(labels, predicted)
    for indices in (labels, predicted):
        if indices.size and not 0 <= indices.min() <= indices.max() < n_classes:
            raise ValueError(f"class index outside of 0 .. {n_classes - 1}: {indices.min()} to {indices.max()}")
    counts = np.bincount(labels * n_classes + predicted, minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes)


def uar(labels: Indices, predicted: Indices, n_classes: int) -> float:
    """Unweighted average recall: the mean over the classes in `labels` of (correct in class / class size)."""
    matrix = confusion_matrix(labels, predicted, n_classes)
    sizes = matrix.sum(1)
    present = sizes > 0
    return float((np.diag(matrix)[present] / sizes[present]).mean()) if present.any() else float("nan")


def war(labels: Indices, predicted: Indices) -> float:
    """Weighted average recall, that is accuracy: correct / all. Raises ValueError for unequal lengths."""
    labels, predicted = _pair(labels, predicted)
    return float((labels == predicted).mean()) if labels.size else float("nan")


def macro_f1(labels: Indices, predicted: Indices, n_classes: int) -> float:
    """Mean over the classes in `labels` of F1 = 2 correct / (class size + times predicted)."""
    matrix = confusion_matrix(labels, predicted, n_classes)
    sizes = matrix.sum(1)
    present = sizes > 0
    scores = 2 * np.diag(matrix)[present] / (sizes + matrix.sum(0))[present]
    return float(scores.mean()) if present.any() else float("nan")


def absent_classes(labels: Indices, n_classes: int) -> tuple[int, ...]:
    """The declared classes without an utterance in `labels`."""
    return tuple(sorted(set(range(n_classes)) - set(np.unique(labels).tolist())))


def _pair(labels: Indices, predicted: Indices) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    y, p = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
    if y.shape != p.shape:
        raise ValueError(f"{y.size} labels but {p.size} predictions")
    return y, p
