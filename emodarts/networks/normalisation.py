"""Batch normalisation over real frames as one differentiable operation: fewer passes over memory, the same numbers."""

from typing import Any

import torch
from torch import Tensor

from emodarts.networks.first_order import first_order_only
from emodarts.networks.masking import without_autocast


def normalise(
    x: Tensor, mask: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, relu: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalise by the mean and variance of the real frames (Ioffe & Szegedy 2015, algorithm 1); padding becomes zero.

    x `(batch, channels, frequency, time)`, fast if channels-last; mask `(batch, 1, 1, time)`; weight and bias
    `(channels,)` or None. Returns the output, with `relu` behind a ReLU, and, without gradients, mean and (biased)
    variance `(channels,)` and the number of values. Computes in the mask's precision, also under autocast. Gradients of
    first order only.
    """
    with without_autocast(x.device.type):
        output, mean, variance, count = _Normalise.apply(x.to(mask.dtype), mask, weight, bias, eps, relu)
    return output, mean, variance, count


def of_channels(mask: Tensor, channels: int) -> Tensor:
    """The mask of a channels-last image `(batch, 1, time, 1)` for each channel, `(batch, 1, time, channels)`.

    Products with it go through memory in longer runs.
    """
    return mask.expand(-1, -1, -1, channels).contiguous()


class _Normalise(torch.autograd.Function):
    """With z = (x - mean) r and r = 1 / sqrt(variance + eps), over `count` real values of a channel:

    dx = weight r (dy - sum(dy) / count - z sum(dy z) / count), dweight = sum(dy z), dbias = sum(dy).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mask: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, real, count = _rows(x), of_channels(mask.permute(0, 2, 3, 1), x.shape[1]), mask.sum() * x.shape[2]
        mean = (rows.sum(1, keepdim=True) * real).sum((0, 1, 2)) / count
        centred = torch.addcmul(-mean * real, rows, real)  # a mean of squares less a squared mean would lose digits
        variance = centred.square().sum((0, 1, 2)) / count
        r = torch.rsqrt(variance + eps)
        # `centred` is kept for the backward pass, in the place of x, which then need not be centred again.
        output = centred * (real * (r if weight is None else r * weight))
        if bias is not None:
            output.add_(real * bias)
        if relu:
            output.clamp_(min=0)
        ctx.save_for_backward(centred, mask, weight, r, count, output if relu else None)
        ctx.mark_non_differentiable(mean, variance, count)
        return output.permute(0, 3, 1, 2), mean, variance, count

    @staticmethod
    @first_order_only
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        centred, mask, weight, r, count, behind_relu = ctx.saved_tensors
        dy, real = _rows(dy), of_channels(mask.permute(0, 2, 3, 1), dy.shape[1])
        if behind_relu is not None:
            dy = torch.ops.aten.threshold_backward(dy, behind_relu, 0)
        products = dy * centred
        dbias = (dy.sum(1, keepdim=True) * real).sum((0, 1, 2))
        dweight = products.sum((0, 1, 2)) * r
        scale = r if weight is None else r * weight
        dx = torch.addcmul(real * (-scale * dbias / count), dy, real * scale, out=products)
        dx.addcmul_(centred, real * (-scale * r * dweight / count))
        wanted = ctx.needs_input_grad
        return dx.permute(0, 3, 1, 2), None, dweight if wanted[2] else None, dbias if wanted[3] else None, None, None


def _rows(x: Tensor) -> Tensor:
    """`(batch, channels, frequency, time)` -> `(batch, frequency, time, channels)`: a view if channels-last."""
    return x.permute(0, 2, 3, 1).contiguous()
