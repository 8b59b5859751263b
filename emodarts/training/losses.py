"""What a training minimises: a classification loss, on utterances as they are or mixed in pairs (mixup)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from emodarts.features.batches import Batch, FoldPart, class_weights, draw_rates, utterance_weights
from emodarts.features.settings import BatchSettings
from emodarts.seeds import derive_seed
from emodarts.training.settings import TrainingSettings

_DEFAULTS = BatchSettings()


class TrainingLoss:
    """`training.loss` of logits `(batch, classes)` and labels `(batch,)`, a mean over the batch.

    Cross-entropy and focal loss (Lin et al. 2017) weigh an utterance by its class, rarer ones more; the logit-adjusted
    loss (Menon et al. 2021, eq. 10, tau = 1) adds the logarithm of each class's frequency to its logit instead.
    """

    def __init__(
        self, s: TrainingSettings, part: FoldPart, classes: int, device: str, batches: BatchSettings = _DEFAULTS
    ):
        rates = draw_rates(part, batches.sampling)
        self.settings = s
        self.weights = class_weights(part, classes, rates).to(device)
        self.utterance_weights: Tensor | None = None
        if batches.loss_weights == "class_and_corpus":
            self.utterance_weights = torch.from_numpy(utterance_weights(part, batches).astype(np.float32)).to(device)
        frequencies = np.maximum(np.bincount(part.labels, rates, minlength=classes), 1) / len(part.labels)
        self.log_priors = torch.tensor(np.log(frequencies), dtype=torch.float32, device=device)

    def __call__(self, logits: Tensor, labels: Tensor, positions: Tensor | None = None) -> Tensor:
        """The loss of a batch; `positions` in the part are needed where classes of corpora weigh the same."""
        smoothing = self.settings.label_smoothing
        if self.utterance_weights is not None and positions is not None:
            return self._by_utterance(logits, labels, self.utterance_weights[positions.to(logits.device)])
        if self.settings.loss == "logit_adjusted":
            return F.cross_entropy(logits + self.log_priors, labels, label_smoothing=smoothing)
        if self.settings.loss == "cross_entropy":
            return F.cross_entropy(logits, labels, self.weights, label_smoothing=smoothing)
        entropies = F.cross_entropy(logits, labels, self.weights, label_smoothing=smoothing, reduction="none")
        right = logits.softmax(1).gather(1, labels[:, None])[:, 0]
        return ((1 - right) ** self.settings.focal_gamma * entropies).sum() / self.weights[labels].sum()

    def _by_utterance(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """The loss with a weight for each utterance; the adjusted logits see to the classes by themselves."""
        s = self.settings
        if s.loss == "logit_adjusted":
            logits, weights = logits + self.log_priors, weights / self.weights[labels]
        entropies = F.cross_entropy(logits, labels, label_smoothing=s.label_smoothing, reduction="none")
        if s.loss == "focal":
            entropies = (1 - logits.softmax(1).gather(1, labels[:, None])[:, 0]) ** s.focal_gamma * entropies
        return (weights * entropies).sum() / weights.sum()


def mix_up(inputs: Tensor, lengths: Tensor, alpha: float, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """Each utterance mixed with another one of the batch (mixup, Zhang et al. 2018): the mixed inputs, their lengths in
    frames, which was mixed in, and the part of the first, drawn from Beta(alpha, alpha).

    `inputs (batch, channels, frequency, time)`. A mixture is as long as the longer of the two: the shorter has zeros
    there, which are the normalisation's mean. What is drawn depends on the seed and the step alone.
    """
    rng = np.random.default_rng(derive_seed(seed, "mixup", step))
    first = float(rng.beta(alpha, alpha))
    others = torch.from_numpy(rng.permutation(len(lengths))).to(inputs.device)
    mixed = first * inputs + (1 - first) * inputs[others]
    return mixed, torch.maximum(lengths, lengths[others]), others, first


class BalancedLoss:
    """A supernet's loss: the weighted mean cross-entropy of batches of a part, by `batches.loss_weights`;
    weights have mean 1 over what an epoch draws.
    """

    def __init__(
        self, part: FoldPart, classes: int, settings: BatchSettings, device: str, label_smoothing: float = 0.0
    ):
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights(part, classes, draw_rates(part, settings.sampling)).to(device)
        self.utterance_weights: Tensor | None = None
        if settings.loss_weights == "class_and_corpus":
            weights = utterance_weights(part, settings).astype(np.float32)
            self.utterance_weights = torch.from_numpy(weights).to(device)

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """A scalar for logits `(batch, classes)`."""
        smoothing = self.label_smoothing
        if self.utterance_weights is None:
            return F.cross_entropy(logits, batch.labels, self.class_weights, label_smoothing=smoothing)
        weights = self.utterance_weights[batch.positions.to(logits.device)]
        losses = F.cross_entropy(logits, batch.labels, reduction="none", label_smoothing=smoothing)
        return (weights * losses).sum() / weights.sum()
