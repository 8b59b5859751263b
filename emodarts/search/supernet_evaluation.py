"""Figures of a supernet that are measured without training it: its loss, and its UAR as the network derived now."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.features.batches import Batch, FoldPart, evaluation_batches
from emodarts.metrics import uar
from emodarts.networks.genotype import Genotype
from emodarts.networks.operations import frozen_statistics
from emodarts.networks.supernet import Supernet


@contextmanager
def batch_statistics(supernet: Supernet) -> Iterator[None]:
    """Within the block batch norms use each batch's own statistics and keep their running ones; nothing is dropped.

    The running statistics belong to the present mixture: under other mixing weights they would normalise values of
    another size.
    """
    training = supernet.training
    dropouts = [m for m in supernet.modules() if isinstance(m, nn.Dropout)]
    skip_dropout = supernet.skip_dropout
    supernet.train()
    supernet.set_skip_dropout(0.0)
    for dropout in dropouts:
        dropout.eval()
    try:
        with frozen_statistics(supernet):
            yield
    finally:
        supernet.train(training)
        supernet.set_skip_dropout(skip_dropout)


def mean_loss(supernet: Supernet, batches: Sequence[Batch], class_weights: Tensor) -> Tensor:
    """The mean cross-entropy over batches, by batch statistics."""
    with batch_statistics(supernet):
        losses = [F.cross_entropy(supernet(b.inputs, b.lengths), b.labels, class_weights) for b in batches]
    return torch.stack(losses).mean()


@torch.no_grad()
def discretised_uar(supernet: Supernet, genotype: Genotype, dev: FoldPart, batch_size: int, device: str) -> float:
    """Dev UAR of the supernet with each edge set to what the genotype kept, by batch statistics.

    The supernet's own dev UAR minus this is the discretisation gap.
    """
    predicted = np.zeros(len(dev.utterances), np.int64)
    with supernet.override_weights(supernet.discrete_weights(genotype)), batch_statistics(supernet):
        for batch in evaluation_batches(dev, batch_size, device):
            predicted[batch.positions.numpy()] = supernet(batch.inputs, batch.lengths).argmax(1).cpu().numpy()
    return uar(dev.labels, predicted, supernet.shape.classes)
