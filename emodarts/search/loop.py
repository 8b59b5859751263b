"""The search of one fold: weights on one half of the train part, alphas on the other, epoch by dev."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.corpora.protocols import Fold
from emodarts.features.batches import Batch, Part, class_weights, training_batches
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.networks.genotype import Genotype
from emodarts.networks.network import NetworkShape
from emodarts.networks.operations import CNN_OPERATIONS, frozen_statistics
from emodarts.networks.sequence import operations_of
from emodarts.networks.supernet import Supernet
from emodarts.results.records import EpochRecord
from emodarts.search.bilevel import first_order_step, second_order_step
from emodarts.search.settings import SearchSettings
from emodarts.seeds import derive_seed
from emodarts.training.prediction import dev_figures, is_late, predict

Progress = Callable[[EpochRecord], None]


@dataclass(frozen=True)
class Searched:
    """What a search found: the genotype, the epoch it was derived at, the supernet's dev probabilities there."""

    genotype: Genotype
    epoch: int
    epochs: tuple[EpochRecord, ...]
    dev_probabilities: np.ndarray
    shape: NetworkShape
    seconds: float


def split_train_part(fold: Fold, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The weight half and the alpha half of a fold's train part (ids).

    By whole groups (speakers) where there are at least four and both halves hold every class, else stratified by class.
    """
    rng = np.random.default_rng(derive_seed(seed, "halves"))
    sizes = Counter(fold.groups[u] for u in fold.train)
    halves: tuple[list[str], list[str]] = ([], [])
    if len(sizes) >= 4:
        counts = [0, 0]
        shuffled = rng.permutation(sorted(sizes)).tolist()
        side = {}
        for group in sorted(shuffled, key=lambda g: -sizes[g]):
            side[group] = int(counts[1] < counts[0])
            counts[side[group]] += sizes[group]
        for utterance in fold.train:
            halves[side[fold.groups[utterance]]].append(utterance)
    every = {fold.labels[u] for u in fold.train}
    if any({fold.labels[u] for u in half} != every for half in halves):
        halves = ([], [])
        for name in sorted(every):
            members = [u for u in fold.train if fold.labels[u] == name]
            for position, number in enumerate(rng.permutation(len(members))):
                halves[position % 2].append(members[number])
    return tuple(sorted(halves[0])), tuple(sorted(halves[1]))


def search(
    weight_part: Part,
    alpha_part: Part,
    dev: Part,
    classes: int,
    settings: SearchSettings,
    features: FeatureSettings,
    batches: BatchSettings,
    seed: int,
    device: str = "cpu",
    progress: Progress = lambda record: None,
) -> Searched:
    """Search an architecture. Raises FloatingPointError where a loss is not finite.

    `features` says how many frames a second has and whether the network weighs the layers of an encoder.
    """
    torch.manual_seed(derive_seed(seed, "search"))
    rng = np.random.default_rng(derive_seed(seed, "search batches"))
    shape = supernet_shape(settings, weight_part, classes, features.learned_layers)
    operations = operations_of(settings.seqnn, tuple(settings.sequence_operations))
    supernet = Supernet(shape, tuple(CNN_OPERATIONS), operations).to(device)
    engine = _Engine(supernet, weight_part, alpha_part, classes, settings, device)
    crop = max(1, round(settings.crop_seconds * features.frames_per_second))
    records: list[EpochRecord] = []
    best: tuple[float, float] = (-1.0, 0.0)
    begin = time.perf_counter()
    for epoch in range(settings.epochs):
        start = time.perf_counter()
        supernet.train()
        alpha_batches = _endless(alpha_part, settings.batch_size, crop, rng, device, batches)
        losses = [
            engine.step(batch, next(alpha_batches))
            for batch in training_batches(weight_part, settings.batch_size, crop, rng, device, batches)
        ]
        engine.schedule.step()
        figures = dev_figures(supernet, dev, settings.batch_size, device)
        if is_late(epoch, settings.epochs) and (figures.uar, -figures.loss) > best:
            best = (figures.uar, -figures.loss)
            chosen, genotype = epoch, supernet.derive()
            probabilities = predict(supernet, dev, settings.batch_size, device)
        alphas = supernet.alpha_figures()
        record = EpochRecord(
            phase="search",
            epoch=epoch,
            train_loss=float(np.mean([w for w, _ in losses])),
            alpha_loss=float(np.mean([a for _, a in losses])),
            dev_loss=figures.loss,
            dev_uar=figures.uar,
            dev_war=figures.war,
            entropy=alphas["entropy"],
            margin=alphas["margin"],
            skips=int(alphas["skips"]),
            seconds=time.perf_counter() - start,
        )
        records.append(record)
        progress(record)
    return Searched(genotype, chosen, tuple(records), probabilities, shape, time.perf_counter() - begin)


def supernet_shape(settings: SearchSettings, part: Part, classes: int, layer_weighting: bool = False) -> NetworkShape:
    """The supernet's sizes for the features of a part; `layer_weighting`: its channels are an encoder's layers."""
    return NetworkShape(
        classes=classes,
        input_channels=part.store.channels,
        bins=part.store.bins,
        cells=settings.cells,
        nodes=settings.nodes,
        channels=settings.channels,
        sequence_cells=settings.sequence_cells,
        sequence_nodes=settings.sequence_nodes,
        sequence_width=settings.sequence_width,
        stem_channels=settings.stem_channels,
        stem_strides=(settings.stem_strides[0], settings.stem_strides[1]),
        dropout=settings.dropout,
        layer_weighting=layer_weighting,
    )


class _Engine:
    """The two optimisers and one bilevel step: alphas first, then weights."""

    def __init__(
        self, supernet: Supernet, weight_part: Part, alpha_part: Part, classes: int, s: SearchSettings, device: str
    ):
        self.supernet, self.settings = supernet, s
        self.weights, self.alphas = supernet.weight_parameters(), supernet.architecture_parameters()
        if s.optimiser == "sgd":
            self.weight_optimiser: torch.optim.Optimizer = torch.optim.SGD(
                self.weights, s.learning_rate, s.momentum, weight_decay=s.weight_decay
            )
        else:
            self.weight_optimiser = torch.optim.AdamW(self.weights, s.learning_rate, weight_decay=s.weight_decay)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.weight_optimiser, s.epochs, s.final_learning_rate
        )
        self.alpha_optimiser = torch.optim.Adam(
            self.alphas, s.alpha_learning_rate, betas=(0.5, 0.999), weight_decay=s.alpha_weight_decay
        )
        self.class_weights = [class_weights(part, classes).to(device) for part in (weight_part, alpha_part)]

    def step(self, weight_batch: Batch, alpha_batch: Batch) -> tuple[float, float]:
        """One step of the alphas and one of the weights; their losses."""
        alpha_loss = self._alpha_step(weight_batch, alpha_batch)
        loss = self._loss(weight_batch, 0)
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True)
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(self.weights, self.settings.gradient_clip, error_if_nonfinite=True)
        self.weight_optimiser.step()
        return float(loss.detach()), float(alpha_loss)

    def _alpha_step(self, weight_batch: Batch, alpha_batch: Batch) -> Tensor:
        with frozen_statistics(self.supernet):
            if self.settings.unrolled:
                gradients, loss = self._unrolled(weight_batch, alpha_batch)
            else:
                gradients, loss = first_order_step(self.alphas, lambda: self._loss(alpha_batch, 1))
        for alpha, gradient in zip(self.alphas, gradients, strict=True):
            alpha.grad = gradient
        nn.utils.clip_grad_norm_(self.alphas, self.settings.gradient_clip, error_if_nonfinite=True)
        self.alpha_optimiser.step()
        return loss

    def _unrolled(self, weight_batch: Batch, alpha_batch: Batch) -> tuple[list[Tensor], Tensor]:
        noise = torch.get_rng_state()

        def weight_loss() -> Tensor:
            # The same dropout each time: else the finite difference would measure the noise, divided by a tiny eps.
            torch.set_rng_state(noise)
            return self._loss(weight_batch, 0)

        gradients = torch.autograd.grad(weight_loss(), self.weights, allow_unused=True)
        decay, momentum = self.settings.weight_decay, self.settings.momentum
        directions = []
        for weight, gradient in zip(self.weights, gradients, strict=True):
            direction = decay * weight.detach() + (0 if gradient is None else gradient)
            buffer = (
                self.weight_optimiser.state[weight].get("momentum_buffer")
                if weight in self.weight_optimiser.state
                else None
            )
            directions.append(direction if buffer is None else direction + momentum * buffer)
        rate = self.weight_optimiser.param_groups[0]["lr"]
        return second_order_step(
            self.weights, self.alphas, weight_loss, lambda: self._loss(alpha_batch, 1), directions, rate
        )

    def _loss(self, batch: Batch, half: int) -> Tensor:
        return F.cross_entropy(self.supernet(batch.inputs, batch.lengths), batch.labels, self.class_weights[half])


def _endless(
    part: Part, size: int, crop: int, rng: np.random.Generator, device: str, batches: BatchSettings
) -> Iterator[Batch]:
    while True:
        yield from training_batches(part, size, crop, rng, device, batches)
