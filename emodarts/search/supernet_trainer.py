"""Training of a supernet: the steps of its weights and of its alphas, on the two halves of train or on all of it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from emodarts.checkpoints import Checkpoint, load_module, load_optimiser, module_checkpoint, optimiser_checkpoint
from emodarts.features.batches import Batch, EpochPosition, FoldPart, training_batches
from emodarts.networks.operations import frozen_statistics
from emodarts.networks.supernet import Supernet
from emodarts.search.bilevel import first_order_step, second_order_step, weight_direction
from emodarts.search.regularisers import cost_table, penalty
from emodarts.search.settings import SearchSettings
from emodarts.search.task import SearchTask
from emodarts.training.acceleration import training_forward
from emodarts.training.epoch_progress import EpochProgress, StepLosses
from emodarts.training.losses import BalancedLoss


class SupernetTrainer:
    """Trains a supernet's weights and alphas: its two optimisers, its losses and its steps."""

    def __init__(self, supernet: Supernet, task: SearchTask):
        s = task.settings
        self.supernet, self.task, self.settings, self.epoch = supernet, task, s, 0
        self.forward = training_forward(supernet, task.device, s.precision, s.compile)
        self.weights = supernet.weight_parameters()
        self.weight_optimiser = _weight_optimiser(self.weights, s)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.weight_optimiser, s.epochs, s.final_learning_rate
        )
        self.alpha_optimiser = torch.optim.Adam(
            supernet.alphas.values(), s.alpha_learning_rate, betas=(0.5, 0.999), weight_decay=s.alpha_weight_decay
        )
        self.train_loss, self.val_loss = (
            BalancedLoss(part, task.classes, task.batches, task.device) for part in (task.weight_part, task.alpha_part)
        )
        self.costs = cost_table(supernet, s, task.crop, task.device)
        self.progress = EpochProgress()  # of the present epoch

    def train_epoch(
        self, epoch: int, alphas_move: bool, rng: np.random.Generator, on_step: Callable[[], None] = lambda: None
    ) -> StepLosses:
        """One epoch (from 0) of steps, or what is left of it, with `on_step` after each step.

        Mean losses of weights and alphas (None where the alphas do not move).
        """
        self.epoch, progress = epoch, self.progress
        self.supernet.train()
        for losses in self._steps(alphas_move, rng):
            progress.losses.append(losses)
            on_step()
        self.schedule.step()
        self.progress = EpochProgress()
        alpha_losses = [alpha_loss for _, alpha_loss in progress.losses if alpha_loss is not None]
        mean_weight_loss = float(np.mean([weight_loss for weight_loss, _ in progress.losses]))
        return mean_weight_loss, float(np.mean(alpha_losses)) if alpha_losses else None

    def _steps(self, alphas_move: bool, rng: np.random.Generator) -> Iterator[StepLosses]:
        batches = self._batches(self.task.weight_part, rng, self.progress.position("weights"))
        if not alphas_move:
            yield from ((self.weight_step(batch), None) for batch in batches)
        elif self.settings.optimisation == "single":
            yield from map(self.single_level_step, batches)
        else:
            alpha_batches = self._repeated_batches(self.task.alpha_part, rng, self.progress.position("alphas"))
            yield from map(self.bilevel_step, batches, alpha_batches)

    def bilevel_step(self, weight_batch: Batch, alpha_batch: Batch) -> tuple[float, float]:
        """One step of the alphas, then one of the weights; the losses of the weights and of the alphas."""
        alpha_loss = float(self.alpha_step(weight_batch, alpha_batch))
        return self.weight_step(weight_batch), alpha_loss

    def single_level_step(self, batch: Batch) -> tuple[float, float]:
        """One step of the alphas and one of the weights by one pass (Hou et al. 2021); its loss, for both."""
        alphas = self.supernet.architecture_parameters()
        loss = self._weight_loss(batch)
        gradients = torch.autograd.grad(loss, [*alphas, *self.weights], allow_unused=True)
        self._move_alphas(alphas, gradients[: len(alphas)])
        self._move_weights(gradients[len(alphas) :])
        return float(loss.detach()), float(loss.detach())

    def weight_step(self, batch: Batch) -> float:
        """One step of the weights; the loss."""
        loss = self._weight_loss(batch)
        self._move_weights(torch.autograd.grad(loss, self.weights, allow_unused=True))
        return float(loss.detach())

    def alpha_step(self, weight_batch: Batch, alpha_batch: Batch) -> Tensor:
        """One step of the alphas that are searched; their cross-entropy, without what the regularisers add."""
        alphas = self.supernet.architecture_parameters()
        with frozen_statistics(self.supernet):
            if self.settings.unrolled:
                gradients, loss = self._second_order_gradients(alphas, weight_batch, alpha_batch)
            else:
                gradients, loss = first_order_step(alphas, lambda: self._alpha_loss(alpha_batch), self.weights)
        self._move_alphas(alphas, gradients)
        return loss

    def tune_weights(self, steps: int, rng: np.random.Generator) -> None:
        """So many steps of the weights alone, at the learning rate of the first epoch (as in DARTS-PT)."""
        self.supernet.train()
        for group in self.weight_optimiser.param_groups:
            group["lr"] = self.settings.learning_rate
        for batch in islice(self._repeated_batches(self.task.weight_part, rng, EpochPosition()), steps):
            self.weight_step(batch)

    def _second_order_gradients(
        self, alphas: Sequence[Tensor], weight_batch: Batch, alpha_batch: Batch
    ) -> tuple[list[Tensor], Tensor]:
        dropout_state = _DropoutState(self.task.device)

        def weight_loss() -> Tensor:
            # The same dropout each time: else the finite difference would measure the noise, divided by a tiny eps.
            dropout_state.restore()
            return self._weight_loss(weight_batch)

        s, optimiser_state = self.settings, self.weight_optimiser.state
        buffers = [optimiser_state.get(weight, {}).get("momentum_buffer") for weight in self.weights]
        directions = weight_direction(self.weights, weight_loss, buffers, s.momentum, s.weight_decay)
        xi = self.weight_optimiser.param_groups[0]["lr"]
        return second_order_step(
            self.weights, alphas, weight_loss, lambda: self._alpha_loss(alpha_batch), directions, xi
        )

    def _move_weights(self, gradients: Sequence[Tensor | None]) -> None:
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = None if gradient is None else gradient.contiguous()  # it may be an expanded view
        nn.utils.clip_grad_norm_(self.weights, self.settings.gradient_clip, error_if_nonfinite=True)
        self.weight_optimiser.step()

    def _move_alphas(self, alphas: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> None:
        added_loss = penalty(self.supernet, self.settings, self.epoch, self.costs)
        if added_loss is not None:
            added_gradients = torch.autograd.grad(added_loss, alphas)
            gradients = [g + added for g, added in zip(gradients, added_gradients, strict=True)]
        self.alpha_optimiser.zero_grad(set_to_none=True)  # alphas without a gradient stay as they are
        for alpha, gradient in zip(alphas, gradients, strict=True):
            alpha.grad = gradient
        nn.utils.clip_grad_norm_(alphas, self.settings.gradient_clip, error_if_nonfinite=True)
        self.alpha_optimiser.step()

    def _weight_loss(self, batch: Batch) -> Tensor:
        """L_train: the cross-entropy on a batch of what the weights learn from."""
        return self._loss(batch, self.train_loss)

    def _alpha_loss(self, batch: Batch) -> Tensor:
        """L_val: the cross-entropy on a batch of what the alphas learn from."""
        return self._loss(batch, self.val_loss)

    def _loss(self, batch: Batch, loss: BalancedLoss) -> Tensor:
        return loss(self.forward(batch.inputs, batch.lengths), batch)

    def _batches(self, part: FoldPart, rng: np.random.Generator, position: EpochPosition) -> Iterator[Batch]:
        """The batches of one epoch, from a position on."""
        task = self.task
        return training_batches(part, task.settings.batch_size, task.crop, rng, task.device, task.batches, position)

    def _repeated_batches(self, part: FoldPart, rng: np.random.Generator, position: EpochPosition) -> Iterator[Batch]:
        """The batches of epoch after epoch, without end."""
        while True:
            yield from self._batches(part, rng, position)

    def checkpoint(self) -> Checkpoint:
        """All that changes: weights, statistics, alphas, optimisers, schedule, how far the epoch has come."""
        return (
            module_checkpoint(self.supernet, "supernet")
            | optimiser_checkpoint(self.weight_optimiser, "weight_optimiser")
            | optimiser_checkpoint(self.alpha_optimiser, "alpha_optimiser")
            | self.progress.to_checkpoint()
            | Checkpoint({}, {"schedule": self.schedule.state_dict()})
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go back to what `checkpoint` holds, bit for bit."""
        load_module(self.supernet, checkpoint, "supernet")
        load_optimiser(self.weight_optimiser, checkpoint, "weight_optimiser")
        load_optimiser(self.alpha_optimiser, checkpoint, "alpha_optimiser")
        self.schedule.load_state_dict(checkpoint.state["schedule"])
        self.progress = EpochProgress.from_checkpoint(checkpoint)


def _weight_optimiser(weights: Sequence[nn.Parameter], s: SearchSettings) -> torch.optim.Optimizer:
    if s.optimiser == "sgd":
        return torch.optim.SGD(weights, s.learning_rate, s.momentum, weight_decay=s.weight_decay, fused=True)
    return torch.optim.AdamW(weights, s.learning_rate, weight_decay=s.weight_decay, fused=True)


class _DropoutState:
    """The state of the generators that dropout draws from, on the CPU and on a CUDA device."""

    def __init__(self, device: str):
        self.device = torch.device(device)
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)
