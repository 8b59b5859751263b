"""The task and the result of a search, whatever its method."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from emodarts.checkpoints import Checkpoint
from emodarts.features.batches import FoldPart
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.networks.genotype import Genotype
from emodarts.networks.network import NetworkShape
from emodarts.networks.sizes import layer_at, time_stride
from emodarts.records import EpochRecord
from emodarts.search.settings import SearchSettings
from emodarts.training.train import crop_frames

FRAMES_RATE = 25.0  # frames a second in cells that read frames, unless `training.sequence_rate` says otherwise


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
    sequence_rate: float | None = None  # frames a second of the sequence part (`training.sequence_rate`)
    layer: float | None = None  # `training.layer`

    @property
    def crop(self) -> int:
        """The longest piece of an utterance in a training batch, in frames."""
        return crop_frames(self.settings.crop_seconds, self.features)

    @property
    def shape(self) -> NetworkShape:
        """The supernet's sizes for these features."""
        s, store, frame_layers = self.settings, self.weight_part.store, None
        stride, rate = s.stem_strides[1], self.sequence_rate
        if s.chosen_space.reads_frames:
            frame_layers, rate = store.channels if self.features.is_encoder else 1, rate or FRAMES_RATE
        if rate is not None:
            stride = time_stride(self.features.frame_rate, rate)
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
            stem_strides=(s.stem_strides[0], stride),
            reductions=self.sequence_rate is None,
            dropout=s.dropout,
            layer_weighting=self.features.learned_layers,
            frequency_pooling=s.frequency_pooling,
            sequence_shortcut=s.sequence_shortcut,
            frame_layers=frame_layers,
            layer=layer_at(self.layer, store.channels),
            over_time=self.features.is_encoder or self.features.kind == "egemaps",  # bins without an order
        )


@dataclass(frozen=True)
class SearchResult:
    """What a search found: the genotype, the epoch it was derived at, and the supernet's dev probabilities there.

    A method without a supernet has no such probabilities, nor has a fold without dev part; the epochs of the former
    are its candidates. `proposals`: what is to be trained before one of them is taken, the best by the supernet first.
    """

    genotype: Genotype
    epoch: int
    epochs: tuple[EpochRecord, ...]
    dev_probabilities: NDArray[np.float32] | None
    shape: NetworkShape
    seconds: float
    proposals: tuple[Genotype, ...] = ()

    def to_checkpoint(self) -> Checkpoint:
        """All of it, to be kept until the unit is done."""
        probabilities = self.dev_probabilities
        return Checkpoint(
            {} if probabilities is None else {"dev_probabilities": torch.from_numpy(probabilities)},
            {
                "genotype": self.genotype.to_json(),
                "epoch": self.epoch,
                "records": [asdict(record) for record in self.epochs],
                "shape": asdict(self.shape),
                "seconds": self.seconds,
                "proposals": [genotype.to_json() for genotype in self.proposals],
            },
        )

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "SearchResult":
        """The reverse of `to_checkpoint`."""
        state, probabilities = checkpoint.state, checkpoint.tensors.get("dev_probabilities")
        shape = {**state["shape"], "stem_strides": tuple(state["shape"]["stem_strides"])}
        return cls(
            genotype=Genotype.from_json(state["genotype"]),
            epoch=state["epoch"],
            epochs=tuple(EpochRecord(**record) for record in state["records"]),
            dev_probabilities=None if probabilities is None else probabilities.numpy(),
            shape=NetworkShape(**shape),
            seconds=state["seconds"],
            proposals=tuple(map(Genotype.from_json, state["proposals"])),
        )


@dataclass(frozen=True)
class CandidateResult:
    """The figures of a genotype's network after a training on the whole train part."""

    dev_uar: float
    dev_loss: float


Evaluate = Callable[[Genotype, int, int], CandidateResult]  # (genotype, epochs, seed) -> figures on dev
