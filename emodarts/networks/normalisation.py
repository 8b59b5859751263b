"""Batch normalisation over real frames as one differentiable operation: fewer passes over memory, the same numbers."""

from typing import Any

import torch
from torch import Tensor


def normalise(
    x: Tensor, mask: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalise by the mean and variance of the real frames (Ioffe & Szegedy 2015, algorithm 1); padding becomes zero.

    x `(batch, channels, F, T)`, fast if channels-last; mask `(batch, 1, 1, T)`; weight and bias `(channels,)` or None.
    Returns the output and, without gradients, mean and (biased) variance `(channels,)` and the number of values.
    Computes in the mask's precision, also under autocast.
    """
    with torch.autocast(x.device.type, enabled=False):
        output, mean, variance, count = _Normalise.apply(x.to(mask.dtype), mask, weight, bias, eps)
    return output, mean, variance, count


def of_channels(mask: Tensor, channels: int) -> Tensor:
    """The mask of a channels-last image `(batch, 1, T, 1)` for each channel, `(batch, 1, T, channels)`.

    Products with it go through memory in longer runs.
    """
    return mask.expand(-1, -1, -1, channels).contiguous()


class _Normalise(torch.autograd.Function):
    """With z = (x - mean) r and r = 1 / sqrt(variance + eps), over `count` real values of a channel:

    dx = weight r (dy - sum(dy) / count - z sum(dy z) / count), dweight = sum(dy z), dbias = sum(dy).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mask: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, real, count = _rows(x), of_channels(mask.permute(0, 2, 3, 1), x.shape[1]), mask.sum() * x.shape[2]
        mean = (rows.sum(1, keepdim=True) * real).sum((0, 1, 2)) / count
        centred = torch.addcmul(-mean * real, rows, real)  # a mean of squares less a squared mean would lose digits
        variance = centred.square().sum((0, 1, 2)) / count
        r = torch.rsqrt(variance + eps)
        output = centred.mul_(real * (r if weight is None else r * weight))
        if bias is not None:
            output.add_(real * bias)
        ctx.save_for_backward(x, mask, weight, bias, mean, r, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return output.permute(0, 3, 1, 2), mean, variance, count

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, mask, weight, bias, mean, r, count = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted
            return (*_differentiable_gradients(x, mask, weight, bias, ctx.eps, dy), None)
        dy, real = _rows(dy), of_channels(mask.permute(0, 2, 3, 1), x.shape[1])
        centred = torch.addcmul(-mean * real, _rows(x), real)
        products = dy * centred
        dbias = (dy.sum(1, keepdim=True) * real).sum((0, 1, 2))
        dweight = products.sum((0, 1, 2)) * r
        scale = r if weight is None else r * weight
        dx = torch.addcmul(real * (-scale * dbias / count), dy, real * scale, out=products)
        dx.addcmul_(centred, real * (-scale * r * dweight / count))
        of_weight, of_bias = (d if p is not None else None for p, d in ((weight, dweight), (bias, dbias)))
        return dx.permute(0, 3, 1, 2), None, of_weight, of_bias, None


def _differentiable_gradients(
    x: Tensor, mask: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, dy: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients for x, mask (none), weight and bias, with a graph of their own."""
    count = mask.sum() * x.shape[2]
    mean = (x * mask).sum((0, 2, 3), keepdim=True) / count
    variance = ((x - mean).square() * mask).sum((0, 2, 3), keepdim=True) / count
    output = (x - mean) * torch.rsqrt(variance + eps)
    if weight is not None:
        output = output * weight[:, None, None]
    if bias is not None:
        output = output + bias[:, None, None]
    wanted = [t for t in (x, weight, bias) if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(output * mask, wanted, dy, create_graph=True))
    of_x, of_weight, of_bias = (next(found) if t is not None and t.requires_grad else None for t in (x, weight, bias))
    return of_x, None, of_weight, of_bias


def _rows(x: Tensor) -> Tensor:
    """`(batch, channels, F, T)` -> `(batch, F, T, channels)`: a view if channels-last."""
    return x.permute(0, 2, 3, 1).contiguous()
