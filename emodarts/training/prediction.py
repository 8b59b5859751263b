"""Prediction: class probabilities of the utterances of a fold's part, and their figures on dev."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from emodarts.features.batches import FoldPart, evaluation_batches
from emodarts.metrics import uar, war


@dataclass(frozen=True)
class DevFigures:
    """Loss (mean cross-entropy), UAR and WAR on the dev part."""

    loss: float
    uar: float
    war: float


@torch.inference_mode()
def predict(network: nn.Module, part: FoldPart, batch_size: int, device: str = "cpu") -> NDArray[np.float32]:
    """Class probabilities `(utterances, classes)`, in the order of the part. Raises FloatingPointError for NaN."""
    training = network.training
    network.eval()
    order, rows = [], []
    for batch in evaluation_batches(part, batch_size, device):
        order.append(batch.positions.numpy())
        rows.append(F.softmax(network(batch.inputs, batch.lengths).float(), 1).cpu().numpy())
    network.train(training)
    by_batch = np.concatenate(rows)
    probabilities = np.empty_like(by_batch)
    probabilities[np.concatenate(order)] = by_batch
    if not np.isfinite(probabilities).all():
        raise FloatingPointError("the network predicts NaN: the training diverged; lower the learning rate")
    return probabilities


def figures_of(probabilities: NDArray[np.float32], dev: FoldPart) -> DevFigures:
    """Loss, UAR and WAR of probabilities `(utterances, classes)` of the dev part."""
    labels, predicted = dev.labels, probabilities.argmax(1)
    loss = float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())
    return DevFigures(loss, uar(labels, predicted, probabilities.shape[1]), war(labels, predicted))


def dev_figures(network: nn.Module, dev: FoldPart, batch_size: int, device: str = "cpu") -> DevFigures:
    """Loss, UAR and WAR of the network on the dev part."""
    return figures_of(predict(network, dev, batch_size, device), dev)
