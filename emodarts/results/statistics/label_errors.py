"""Doubtful labels, by confident learning: what a model that never saw an utterance is sure to be another class.

Northcutt, Jiang & Chuang 2021, "Confident learning: estimating uncertainty in dataset labels", sections 3.1 to 3.3
(method "prune by noise rate"). Probabilities must be out of sample, as those of test parts are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emodarts.results.statistics.tallies import Floats


@dataclass(frozen=True)
class DoubtfulLabel:
    """An utterance (by its row), the class that it more likely is, and by how much: `p(other) - p(label)`."""

    row: int
    suggested: int
    margin: float


def confident_joint(labels: NDArray[np.integer], probabilities: Floats) -> Floats:
    """Estimated counts `(classes, classes)` of labels (rows) and true classes, calibrated to the labels' counts.

    An utterance counts as of class j where its p_j is at least the mean p_j of those labelled j; of several such
    classes the likeliest (equations 1 and 2); rows are scaled to the numbers of labels (equation 3).
    """
    n_classes = probabilities.shape[1]
    sizes = np.bincount(labels, minlength=n_classes)
    sums = np.bincount(labels, probabilities[np.arange(len(labels)), labels], n_classes)
    thresholds = np.where(sizes > 0, sums / np.maximum(sizes, 1), np.inf)
    above = np.where(probabilities >= thresholds - 1e-12, probabilities, -1.0)
    counted = above.max(1) >= 0
    joint = np.zeros((n_classes, n_classes))
    np.add.at(joint, (labels[counted], above.argmax(1)[counted]), 1)
    rows = joint.sum(1, keepdims=True)
    unsure = np.diag(sizes).astype(np.float64)  # a class of which nothing is confident keeps its labels
    return np.where(rows > 0, joint / np.maximum(rows, 1) * sizes[:, None], unsure)


def find_label_errors(labels: NDArray[np.integer], probabilities: Floats) -> tuple[DoubtfulLabel, ...]:
    """The likely label errors, the likeliest first.

    Of each label i and other class j, as many as `confident_joint` has there: those with the largest `p_j - p_i`, and
    of them those that are likelier j than i.
    """
    joint = np.rint(confident_joint(labels, probabilities)).astype(np.int64)
    best: dict[int, DoubtfulLabel] = {}
    for label, other in zip(*np.nonzero(joint), strict=True):
        rows = np.flatnonzero(labels == label)
        if label == other or not rows.size:
            continue
        margins = probabilities[rows, other] - probabilities[rows, label]
        for place in np.argsort(-margins, kind="stable")[: joint[label, other]]:
            row, margin = int(rows[place]), float(margins[place])
            if margin > 0 and (row not in best or margin > best[row].margin):
                best[row] = DoubtfulLabel(row, int(other), margin)
    return tuple(sorted(best.values(), key=lambda doubtful: (-doubtful.margin, doubtful.row)))
