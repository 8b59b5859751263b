"""Training of a network from scratch; the epoch is chosen on dev by the rule `late_dev`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel

from emodarts.checkpoints import (
    NO_CHECKPOINTS,
    Checkpoint,
    Checkpoints,
    load_module,
    load_optimiser,
    module_checkpoint,
    optimiser_checkpoint,
    random_checkpoint,
    restore_random,
    tensors_below,
)
from emodarts.features.batches import Batch, FoldPart, evaluation_batches, training_batches
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.networks.network import DiscreteNetwork
from emodarts.networks.operations import RunningStatistics
from emodarts.records import EpochRecord, OnEpochEnd, ignore_epoch, late_dev_epoch, late_epochs
from emodarts.seeds import derive_seed
from emodarts.training.acceleration import training_forward
from emodarts.training.epoch_progress import EpochProgress
from emodarts.training.losses import TrainingLoss, mix_up
from emodarts.training.prediction import DevFigures, dev_figures
from emodarts.training.settings import TrainingSettings

Build = Callable[[], DiscreteNetwork]  # a network with new weights, drawn from torch's generator
_LEAST_STEPS = 8  # a quarter of fewer would be no warm-up (of 4, a division by zero)


@dataclass(frozen=True)
class TrainingTask:
    """What a network is trained on, and how. `features` says how many frames a second has."""

    part: FoldPart
    settings: TrainingSettings
    features: FeatureSettings
    batches: BatchSettings
    seed: int
    device: str = "cpu"


@dataclass(frozen=True)
class TrainedNetwork:
    """The network at the chosen epoch (from 0), and the records of all epochs."""

    network: DiscreteNetwork
    epoch: int
    epochs: tuple[EpochRecord, ...]
    seconds: float


def train(
    build: Build,
    task: TrainingTask,
    dev: FoldPart,
    on_epoch_end: OnEpochEnd = ignore_epoch,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> TrainedNetwork:
    """Train what `build` makes; `dev`, evaluated after each epoch, chooses the epoch whose weights are taken.

    The network is a module with `shape`, `drop_path` and `forward(inputs, lengths) -> logits`; it is built after torch
    has been seeded. Where `checkpoints` hold one, the training goes on from there; `on_epoch_end` then gets the earlier
    epochs, too. Raises FloatingPointError or RuntimeError where the loss is not finite.
    """
    state = TrainingState(build, task, dev)
    state.resume(checkpoints.load())
    state.run(task.settings.epochs, on_epoch_end, checkpoints)
    epoch = state.chosen_epoch()
    assert epoch is not None  # the last one is late
    state.network.load_state_dict(state.best_weights)
    return state.trained_network(epoch)


def refit(build: Build, task: TrainingTask, epochs: int, on_epoch_end: OnEpochEnd = ignore_epoch) -> DiscreteNetwork:
    """Train as `train` does, but on a part that leaves nothing to choose an epoch by: the first `epochs` of its course.

    The schedule is that of `settings.epochs`, so that the learning rate ends where it stood when an earlier training
    chose this epoch. Raises as `train`.
    """
    state = TrainingState(build, task)
    state.run(epochs, on_epoch_end)
    return state.network.eval()


def crop_frames(crop_seconds: float, features: FeatureSettings) -> int:
    """The longest piece of an utterance that a training batch takes, in frames."""
    return max(1, round(crop_seconds * features.frame_rate))


class TrainingState:
    """All that changes while a network is trained: weights, optimiser, schedule, random generators, records, and the
    best weights so far. Without `dev` no weights are better than others.
    """

    def __init__(self, build: Build, task: TrainingTask, dev: FoldPart | None = None):
        s, part = task.settings, task.part
        torch.manual_seed(derive_seed(task.seed, "training"))
        self.rng = np.random.default_rng(derive_seed(task.seed, "training batches"))
        self.network = build().to(task.device)
        self.task, self.settings, self.dev = task, s, dev
        self.forward = training_forward(self.network, task.device, s.precision, s.compile)
        self.loss = TrainingLoss(s, part, self.network.shape.classes, task.device, task.batches)
        steps = s.epochs * -(-len(part.utterances) // s.batch_size)
        self.weights = list(self.network.parameters())
        self.optimiser = _optimiser(self.weights, s)
        self.schedule = _schedule(self.optimiser, s, steps)
        self.averaged = AveragedModel(self.network) if s.averaging == "late" else None
        self.records: list[EpochRecord] = []
        self.best_weights: dict[str, Tensor] = {}
        self.progress = EpochProgress()  # of the present epoch

    def run(self, epochs: int, on_epoch_end: OnEpochEnd, checkpoints: Checkpoints = NO_CHECKPOINTS) -> None:
        """Train up to `epochs` epochs in all, with a record and a checkpoint after each.

        Raises StopRequested after the present batch where `checkpoints` say so.
        """
        for record in self.records:
            on_epoch_end(record)
        for epoch in range(len(self.records), epochs):
            start = self.progress.begin()
            loss = self.train_epoch(epoch, partial(checkpoints.stop_within, self.checkpoint))
            self.average_weights(epoch)
            figures = self.evaluate()
            record = EpochRecord(
                phase="train",
                epoch=epoch,
                train_loss=loss,
                dev_loss=figures.loss if figures else None,
                dev_uar=figures.uar if figures else None,
                dev_war=figures.war if figures else None,
                seconds=time.perf_counter() - start,
            )
            self.records.append(record)
            self.update_best()
            with checkpoints.saving(self.checkpoint, ends=epoch + 1 == epochs):
                on_epoch_end(record)

    def train_epoch(self, epoch: int, on_step: Callable[[], None] = lambda: None) -> float:
        """One step for each batch, or for what is left of them, with `on_step` after each; the mean of the losses."""
        s, task = self.settings, self.task
        self.network.train()
        self.network.drop_path = s.drop_path * epoch / s.epochs
        crop = crop_frames(s.crop_seconds, task.features)
        progress, about = self.progress, (task.part, s.batch_size, crop, self.rng, task.device, task.batches)
        for batch in training_batches(*about, progress.position("train")):
            progress.losses.append((self.step(batch), None))
            on_step()
        self.progress = EpochProgress()
        return float(np.mean([loss for loss, _ in progress.losses]))

    def step(self, batch: Batch) -> float:
        """One step of the weights; the loss before it."""
        loss = self.loss_of(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, self.settings.gradient_clip, error_if_nonfinite=True)
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach())

    def loss_of(self, batch: Batch) -> Tensor:
        """The loss of a batch, mixed in pairs where `training.mixup` says so."""
        alpha, labels, positions = self.settings.mixup, batch.labels, batch.positions
        if not alpha:
            return self.loss(self.forward(batch.inputs, batch.lengths), labels, positions)
        step = self.schedule.last_epoch  # steps so far, which a checkpoint has
        mixed, lengths, others, first = mix_up(batch.inputs, batch.lengths, alpha, self.task.seed, step)
        logits = self.forward(mixed, lengths)
        second = self.loss(logits, labels[others], positions[others.cpu()])
        return first * self.loss(logits, labels, positions) + (1 - first) * second

    def average_weights(self, epoch: int) -> None:
        """Take the weights of a late epoch into their mean (Izmailov et al. 2018); after the last the network has it.

        The batch statistics of the single epochs are not those of the mean: they are taken again.
        """
        if self.averaged is None or epoch not in late_epochs(self.settings.epochs):
            return
        self.averaged.update_parameters(self.network)
        if epoch + 1 == self.settings.epochs:
            self.network.load_state_dict(self.averaged.module.state_dict())
            take_batch_statistics(self.network, self.task.part, self.settings.batch_size, self.task.device)

    def evaluate(self) -> DevFigures | None:
        """The figures of the present weights on dev; None without a dev part."""
        if self.dev is None:
            return None
        return dev_figures(self.network, self.dev, self.settings.batch_size, self.task.device)

    def update_best(self) -> None:
        """Copy the present weights if the last epoch is the one to take so far."""
        if self.dev is not None and self.chosen_epoch() == self.records[-1].epoch:
            self.best_weights = {name: value.clone() for name, value in self.network.state_dict().items()}

    def chosen_epoch(self) -> int | None:
        """The epoch so far whose weights are taken: by the rule `late_dev`, or the last, which has the mean of the late
        ones. None before the last quarter.
        """
        last = self.settings.epochs - 1
        if self.averaged is not None:
            return last if len(self.records) > last else None
        return late_dev_epoch(self.records, self.settings.epochs)

    def checkpoint(self) -> Checkpoint:
        """Everything, to go on as if nothing had happened: after the last record, or within the next epoch."""
        best = {f"best.{name}": value for name, value in self.best_weights.items()}
        records = [asdict(record) for record in self.records]
        averaged = Checkpoint({}, {}) if self.averaged is None else module_checkpoint(self.averaged, "averaged")
        return (
            module_checkpoint(self.network, "network")
            | averaged
            | optimiser_checkpoint(self.optimiser, "optimiser")
            | random_checkpoint(self.rng, self.task.device)
            | self.progress.to_checkpoint()
            | Checkpoint(best, {"schedule": self.schedule.state_dict(), "records": records})
        )

    def resume(self, checkpoint: Checkpoint | None) -> None:
        """Go back to where a checkpoint was made; None: this is the start."""
        if checkpoint is None:
            return
        load_module(self.network, checkpoint, "network")
        if self.averaged is not None:
            load_module(self.averaged, checkpoint, "averaged")
        load_optimiser(self.optimiser, checkpoint, "optimiser")
        self.schedule.load_state_dict(checkpoint.state["schedule"])
        restore_random(checkpoint, self.rng, self.task.device)
        self.progress = EpochProgress.from_checkpoint(checkpoint)
        self.records = [EpochRecord(**record) for record in checkpoint.state["records"]]
        self.best_weights = tensors_below(checkpoint.tensors, "best")

    def trained_network(self, epoch: int) -> TrainedNetwork:
        """The outcome, where the network has the weights of `epoch`."""
        seconds = sum(record.seconds for record in self.records)
        return TrainedNetwork(self.network.eval(), epoch, tuple(self.records), seconds)


def take_batch_statistics(network: nn.Module, part: FoldPart, batch_size: int, device: str) -> None:
    """Take the batch norms' running statistics again: plain means over the batches of one pass of a part.

    Utterances are whole, as recorded, shortest first, and nothing is dropped: no chance comes into it.
    """
    norms = [module for module in network.modules() if isinstance(module, RunningStatistics)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.train()
        norm.updates.zero_()
        norm.momentum = 0.0  # every batch counts alike
    with torch.no_grad():
        for batch in evaluation_batches(part, batch_size, device):
            network(batch.inputs, batch.lengths)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def _optimiser(weights: Sequence[nn.Parameter], s: TrainingSettings) -> torch.optim.Optimizer:
    if s.optimiser == "sgd":
        return torch.optim.SGD(weights, s.learning_rate, s.momentum, weight_decay=s.weight_decay, fused=True)
    return torch.optim.AdamW(weights, s.learning_rate, weight_decay=s.weight_decay, fused=True)


def _schedule(optimiser: torch.optim.Optimizer, s: TrainingSettings, steps: int) -> LRScheduler:
    """The learning rate of each of so many steps: one cycle, or a cosine from the first to the final one."""
    if s.schedule == "cosine":
        return CosineAnnealingLR(optimiser, steps, s.final_learning_rate)
    cycles_momentum = s.optimiser == "adamw"
    return OneCycleLR(
        optimiser, s.learning_rate, total_steps=max(_LEAST_STEPS, steps), pct_start=0.25, cycle_momentum=cycles_momentum
    )
