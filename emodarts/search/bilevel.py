"""The bilevel steps of DARTS (Liu et al. 2019, eq. 5 to 8): the gradient of the alphas, first and second order.

The alphas a minimise L_val(w*(a), a), where w*(a) are the weights that minimise L_train(w, a) (eq. 3 and 4). One step
of the weights, w' = w - xi * direction, stands for w*(a) (eq. 6).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Loss = Callable[[], Tensor]


def first_order_step(
    alphas: Sequence[Tensor], alpha_loss: Loss, weights: Sequence[Tensor] = ()
) -> tuple[list[Tensor], Tensor]:
    """Gradients for the alphas with w' = w, and the loss: `grad_a L_val(w, a)` (eq. 6 with xi = 0).

    No gradients are computed for the `weights` that are passed, nor is anything stored that these would need.
    """
    with _without_gradients(weights):
        loss = alpha_loss()
        return _gradients(loss, alphas), loss.detach()


def weight_direction(
    weights: Sequence[Tensor],
    weight_loss: Loss,
    momentum_buffers: Sequence[Tensor | None],
    momentum: float,
    weight_decay: float,
) -> list[Tensor]:
    """The direction of the step to w' (eq. 6): `momentum * buffer + grad_w L_train(w, a) + weight_decay * w`.

    It is the step of SGD with momentum, as in the published implementation; a weight whose optimiser has no momentum
    buffer (AdamW, or SGD before its first step) takes the step without the first term.
    """
    directions = []
    gradients = torch.autograd.grad(weight_loss(), list(weights), allow_unused=True)
    for weight, gradient, buffer in zip(weights, gradients, momentum_buffers, strict=True):
        direction = weight_decay * weight.detach() + (0 if gradient is None else gradient)
        directions.append(direction if buffer is None else direction + momentum * buffer)
    return directions


def second_order_step(
    weights: Sequence[Tensor],
    alphas: Sequence[Tensor],
    weight_loss: Loss,
    alpha_loss: Loss,
    directions: Sequence[Tensor],
    xi: float,
) -> tuple[list[Tensor], Tensor]:
    """Gradients for the alphas with `w' = w - xi * directions` (see `weight_direction`), and the loss L_val(w', a):

        grad_a L_val(w', a) - xi * d2 L_train(w, a) / (da dw) . grad_w' L_val(w', a)    (eq. 7)

    The weights are shifted and put back in place, also where a loss fails; there is one copy of them at a time.
    """
    vector, direct, loss = _gradients_ahead(weights, alphas, alpha_loss, directions, xi)
    term = second_order_term(weights, alphas, weight_loss, vector)
    return [d - xi * t for d, t in zip(direct, term, strict=True)], loss


def _gradients_ahead(
    weights: Sequence[Tensor], alphas: Sequence[Tensor], alpha_loss: Loss, directions: Sequence[Tensor], xi: float
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The gradients of L_val(w', a) for w' and for the alphas, and the loss, whose graph is freed."""
    with _shifted(weights, directions, -xi):
        loss = alpha_loss()
        gradients = _gradients(loss, [*weights, *alphas])
    return gradients[: len(weights)], gradients[len(weights) :], loss.detach()


def second_order_term(
    weights: Sequence[Tensor],
    alphas: Sequence[Tensor],
    weight_loss: Loss,
    vector: Sequence[Tensor],
    radius: float = 0.01,
) -> list[Tensor]:
    """`d2 L_train(w, a) / (da dw) . vector`, by a central difference (eq. 8):

    [grad_a L_train(w+, a) - grad_a L_train(w-, a)] / (2 eps),  w+- = w +- eps * vector,  eps = radius / ||vector||
    """
    norm = torch.sqrt(sum((v.square().sum() for v in vector), start=torch.zeros((), dtype=vector[0].dtype)))
    if norm == 0:
        return [torch.zeros_like(a) for a in alphas]
    eps = radius / float(norm)
    sides = []
    with _without_gradients(weights):
        for step in (eps, -eps):
            with _shifted(weights, vector, step):
                sides.append(_gradients(weight_loss(), alphas))
    plus, minus = sides
    return [(p - m) / (2 * eps) for p, m in zip(plus, minus, strict=True)]


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradients; zero for the alphas of a kind of cell that the network does not have."""
    gradients = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]


@contextmanager
def _without_gradients(weights: Sequence[Tensor]) -> Iterator[None]:
    """Within the block the weights require no gradients."""
    requiring = [w for w in weights if w.requires_grad]
    try:
        for w in requiring:
            w.requires_grad_(False)
        yield
    finally:
        for w in requiring:
            w.requires_grad_(True)


@contextmanager
def _shifted(weights: Sequence[Tensor], directions: Sequence[Tensor], step: float) -> Iterator[None]:
    """Within the block, the weights are `step` times the directions away; afterwards what they were, to the bit."""
    originals = [w.detach().clone() for w in weights]
    try:
        with torch.no_grad():
            for w, d in zip(weights, directions, strict=True):
                w.add_(d, alpha=step)
        yield
    finally:
        with torch.no_grad():
            for w, original in zip(weights, originals, strict=True):
                w.copy_(original)
