"""Figures of a supernet that are measured without training it: its loss, and those of a genotype's network in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emodarts.features.batches import Batch, FoldPart, evaluation_batches
from emodarts.metrics import uar
from emodarts.networks.genotype import Genotype
from emodarts.networks.operations import frozen_statistics
from emodarts.networks.supernet import Supernet
from emodarts.search.task import SearchTask
from emodarts.seeds import derive_seed
from emodarts.training.losses import BalancedLoss
from emodarts.training.prediction import DevFigures, figures_of, predict
from emodarts.training.train import take_batch_statistics

_CALIBRATION_SIZE = 128  # utterances


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


def mean_loss(supernet: Supernet, batches: Sequence[Batch], loss: BalancedLoss) -> Tensor:
    """The mean cross-entropy over batches, by batch statistics."""
    with batch_statistics(supernet):
        losses = [loss(supernet(batch.inputs, batch.lengths), batch) for batch in batches]
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


@dataclass(frozen=True)
class InheritedWeights:
    """A supernet in the place of trained networks: each genotype's has the weights that it inherits.

    The running statistics of its batch norms are taken again for each, on `calibration`, a part of train: those of
    training are of other mixtures (Guo et al. 2020, sec. 3.4).
    """

    supernet: Supernet
    calibration: FoldPart
    dev: FoldPart
    batch_size: int
    device: str

    @classmethod
    def of(cls, supernet: Supernet, task: SearchTask) -> "InheritedWeights":
        """The supernet of a task that has a dev part."""
        assert task.dev is not None
        part = task.train_part
        rng = np.random.default_rng(derive_seed(task.seed, "calibration"))
        rows = np.sort(rng.permutation(len(part.utterances))[:_CALIBRATION_SIZE])
        ids = tuple(part.utterances[row] for row in rows.tolist())
        calibration = replace(part, utterances=ids, labels=part.labels[rows], rows=part.rows[rows])
        return cls(supernet, calibration, task.dev, task.settings.batch_size, task.device)

    def probabilities(self, genotype: Genotype) -> NDArray[np.float32]:
        """Class probabilities `(utterances, classes)` of dev."""
        with self.supernet.override_weights(self.supernet.discrete_weights(genotype)):
            take_batch_statistics(self.supernet, self.calibration, self.batch_size, self.device)
            return predict(self.supernet, self.dev, self.batch_size, self.device)

    def figures(self, genotype: Genotype) -> DevFigures:
        """Its loss, UAR and WAR on dev."""
        return figures_of(self.probabilities(genotype), self.dev)
