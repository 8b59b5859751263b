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

from emodarts.networks.first_order import first_order_only
from emodarts.networks.masking import without_autocast
from emodarts.networks.normalisation import of_channels

GROUPED_CHANNELS = 16  # products of fewer columns take a CPU as long; see `_group`


def batch_mixture(
    inputs: Sequence[Tensor], pointwise: Tensor, weights: Tensor, mask: Tensor, eps: float, relu: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted sum of each edge, its terms normalised by this batch's statistics; the statistics.

    For each term an input `(batch, frequency, time, edges * inputs)`; pointwise `(terms, edges, outputs, inputs)`;
    weights `(terms, edges)`; mask `(batch, 1, time, 1)`. Returns sums `(batch, frequency, time, edges * outputs)`, zero
    at padded frames, with `relu` behind a ReLU; and the terms' mean and (biased) variance `(terms, edges, outputs)`,
    which are for running statistics and have no gradient. Gradients of first order only.

    The inputs are handed over: contiguous ones are centred in place, so nothing else may read them.
    """
    with without_autocast(mask.device.type):
        inputs = [x.to(mask.dtype).contiguous() for x in inputs]
        sums, mean, variance = _BatchMixture.apply(mask, eps, relu, weights, pointwise, *inputs)
    return sums, mean, variance


def running_mixture(
    inputs: Sequence[Tensor], pointwise: Tensor, weights: Tensor, mask: Tensor, eps: float, mean: Tensor, var: Tensor
) -> Tensor:
    """The same sums, normalised by given statistics `(terms, edges, outputs)` as in evaluation mode."""
    with without_autocast(mask.device.type):
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
        real, count = of_channels(mask, inputs[0].shape[3]), mask.sum() * inputs[0].shape[1]
        means = _means(inputs, real, count)
        x = _centred(inputs, means, real, inputs)
        s = _products_over_frames(x, x, edges) / count
        variance = (p @ s * p).sum(3).clamp(min=0)
        r = torch.rsqrt(variance + eps)
        m = (a[:, :, None] * r)[..., None] * p
        y = _sum_of_products(x, _block_diagonal(m.transpose(2, 3)))
        if relu:
            y.clamp_(min=0)
        ctx.save_for_backward(mask, count, a, p, s, r, *([y] if relu else []), *x)
        ctx.relu = relu
        mean = (p @ means.view(len(means), edges, -1, 1))[..., 0]
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @first_order_only
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        mask, count, a, p, s, r, *x = ctx.saved_tensors
        edges, real = p.shape[1], of_channels(mask, dy.shape[3])
        # The gradient of the centring, once for all terms: X is centred, so it does not matter to dM that dY is.
        own = torch.ops.aten.threshold_backward(dy, x.pop(0), 0).contiguous() if ctx.relu else None
        dy = dy.contiguous() if own is None else own
        (dy,) = _centred([dy], _means([dy], real, count), real, [own])
        # M = diag(a r) P and r = (diag(P S P') + eps)^(-1/2): all of these are small
        dm = _products_over_frames([dy] * len(x), x, edges)
        scale = a[:, :, None] * r
        dscale = (dm * p).sum(3)
        dvariance = (-0.5 * dscale * scale * r * r)[..., None]
        da = (dscale * r).sum(2)
        dp = scale[..., None] * dm + 2 * dvariance * (p @ s)
        ds = p.transpose(2, 3) @ (dvariance * p)
        # Y = X M' and S = X' X / frames
        matrices = _block_diagonal(torch.stack([scale[..., None] * p, ds * (2 / count)], 1))
        wanted = ctx.needs_input_grad[5:]
        dx = [_sum_of_products([dy, x_f], m) if w else None for x_f, m, w in zip(x, matrices, wanted, strict=True)]
        return None, None, None, da, dp, *dx


def _means(terms: Sequence[Tensor], real: Tensor, count: Tensor) -> Tensor:
    """The means over real frames of each term's channels, `(terms, channels)`."""
    return (torch.stack([x.sum(1, keepdim=True) for x in terms]) * real).sum((1, 2, 3)) / count


def _centred(
    terms: Sequence[Tensor], means: Tensor, real: Tensor, out: Sequence[Tensor | None] = (None,)
) -> list[Tensor]:
    """`(x - mean) * real` of each term in one pass; `out` may be the terms themselves."""
    shifts = (means[:, None, None, None] * -real).unbind()
    return [torch.addcmul(shift, x, real, out=o) for shift, x, o in zip(shifts, terms, out, strict=True)]


def _sum_of_products(frames: Sequence[Tensor], matrices: Tensor) -> Tensor:
    """`sum_f frames_f matrices_f`: frames `(batch, frequency, time, edges * inputs)`, a matrix a group of edges."""
    groups = matrices.shape[1]
    total = frames[0].new_empty(*frames[0].shape[:3], groups * matrices.shape[3])
    grouped_total = _grouped(total, groups)
    for number, (x, m) in enumerate(zip(frames, matrices.unbind(), strict=True)):
        if number == 0:
            torch.bmm(_grouped(x, groups), m, out=grouped_total)
        else:
            grouped_total.baddbmm_(_grouped(x, groups), m)
    return total


def _products_over_frames(x: Sequence[Tensor], y: Sequence[Tensor], edges: int) -> Tensor:
    """`X' Y` of each term and edge, `(terms, edges, channels of x, channels of y)`: sums over all frames."""
    group = _group(edges, x[0].shape[3])
    groups = edges // group
    pairs = zip(x, y, strict=True)
    products = torch.stack([torch.bmm(_grouped(x_f, groups).mT, _grouped(y_f, groups)) for x_f, y_f in pairs])
    if group == 1:
        return products
    blocks = products.unflatten(3, (group, -1)).unflatten(2, (group, -1))
    return blocks.diagonal(dim1=2, dim2=4).movedim(4, 2).flatten(1, 2)


@cache
def _group(edges: int, channels: int) -> int:
    """How many edges are multiplied as one matrix, in which the parts between different edges are of no account.

    `channels` are those of all edges.
    """
    divisors = [g for g in range(1, edges + 1) if edges % g == 0]
    return next((g for g in divisors if g * channels >= GROUPED_CHANNELS * edges), edges)


def _grouped(x: Tensor, groups: int) -> Tensor:
    """A view `(groups, frames, channels of a group)`."""
    return x.view(-1, groups, x.shape[3] // groups).transpose(0, 1)


def _block_diagonal(matrices: Tensor) -> Tensor:
    """`(..., edges, inputs, outputs)` -> the edges of each group as one matrix: `(..., groups, inputs, outputs)`."""
    edges, inputs = matrices.shape[-3:-1]
    group = _group(edges, edges * inputs)
    if group == 1:
        return matrices
    blocks = matrices.unflatten(-3, (edges // group, group)).movedim(-3, -1)
    return torch.diag_embed(blocks, dim1=-4, dim2=-2).flatten(-2).flatten(-3, -2)
