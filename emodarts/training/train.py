"""Training of a network from scratch; the epoch is chosen by dev UAR in the last quarter (`late_dev`)."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.checkpoints import (
    NO_CHECKPOINTS,
    Checkpoint,
    Checkpoints,
    load_module,
    load_optimiser,
    module_tensors,
    optimiser_tensors,
    random_state,
    restore_random,
    under,
)
from emodarts.features.batches import Batch, FoldPart, class_weights, training_batches
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.networks.network import DiscreteNetwork
from emodarts.records import EpochRecord
from emodarts.seeds import derive_seed
from emodarts.training.acceleration import training_forward
from emodarts.training.prediction import dev_figures, is_late
from emodarts.training.settings import TrainingSettings

Progress = Callable[[EpochRecord], None]
_LEAST_STEPS = 8  # a quarter of fewer would be no warm-up (of 4, a division by zero)


@dataclass(frozen=True)
class TrainedNetwork:
    """The network at the chosen epoch (from 0), and the course of all epochs."""

    network: DiscreteNetwork
    epoch: int
    epochs: tuple[EpochRecord, ...]
    seconds: float


def train(
    build: Callable[[], DiscreteNetwork],
    part: FoldPart,
    dev: FoldPart,
    settings: TrainingSettings,
    features: FeatureSettings,
    batches: BatchSettings,
    seed: int,
    device: str = "cpu",
    progress: Progress = lambda record: None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> TrainedNetwork:
    """Train what `build` makes on `part`, look at `dev` after each epoch; go on where `checkpoints` hold a start of it.

    The network is a module with `shape`, `drop_path` and `forward(inputs, lengths) -> logits`; it is built after torch
    has been seeded. `progress` hears of each epoch, of those before a stop again. Raises FloatingPointError or
    RuntimeError where the loss is not finite.
    """
    torch.manual_seed(derive_seed(seed, "training"))
    rng = np.random.default_rng(derive_seed(seed, "training batches"))
    network = build().to(device)
    course = TrainingState(network, part, settings, rng, device)
    course.resume(checkpoints.load())
    for record in course.records:
        progress(record)
    crop = crop_frames(settings, features)
    for epoch in range(len(course.records), settings.epochs):
        start = time.perf_counter()
        drawn = training_batches(part, settings.batch_size, crop, rng, device, batches)
        loss = course.epoch(epoch, drawn)
        figures = dev_figures(network, dev, settings.batch_size, device)
        if is_late(epoch, settings.epochs):
            course.offer(epoch, (figures.uar, -figures.loss))
        record = EpochRecord(
            phase="train",
            epoch=epoch,
            train_loss=loss,
            dev_loss=figures.loss,
            dev_uar=figures.uar,
            dev_war=figures.war,
            seconds=time.perf_counter() - start,
        )
        course.records.append(record)
        if checkpoints.due(epoch + 1):
            checkpoints.save(course.checkpoint())
        progress(record)
    network.load_state_dict(course.best_weights)
    seconds = sum(record.seconds for record in course.records)
    return TrainedNetwork(network.eval(), course.best_epoch, tuple(course.records), seconds)


def refit(
    build: Callable[[], DiscreteNetwork],
    part: FoldPart,
    settings: TrainingSettings,
    features: FeatureSettings,
    batches: BatchSettings,
    seed: int,
    epochs: int,
    device: str = "cpu",
    progress: Callable[[int, float], None] = lambda epoch, loss: None,
) -> DiscreteNetwork:
    """Train as `train` does, but on a part that leaves nothing to choose an epoch by: the first `epochs` of its course.

    The schedule is that of `settings.epochs`, so that the learning rate ends where it stood when an earlier training
    chose this epoch. `progress` hears of each epoch and its mean loss. Raises as `train`.
    """
    torch.manual_seed(derive_seed(seed, "training"))
    rng = np.random.default_rng(derive_seed(seed, "training batches"))
    network = build().to(device)
    course, crop = TrainingState(network, part, settings, rng, device), crop_frames(settings, features)
    for epoch in range(epochs):
        drawn = training_batches(part, settings.batch_size, crop, rng, device, batches)
        progress(epoch, course.epoch(epoch, drawn))
    return network.eval()


def crop_frames(settings: TrainingSettings, features: FeatureSettings) -> int:
    """The longest piece of an utterance that a training batch takes, in frames."""
    return max(1, round(settings.crop_seconds * features.frames_per_second))


class TrainingState:
    """All that changes while a network is trained: weights, optimiser, schedule, chance, records, the best so far."""

    def __init__(
        self,
        network: DiscreteNetwork,
        part: FoldPart,
        settings: TrainingSettings,
        rng: np.random.Generator,
        device: str,
    ):
        self.network, self.settings, self.rng, self.device = network, settings, rng, device
        self.forward = training_forward(network, device, settings.precision, settings.compile)
        self.class_weights = class_weights(part, network.shape.classes).to(device)
        steps = settings.epochs * -(-len(part.utterances) // settings.batch_size)
        self.optimiser = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, settings.learning_rate, total_steps=max(_LEAST_STEPS, steps), pct_start=0.25
        )
        self.records: list[EpochRecord] = []
        self.best: tuple[float, float] = (-1.0, 0.0)  # dev UAR, and the loss with its sign turned
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}

    def epoch(self, epoch: int, drawn: Iterable[Batch]) -> float:
        """One step for each batch; the mean of the losses."""
        self.network.train()
        self.network.drop_path = self.settings.drop_path * epoch / self.settings.epochs
        return float(np.mean([self.step(batch.inputs, batch.lengths, batch.labels) for batch in drawn]))

    def step(self, inputs: Tensor, lengths: Tensor, labels: Tensor) -> float:
        """One step of the weights; the loss before it."""
        logits = self.forward(inputs, lengths)
        loss = F.cross_entropy(logits, labels, self.class_weights, label_smoothing=self.settings.label_smoothing)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip, error_if_nonfinite=True)
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach())

    def offer(self, epoch: int, figures: tuple[float, float]) -> None:
        """Keep the present weights if their dev figures are the best so far."""
        if figures > self.best:
            self.best, self.best_epoch = figures, epoch
            self.best_weights = {name: value.clone() for name, value in self.network.state_dict().items()}

    def checkpoint(self) -> Checkpoint:
        """Everything, to go on after the last record as if nothing had happened."""
        chance, chance_state = random_state(self.rng, self.device)
        moments, rates = optimiser_tensors(self.optimiser, "optimiser")
        best = {f"best.{name}": value for name, value in self.best_weights.items()}
        state: dict[str, Any] = {
            **chance_state,
            **rates,
            "schedule": self.schedule.state_dict(),
            "records": [asdict(record) for record in self.records],
            "best": self.best,
            "best_epoch": self.best_epoch,
        }
        return Checkpoint({**module_tensors(self.network, "network"), **best, **moments, **chance}, state)

    def resume(self, checkpoint: Checkpoint | None) -> None:
        """Go back to where a checkpoint was made; None: this is the start."""
        if checkpoint is None:
            return
        state = checkpoint.state
        load_module(self.network, checkpoint, "network")
        load_optimiser(self.optimiser, checkpoint, "optimiser")
        self.schedule.load_state_dict(state["schedule"])
        restore_random(checkpoint, self.rng, self.device)
        self.records = [EpochRecord(**record) for record in state["records"]]
        self.best = (state["best"][0], state["best"][1])
        self.best_epoch, self.best_weights = state["best_epoch"], under(checkpoint.tensors, "best")
