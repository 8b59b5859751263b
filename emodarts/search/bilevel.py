"""The bilevel steps of DARTS (Liu et al. 2019, eq. 5 to 8): the gradient of the alphas, first and second order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Loss = Callable[[], Tensor]


def first_order_step(
    alphas: Sequence[Tensor], alpha_loss: Loss, weights: Sequence[Tensor] = ()
) -> tuple[list[Tensor], Tensor]:
    """Gradients of `L_val(w, a)` for the alphas at the present weights (eq. 5 with xi = 0), and the loss.

    For `weights` that are given nothing is kept or computed that only their gradients would need.
    """
    with _at_rest(weights):
        loss = alpha_loss()
        return _gradients(loss, alphas), loss.detach()


def second_order_step(
    weights: Sequence[Tensor],
    alphas: Sequence[Tensor],
    weight_loss: Loss,
    alpha_loss: Loss,
    directions: Sequence[Tensor],
    xi: float,
) -> tuple[list[Tensor], Tensor]:
    """Gradients of `L_val(w', a)` for the alphas with w' = w - xi * directions (eq. 6 and 7), and the loss.

    `directions` is the weights' whole step `momentum * buffer + grad_w L_train + weight_decay * w`.
    The weights are shifted and put back in place, also where a loss fails; there is one copy of them at a time.
    """
    vector, direct, loss = _gradients_ahead(weights, alphas, alpha_loss, directions, xi)
    term = second_order_term(weights, alphas, weight_loss, vector)
    return [d - xi * t for d, t in zip(direct, term, strict=True)], loss


def _gradients_ahead(
    weights: Sequence[Tensor], alphas: Sequence[Tensor], alpha_loss: Loss, directions: Sequence[Tensor], xi: float
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Gradients for weights and alphas one step of the weights ahead, and the loss, of whose graph nothing is kept."""
    with _shifted(weights, directions, -xi):
        loss = alpha_loss()
        found = _gradients(loss, [*weights, *alphas])
    return found[: len(weights)], found[len(weights) :], loss.detach()


def second_order_term(
    weights: Sequence[Tensor],
    alphas: Sequence[Tensor],
    weight_loss: Loss,
    vector: Sequence[Tensor],
    radius: float = 0.01,
) -> list[Tensor]:
    """`d2 L_train / (da dw) . vector`, by a central difference (eq. 8).

    `[grad_a L_train(w+, a) - grad_a L_train(w-, a)] / (2 eps)`, `w+- = w +- eps * vector`, `eps = radius / ||vector||`.
    """
    norm = torch.sqrt(sum((v.square().sum() for v in vector), start=torch.zeros((), dtype=vector[0].dtype)))
    if norm == 0:
        return [torch.zeros_like(a) for a in alphas]
    eps = radius / float(norm)
    sides = []
    with _at_rest(weights):
        for step in (eps, -eps):
            with _shifted(weights, vector, step):
                sides.append(_gradients(weight_loss(), alphas))
    plus, minus = sides
    return [(p - m) / (2 * eps) for p, m in zip(plus, minus, strict=True)]


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return [_zero_if_none(g, p) for g, p in zip(found, parameters, strict=True)]


def _zero_if_none(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    # A kind of cell that the layout does not hold leaves its alphas without a gradient.
    return torch.zeros_like(parameter) if gradient is None else gradient


@contextmanager
def _at_rest(weights: Sequence[Tensor]) -> Iterator[None]:
    """Within the block no gradients are wanted for the weights."""
    moving = [w for w in weights if w.requires_grad]
    try:
        for w in moving:
            w.requires_grad_(False)
        yield
    finally:
        for w in moving:
            w.requires_grad_(True)


@contextmanager
def _shifted(weights: Sequence[Tensor], directions: Sequence[Tensor], step: float) -> Iterator[None]:
    """Within the block, the weights are `step` times the directions away; afterwards what they were, to the bit."""
    kept = [w.detach().clone() for w in weights]
    try:
        with torch.no_grad():
            for w, d in zip(weights, directions, strict=True):
                w.add_(d, alpha=step)
        yield
    finally:
        with torch.no_grad():
            for w, k in zip(weights, kept, strict=True):
                w.copy_(k)
