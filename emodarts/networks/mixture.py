"""Pointwise convolutions, their batch norms without affine parameters and the weighted sum of both: one product.

For one term of one edge let X be the input's real frames `(frames, inputs)` less their mean, and P `(outputs, inputs)`
the pointwise convolution. A batch norm needs only mean and variance of the outputs, and those follow from the inputs:

    the mean of X P' is 0,    variance = diag(P S P'),    S = X' X / frames,

so that the weighted sum of all terms f of an edge needs no more than their inputs and small matrices M:

    Y = sum_f a_f norm(X_f P_f') = sum_f X_f M_f',    M = diag(a r) P,    r = 1 / sqrt(variance + eps).

Neither X P' nor its normalised form is ever made, nor kept for the backward pass. The inputs are centred before their
covariance is taken, since the difference between a mean of squares and a squared mean would lose digits.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

GROUPED_CHANNELS = 16  # products of fewer columns take a CPU as long; see `_group`


def batch_mixture(
    inputs: Sequence[Tensor], pointwise: Tensor, weights: Tensor, mask: Tensor, eps: float, relu: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted sum of each edge, its terms normalised by this batch's statistics; the statistics.

    For each term an input `(batch, F, T, edges * inputs)`; pointwise `(terms, edges, outputs, inputs)`; weights
    `(terms, edges)`; mask `(batch, 1, T, 1)`. Returns sums `(batch, F, T, edges * outputs)`, zero at padded frames,
    with `relu` behind a ReLU; and the terms' mean and (biased) variance `(terms, edges, outputs)`, which are for
    running statistics and have no gradient. Gradients of first order only.

    The inputs are handed over: contiguous ones are centred in place, so nothing else may read them.
    """
    with torch.autocast(mask.device.type, enabled=False):
        inputs = [x.to(mask.dtype).contiguous() for x in inputs]
        sums, mean, variance = _BatchMixture.apply(mask, eps, relu, weights, pointwise, *inputs)
    return sums, mean, variance


def running_mixture(
    inputs: Sequence[Tensor], pointwise: Tensor, weights: Tensor, mask: Tensor, eps: float, mean: Tensor, var: Tensor
) -> Tensor:
    """The same sums, normalised by given statistics `(terms, edges, outputs)` as in evaluation mode."""
    with torch.autocast(mask.device.type, enabled=False):
        scale = weights[:, :, None] * torch.rsqrt(var + eps)
        matrices = (scale[..., None] * pointwise).transpose(2, 3)
        frames = [x.to(mask.dtype).unflatten(3, (pointwise.shape[1], -1)) for x in inputs]
        products = [torch.einsum("bfteI,eIo->bfteo", x, m) for x, m in zip(frames, matrices, strict=True)]
        return (torch.stack(products).sum(0) - (scale * mean).sum(0)).flatten(3) * mask


class _BatchMixture(torch.autograd.Function):
    """Names as in the module's docstring; S, r, P and M are stacked over terms and edges."""

    @staticmethod
    def forward(
        ctx: Any, mask: Tensor, eps: float, relu: bool, a: Tensor, p: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        edges = p.shape[1]
        count = mask.sum() * inputs[0].shape[1]
        means = [x.mul_(mask).sum((0, 1, 2)) / count for x in inputs]
        x = [x.sub_(mean).mul_(mask) for x, mean in zip(inputs, means, strict=True)]
        s = torch.stack([_products_over_frames(x_f, x_f, edges) for x_f in x]) / count
        variance = (p @ s * p).sum(3).clamp(min=0)
        r = torch.rsqrt(variance + eps)
        m = (a[:, :, None] * r)[..., None] * p
        y = _sum_of_products(x, m.transpose(2, 3))
        if relu:
            y.clamp_(min=0)
        ctx.save_for_backward(mask, count, a, p, s, r, *([y] if relu else []), *x)
        ctx.relu = relu
        mean = (p @ torch.stack(means).unflatten(1, (edges, -1, 1)))[..., 0]
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        mask, count, a, p, s, r, *x = ctx.saved_tensors
        dy = torch.ops.aten.threshold_backward(dy, x.pop(0), 0) if ctx.relu else dy * mask
        edges = p.shape[1]
        # The gradient of the centring, once for all terms: X is centred, so it does not matter to dM that dY is.
        dy.sub_(dy.sum((0, 1, 2)) / count).mul_(mask)
        # M = diag(a r) P and r = (diag(P S P') + eps)^(-1/2): all of these are small
        dm = torch.stack([_products_over_frames(dy, x_f, edges) for x_f in x])
        scale = a[:, :, None] * r
        dscale = (dm * p).sum(3)
        dvariance = (-0.5 * dscale * scale * r * r)[..., None]
        da = (dscale * r).sum(2)
        dp = scale[..., None] * dm + 2 * dvariance * (p @ s)
        ds = p.transpose(2, 3) @ (dvariance * p)
        # Y = X M' and S = X' X / frames
        matrices = torch.stack([scale[..., None] * p, ds * (2 / count)], 1)
        wanted = ctx.needs_input_grad[5:]
        dx = [_sum_of_products([dy, x_f], m) if w else None for x_f, m, w in zip(x, matrices, wanted, strict=True)]
        return None, None, None, da, dp, *dx


def _sum_of_products(frames: Sequence[Tensor], matrices: Tensor) -> Tensor:
    """`sum_f frames_f matrices_f`: each `(batch, F, T, edges * inputs)`, and `(edges, inputs, outputs)` for each."""
    edges = matrices.shape[1]
    total = frames[0].new_empty(*frames[0].shape[:3], edges * matrices.shape[3])
    grouped_total = _grouped(total, edges)
    for number, (x, m) in enumerate(zip(frames, _block_diagonal(matrices), strict=True)):
        if number == 0:
            torch.bmm(_grouped(x, edges), m, out=grouped_total)
        else:
            grouped_total.baddbmm_(_grouped(x, edges), m)
    return total


def _products_over_frames(x: Tensor, y: Tensor, edges: int) -> Tensor:
    """`X' Y` of each edge, `(edges, channels of x, channels of y)`: sums over all frames."""
    group = _group(edges, x.shape[3])
    blocks = _grouped(x, edges).transpose(1, 2) @ _grouped(y, edges)
    if group == 1:
        return blocks
    blocks = blocks.unflatten(2, (group, -1)).unflatten(1, (group, -1))
    return blocks.diagonal(dim1=1, dim2=3).movedim(3, 1).flatten(0, 1)


@cache
def _group(edges: int, channels: int) -> int:
    """How many edges are multiplied as one matrix, in which the parts between different edges are of no account.

    `channels` are those of all edges.
    """
    divisors = [g for g in range(1, edges + 1) if edges % g == 0]
    return next((g for g in divisors if g * channels >= GROUPED_CHANNELS * edges), edges)


def _grouped(x: Tensor, edges: int) -> Tensor:
    """A view `(groups, frames, channels of a group)`."""
    group = _group(edges, x.shape[3])
    return x.flatten(0, 2).unflatten(1, (edges // group, -1)).transpose(0, 1)


def _block_diagonal(matrices: Tensor) -> Tensor:
    """`(terms, edges, inputs, outputs)` -> the edges of each group as one matrix: `(terms, groups, ..., ...)`."""
    edges, inputs = matrices.shape[1:3]
    group = _group(edges, edges * inputs)
    if group == 1:
        return matrices
    blocks = matrices.unflatten(1, (edges // group, group)).movedim(2, 4)
    return torch.diag_embed(blocks, dim1=2, dim2=4).flatten(4).flatten(2, 3)
