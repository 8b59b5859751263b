"""Hand-written backward passes compute gradients of first order, and say so where a second derivative is wanted."""

import functools
from collections.abc import Callable
from typing import Any

import torch


def first_order_only(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For the `backward` of an `autograd.Function`: raises RuntimeError under `create_graph=True`.

    `torch.autograd.function.once_differentiable` would leave the function out of the second derivatives of some inputs
    without a word.
    """

    @functools.wraps(backward)
    def checked(ctx: Any, *gradients: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(f"{backward.__qualname__} has no derivative: create_graph=True cannot be used with it")
        return backward(ctx, *gradients)

    return checked
