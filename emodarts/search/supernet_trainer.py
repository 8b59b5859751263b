"""The two optimisers of a search, and its step: alphas first, then weights; or both by one pass."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.checkpoints import Checkpoint, load_module, load_optimiser, module_tensors, optimiser_tensors
from emodarts.features.batches import Batch, FoldPart, class_weights, training_batches
from emodarts.networks.operations import frozen_statistics
from emodarts.networks.supernet import Supernet
from emodarts.search.bilevel import first_order_step, second_order_step
from emodarts.search.regularisers import cost_table, penalty
from emodarts.search.task import SearchTask
from emodarts.training.acceleration import training_forward


class SupernetTrainer:
    """Trains a supernet's weights and alphas, on the two halves of a task or on all of its train part."""

    def __init__(self, supernet: Supernet, task: SearchTask):
        s = task.settings
        self.supernet, self.task, self.settings, self.epoch = supernet, task, s, 0
        self.forward = training_forward(supernet, task.device, s.precision, s.compile)
        self.weights = supernet.weight_parameters()
        if s.optimiser == "sgd":
            self.weight_optimiser: torch.optim.Optimizer = torch.optim.SGD(
                self.weights, s.learning_rate, s.momentum, weight_decay=s.weight_decay, fused=True
            )
        else:
            self.weight_optimiser = torch.optim.AdamW(
                self.weights, s.learning_rate, weight_decay=s.weight_decay, fused=True
            )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.weight_optimiser, s.epochs, s.final_learning_rate
        )
        self.alpha_optimiser = torch.optim.Adam(
            supernet.alphas.values(), s.alpha_learning_rate, betas=(0.5, 0.999), weight_decay=s.alpha_weight_decay
        )
        parts = (task.weight_part, task.alpha_part)
        self.class_weights = [class_weights(part, task.classes).to(task.device) for part in parts]
        self.costs = cost_table(supernet, s, task.crop, task.device)

    def train(self, epoch: int, moving: bool, rng: np.random.Generator) -> tuple[float, float | None]:
        """One epoch of steps; mean losses of weights and alphas (None where they do not move)."""
        self.epoch = epoch
        self.supernet.train()
        losses = list(self._steps(moving, rng))
        self.schedule.step()
        alpha_losses = [a for _, a in losses if a is not None]
        return float(np.mean([w for w, _ in losses])), float(np.mean(alpha_losses)) if alpha_losses else None

    def _steps(self, moving: bool, rng: np.random.Generator) -> Iterator[tuple[float, float | None]]:
        batches = self._batches(self.task.weight_part, rng)
        if not moving:
            yield from ((self.weight_step(batch), None) for batch in batches)
        elif self.settings.optimisation == "single":
            yield from map(self.shared_step, batches)
        else:
            yield from map(self.step, batches, self._endless(self.task.alpha_part, rng))

    def step(self, weight_batch: Batch, alpha_batch: Batch) -> tuple[float, float]:
        """One step of the alphas and one of the weights; the losses of the weights and of the alphas."""
        alpha_loss = float(self.alpha_step(weight_batch, alpha_batch))
        return self.weight_step(weight_batch), alpha_loss

    def shared_step(self, batch: Batch) -> tuple[float, float]:
        """One step of the alphas and one of the weights by one pass (Hou et al. 2021); its loss, for both."""
        alphas = self.supernet.architecture_parameters()
        loss = self._loss(batch, 0)
        found = torch.autograd.grad(loss, [*alphas, *self.weights], allow_unused=True)
        self._move_alphas(alphas, found[: len(alphas)])
        self._move_weights(found[len(alphas) :])
        told = float(loss.detach())
        return told, told

    def weight_step(self, batch: Batch) -> float:
        """One step of the weights; the loss."""
        loss = self._loss(batch, 0)
        self._move_weights(torch.autograd.grad(loss, self.weights, allow_unused=True))
        return float(loss.detach())

    def _move_weights(self, gradients: Sequence[Tensor | None]) -> None:
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = None if gradient is None else gradient.contiguous()  # it may be an expanded view
        nn.utils.clip_grad_norm_(self.weights, self.settings.gradient_clip, error_if_nonfinite=True)
        self.weight_optimiser.step()

    def tune(self, steps: int, rng: np.random.Generator) -> None:
        """So many steps of the weights alone, at the learning rate of the first epoch (as in DARTS-PT)."""
        self.supernet.train()
        for group in self.weight_optimiser.param_groups:
            group["lr"] = self.settings.learning_rate
        for batch in islice(self._endless(self.task.weight_part, rng), steps):
            self.weight_step(batch)

    def alpha_step(self, weight_batch: Batch, alpha_batch: Batch) -> Tensor:
        """One step of the alphas that count; their cross-entropy, without what the regularisers add."""
        alphas = self.supernet.architecture_parameters()
        with frozen_statistics(self.supernet):
            if self.settings.unrolled:
                gradients, loss = self._unrolled(alphas, weight_batch, alpha_batch)
            else:
                gradients, loss = first_order_step(alphas, lambda: self._loss(alpha_batch, 1), self.weights)
        self._move_alphas(alphas, gradients)
        return loss

    def _move_alphas(self, alphas: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> None:
        added = penalty(self.supernet, self.settings, self.epoch, self.costs)
        if added is not None:
            more = torch.autograd.grad(added, alphas)
            gradients = [g + m for g, m in zip(gradients, more, strict=True)]
        self.alpha_optimiser.zero_grad(set_to_none=True)  # alphas without a gradient stay as they are
        for alpha, gradient in zip(alphas, gradients, strict=True):
            alpha.grad = gradient
        nn.utils.clip_grad_norm_(alphas, self.settings.gradient_clip, error_if_nonfinite=True)
        self.alpha_optimiser.step()

    def _unrolled(
        self, alphas: Sequence[Tensor], weight_batch: Batch, alpha_batch: Batch
    ) -> tuple[list[Tensor], Tensor]:
        noise = _Noise(self.task.device)

        def weight_loss() -> Tensor:
            # The same dropout each time: else the finite difference would measure the noise, divided by a tiny eps.
            noise.restore()
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
            self.weights, alphas, weight_loss, lambda: self._loss(alpha_batch, 1), directions, rate
        )

    def _loss(self, batch: Batch, half: int) -> Tensor:
        return F.cross_entropy(self.forward(batch.inputs, batch.lengths), batch.labels, self.class_weights[half])

    def _batches(self, part: FoldPart, rng: np.random.Generator) -> Iterator[Batch]:
        task = self.task
        return training_batches(part, task.settings.batch_size, task.crop, rng, task.device, task.batches)

    def _endless(self, part: FoldPart, rng: np.random.Generator) -> Iterator[Batch]:
        while True:
            yield from self._batches(part, rng)

    def saved(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and state that `load` takes: weights, statistics, alphas, optimisers, schedule."""
        weights, weight_state = optimiser_tensors(self.weight_optimiser, "weight_optimiser")
        alphas, alpha_state = optimiser_tensors(self.alpha_optimiser, "alpha_optimiser")
        tensors = {**module_tensors(self.supernet, "supernet"), **weights, **alphas}
        return tensors, {**weight_state, **alpha_state, "schedule": self.schedule.state_dict()}

    def load(self, checkpoint: Checkpoint) -> None:
        """Go back to what `saved` told, bit for bit."""
        load_module(self.supernet, checkpoint, "supernet")
        load_optimiser(self.weight_optimiser, checkpoint, "weight_optimiser")
        load_optimiser(self.alpha_optimiser, checkpoint, "alpha_optimiser")
        self.schedule.load_state_dict(checkpoint.state["schedule"])


class _Noise:
    """The state of the generators that dropout draws from, on the CPU and on a CUDA device."""

    def __init__(self, device: str):
        self.device = torch.device(device)
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)
