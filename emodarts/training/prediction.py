"""Prediction: class probabilities of a part's utterances, and the figures that choose an epoch."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from emodarts.features.batches import Part, evaluation_batches
from emodarts.metrics import uar, war
from emodarts.networks.network import Network


@dataclass(frozen=True)
class DevFigures:
    """Loss (mean cross-entropy), UAR and WAR on the dev part."""

    loss: float
    uar: float
    war: float


@torch.no_grad()
def predict(network: Network, part: Part, batch_size: int, device: str = "cpu") -> NDArray[np.float32]:
    """Probabilities `(utterances, classes)` in the part's order. Raises FloatingPointError for NaN."""
    training = network.training
    network.eval()
    probabilities = np.zeros((len(part.utterances), network.shape.classes), np.float32)
    for batch in evaluation_batches(part, batch_size, device):
        probabilities[batch.positions.numpy()] = F.softmax(network(batch.inputs, batch.lengths), 1).cpu().numpy()
    network.train(training)
    if not np.isfinite(probabilities).all():
        raise FloatingPointError("the network predicts NaN: the training diverged; lower the learning rate")
    return probabilities


def dev_figures(network: Network, dev: Part, batch_size: int, device: str = "cpu") -> DevFigures:
    """Loss, UAR and WAR of the network on the dev part."""
    probabilities = predict(network, dev, batch_size, device)
    labels = dev.labels
    loss = float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())
    predicted = probabilities.argmax(1)
    return DevFigures(loss, uar(labels, predicted, network.shape.classes), war(labels, predicted))


def is_late(epoch: int, epochs: int) -> bool:
    """Whether an epoch (from 0) lies in the last quarter, where the rule `late_dev` chooses by dev UAR."""
    return epoch >= epochs - max(1, -(-epochs // 4))
