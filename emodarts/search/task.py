"""The task and the result of a search, whatever its method."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emodarts.features.batches import FoldPart
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.networks.genotype import Genotype
from emodarts.networks.network import NetworkShape
from emodarts.records import EpochRecord
from emodarts.search.settings import SearchSettings
from emodarts.training.train import crop_frames


@dataclass(frozen=True)
class SearchTask:
    """A fold as a search sees it; nothing of test.

    `weight_part` and `alpha_part` are what the weights and the alphas learn from: by `search.optimisation` the halves
    of `train_part`, or all of it. `dev` is None where the fold has none. `features` says how many frames a second has
    and whether the network weighs the layers of an encoder.
    """

    weight_part: FoldPart
    alpha_part: FoldPart
    train_part: FoldPart
    dev: FoldPart | None
    classes: int
    settings: SearchSettings
    features: FeatureSettings
    batches: BatchSettings
    seed: int
    device: str = "cpu"

    @property
    def crop(self) -> int:
        """The longest piece of an utterance in a training batch, in frames."""
        return crop_frames(self.settings.crop_seconds, self.features)

    @property
    def shape(self) -> NetworkShape:
        """The supernet's sizes for these features."""
        s, store = self.settings, self.weight_part.store
        return NetworkShape(
            classes=self.classes,
            input_channels=store.channels,
            bins=store.bins,
            cells=s.cells,
            nodes=s.nodes,
            channels=s.channels,
            sequence_cells=s.sequence_cells,
            sequence_nodes=s.sequence_nodes,
            sequence_width=s.sequence_width,
            stem_channels=s.stem_channels,
            stem_strides=(s.stem_strides[0], s.stem_strides[1]),
            dropout=s.dropout,
            layer_weighting=self.features.learned_layers,
            frequency_pooling=s.frequency_pooling,
            sequence_shortcut=s.sequence_shortcut,
            over_time=self.features.is_encoder or self.features.kind == "egemaps",  # bins without an order
        )


@dataclass(frozen=True)
class SearchResult:
    """What a search found: the genotype, the epoch it was derived at, and the supernet's dev probabilities there.

    A method without a supernet has no such probabilities, nor has a fold without dev part; the epochs of the former
    are its candidates.
    """

    genotype: Genotype
    epoch: int
    epochs: tuple[EpochRecord, ...]
    dev_probabilities: NDArray[np.float32] | None
    shape: NetworkShape
    seconds: float


@dataclass(frozen=True)
class CandidateResult:
    """The figures of a genotype's network after a training on the whole train part."""

    dev_uar: float
    dev_loss: float


Evaluate = Callable[[Genotype, int, int], CandidateResult]  # (genotype, epochs, seed) -> figures on dev
