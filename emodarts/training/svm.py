"""Functionals of an utterance's frames and a linear support vector machine: the baseline before deep learning.

Mean and standard deviation over time of each value of a frame (functionals such as eGeMAPS are one frame), standardised
by the train part; a linear SVM (Cortes & Vapnik 1995), one class against the rest, classes weighted by their size. What
stands as probabilities is a softmax of the distances from the hyperplanes.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emodarts.features.batches import FoldPart, draw_rates, utterance_weights
from emodarts.features.settings import BatchSettings

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_ITERATIONS = 20_000
_DEFAULTS = BatchSettings()


@dataclass(frozen=True)
class TrainedSvm:
    """A fitted machine."""

    pipeline: "Pipeline"
    classes: int
    seconds: float
    layers: slice | None = None

    @property
    def parameters(self) -> int:
        """Weights and offsets."""
        machine = self.pipeline[-1]
        return int(machine.coef_.size + machine.intercept_.size)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one utterance: its functionals times the weights."""
        return int(self.pipeline[-1].coef_.size)

    def predict(self, part: FoldPart) -> NDArray[np.float32]:
        """Scores `(utterances, classes)` that sum to 1; 0 for a class that train does not have."""
        distances = self.pipeline.decision_function(functionals(part, self.layers))
        if distances.ndim == 1:  # two classes have one hyperplane
            distances = np.stack([-distances, distances], 1)
        shifted = np.exp(distances - distances.max(1, keepdims=True))
        scores = np.zeros((len(distances), self.classes), np.float32)
        scores[:, self.pipeline[-1].classes_] = shifted / shifted.sum(1, keepdims=True)
        return scores


def fit(
    part: FoldPart,
    classes: int,
    penalty: float,
    seed: int,
    layers: slice | None = None,
    batches: BatchSettings = _DEFAULTS,
) -> TrainedSvm:
    """Fit on the part's recordings as they are, without copies; `penalty` is the machine's C.

    `layers` of an encoder, whose mean is read where networks learn a weighting, which a machine cannot. Where `batches`
    draw or weigh by corpus, utterances weigh here as they do in a network's epoch.
    """
    from sklearn.pipeline import make_pipeline  # an import of seconds, needed here alone
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    start = time.perf_counter()
    weights: NDArray[np.float64] | None = None
    if (batches.sampling, batches.loss_weights) != (_DEFAULTS.sampling, _DEFAULTS.loss_weights):
        weights = draw_rates(part, batches.sampling) * utterance_weights(part, batches)
    by_class = "balanced" if weights is None else None
    machine = LinearSVC(C=penalty, class_weight=by_class, random_state=seed % 2**31, max_iter=_ITERATIONS)
    pipeline = make_pipeline(StandardScaler(), machine)
    pipeline.fit(functionals(part, layers), part.labels, linearsvc__sample_weight=weights)
    return TrainedSvm(pipeline, classes, time.perf_counter() - start, layers)


def functionals(part: FoldPart, layers: slice | None = None) -> NDArray[np.float64]:
    """Mean and deviation over time of each value of a standardised frame: `(utterances, 2 * channels * bins)`, or
    `(utterances, 2 * bins)` of the mean over `layers`.
    """
    rows = []
    for position in part.rows.tolist():
        mean, deviation = (x.double().numpy().ravel() for x in part.standardiser.statistics(np.array([position])))
        frames = (part.store.read(position).astype(np.float64) - mean) / deviation
        if layers is not None:
            frames = frames.reshape(len(frames), part.store.channels, part.store.bins)[:, layers].mean(1)
        rows.append(np.concatenate([frames.mean(0), frames.std(0)]))
    return np.stack(rows)
