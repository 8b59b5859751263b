"""UAR, WAR and macro-F1 as pure functions of integer class indices, or of confusion matrices (`..._of`).

A declared class that does not occur in the labels is left out of every mean; `absent_classes` names it.
"""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.integer]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64] | Floats  # rows are labels, columns predictions


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


def uar_of(counts: Counts) -> Floats:
    """Unweighted average recall of confusion matrices `(..., classes, classes)`: `(...)`.

    The mean over the classes that have labels of (correct in class / class size); NaN where no class has.
    """
    return _mean_over_classes(recalls_of(counts))


def war_of(counts: Counts) -> Floats:
    """Weighted average recall, that is accuracy, of confusion matrices `(..., classes, classes)`: `(...)`."""
    matrices = np.asarray(counts, np.float64)
    return _ratio(_correct(matrices).sum(-1), matrices.sum((-2, -1)))


def macro_f1_of(counts: Counts) -> Floats:
    """Macro-F1 of confusion matrices `(..., classes, classes)`: `(...)`.

    Mean over the classes that have labels of F1 = 2 correct / (class size + times predicted).
    """
    matrices = np.asarray(counts, np.float64)
    sizes = matrices.sum(-1)
    scores = _ratio(2 * _correct(matrices), sizes + matrices.sum(-2))
    return _mean_over_classes(np.where(sizes > 0, scores, np.nan))


def recalls_of(counts: Counts) -> Floats:
    """The recall of each class `(..., classes)` of confusion matrices `(..., classes, classes)`; NaN without labels."""
    matrices = np.asarray(counts, np.float64)
    return _ratio(_correct(matrices), matrices.sum(-1))


def uar(labels: Indices, predicted: Indices, n_classes: int) -> float:
    """`uar_of` the confusion matrix of class indices."""
    return float(uar_of(confusion_matrix(labels, predicted, n_classes)))


def war(labels: Indices, predicted: Indices) -> float:
    """Weighted average recall, that is accuracy: correct / all. Raises ValueError for unequal lengths."""
    labels, predicted = _pair(labels, predicted)
    return float((labels == predicted).mean()) if labels.size else float("nan")


def macro_f1(labels: Indices, predicted: Indices, n_classes: int) -> float:
    """`macro_f1_of` the confusion matrix of class indices."""
    return float(macro_f1_of(confusion_matrix(labels, predicted, n_classes)))


def absent_classes(labels: Indices, n_classes: int) -> tuple[int, ...]:
    """The declared classes without an utterance in `labels`."""
    return tuple(sorted(set(range(n_classes)) - set(np.unique(labels).tolist())))


def mean_pairwise_agreement(predicted: Indices) -> float:
    """The mean over all pairs of models of the part of the utterances for which both predict the same class.

    `predicted (models, utterances)` are class indices. NaN for a single model, and without utterances.
    """
    models = len(predicted)
    pairs = [(predicted[i] == predicted[j]).mean() for i in range(models) for j in range(i)] if predicted.size else []
    return float(np.mean(pairs)) if pairs else float("nan")


def expected_calibration_error(labels: Indices, probabilities: NDArray[np.floating], bins: int = 15) -> float:
    """How far confidences, the largest probabilities, are from how often they are right (Guo et al. 2017, eq. 3).

    `ECE = sum_b n_b / n * |accuracy_b - mean confidence_b|` over `bins` bins of equal width, `(b / bins, (b + 1) /
    bins]`, where `n_b` of the `n` utterances lie in bin b. `probabilities (utterances, classes)`; NaN without any.
    """
    confidence = np.asarray(probabilities, np.float64).max(1, initial=0)
    right = probabilities.argmax(1) == np.asarray(labels)
    if not right.size:
        return float("nan")
    numbers = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(numbers, right - confidence, bins)  # a bin's n_b * (accuracy_b - mean confidence_b)
    return float(np.abs(gaps).sum() / right.size)


def _pair(labels: Indices, predicted: Indices) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    y, p = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
    if y.shape != p.shape:
        raise ValueError(f"{y.size} labels but {p.size} predictions")
    return y, p


def _correct(matrices: Floats) -> Floats:
    return np.diagonal(matrices, axis1=-2, axis2=-1)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`, NaN where `whole` is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _mean_over_classes(scores: Floats) -> Floats:
    """The mean over the last axis without its NaN; NaN where there is nothing else."""
    known = ~np.isnan(scores)
    return _ratio(np.where(known, scores, 0).sum(-1), known.sum(-1))
