"""Convolutional operations of all edges that leave one state, their weights stacked so that they are computed together.

Each class is made of the plain operations of the edges (see `operations`), stands for all of them, and gives what
their last pointwise convolutions need as `Term`s; `mixed` sums the terms of all operations at once. Tensors are
channels-last; those of edges are `(batch, F, T, edges * channels)`, edge by edge; masks are `(batch, 1, T, 1)`. A state
comes behind the ReLU, once by itself, `(batch, F, T, channels)`, and once repeated for each edge.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.depthwise import depthwise
from emodarts.networks.fused.cell import select
from emodarts.networks.fused.mixture import batch_mixture, running_mixture
from emodarts.networks.operations import (
    Convolution,
    DepthwiseSeparable,
    FactorizedReduction,
    MaskedBatchNorm,
    RunningStatistics,
    SeparableConvolution,
)


def for_each_edge(x: Tensor, edges: int) -> Tensor:
    """`(batch, F, T, channels)` -> `(batch, F, T, edges * channels)`: x repeated.

    As a product with unit matrices, which takes a CPU less time than the copies, and far less in the backward pass.
    Under autocast in its precision, to which the convolutions that read it would round x themselves.
    """
    if edges == 1:
        return x
    return x @ torch.eye(x.shape[3], dtype=x.dtype, device=x.device).repeat(1, edges)


class NormalisedBranch(NamedTuple):
    """A pointwise convolution and the batch norm after it, for every edge."""

    inputs: Tensor  # (batch, F, T, edges * channels), read by nothing else; padding is of no account
    pointwise: Tensor  # (edges, channels, channels)
    statistics: RunningStatistics  # (edges, channels)


def weighted_sum(
    operations: Sequence[Sequence[NormalisedBranch]], weights: Tensor, mask: Tensor, training: bool, relu: bool = False
) -> Tensor:
    """`sum_o weights[e, o] * o` for each edge e: `(batch, F, T, edges * channels)`, zero at padded frames.

    An operation may have several terms, of which each gives some channels; weights `(edges, operations)`; the mask is
    that of the terms' frames; `relu`: the sum behind a ReLU.
    """
    terms = [term for operation in operations for term in operation]
    by_term = select(weights.t(), [column for column, operation in enumerate(operations) for _ in operation], 0)
    inputs, pointwise = [term.inputs for term in terms], torch.stack([term.pointwise for term in terms])
    statistics = [term.statistics for term in terms]
    if not training:
        mean = torch.stack([s.running_mean for s in statistics])
        variance = torch.stack([s.running_var for s in statistics])
        sums = running_mixture(inputs, pointwise, by_term, mask, statistics[0].eps, mean, variance)
        return sums.relu() if relu else sums
    sums, mean, variance = batch_mixture(inputs, pointwise, by_term, mask, statistics[0].eps, relu)
    count = mask.sum() * sums.shape[1]
    for s, m, v in zip(statistics, mean, variance, strict=True):
        s.update(m, v, count)
    return sums


class Stacked(nn.Module):
    """One operation of all edges."""

    def forward(self, x: Tensor, repeated: Tensor, mask: Tensor) -> list[NormalisedBranch]:
        """The terms, from a state, the same repeated for each edge, and its mask."""
        raise NotImplementedError

    def unstack(self, edge: int, plain: Any) -> None:
        """Copy the weights and running statistics of an edge into its plain operation."""
        raise NotImplementedError


class StackedConvolution(Stacked):
    """`conv_*`: one convolution from a state to the channels of all edges; unit matrices stand for pointwise ones."""

    def __init__(self, plain: Sequence[Convolution]):
        super().__init__()
        convolution = plain[0].convolution
        self.strides, self.padding = convolution.stride, convolution.padding
        self.kernels = nn.Parameter(torch.cat([p.convolution.weight.detach() for p in plain]))
        channels = convolution.out_channels
        self.register_buffer("units", torch.eye(channels).repeat(len(plain), 1, 1), persistent=False)
        self.statistics = RunningStatistics(len(plain), channels)

    def forward(self, x: Tensor, repeated: Tensor, mask: Tensor) -> list[NormalisedBranch]:
        """The terms, from a state and its mask."""
        y = F.conv2d(x.permute(0, 3, 1, 2), self.kernels, None, self.strides, self.padding)
        return [NormalisedBranch(y.permute(0, 2, 3, 1), cast(Tensor, self.units), self.statistics)]

    @torch.no_grad()
    def unstack(self, edge: int, plain: Convolution) -> None:
        """Copy the weights and running statistics of an edge into its plain operation."""
        plain.convolution.weight.copy_(self.kernels.unflatten(0, (len(cast(Tensor, self.units)), -1))[edge])
        _unstack_statistics(self.statistics, edge, plain.norm)


class StackedDepthwiseSeparable(Stacked):
    """`dil_conv_*` and the like, and each half of `sep_conv_*`: a depthwise and a pointwise convolution."""

    def __init__(self, plain: Sequence[DepthwiseSeparable]):
        super().__init__()
        convolution = plain[0].depthwise
        self.stride, self.dilation = convolution.stride[0], convolution.dilation[0]
        # A dilated kernel may only ever meet every stride-th frame: then the others are left out beforehand.
        self.thins = self.stride > 1 and self.dilation % self.stride == 0
        self.kernels = nn.Parameter(torch.cat([p.depthwise.weight.detach() for p in plain]))
        self.pointwise = nn.Parameter(torch.stack([p.pointwise.weight.detach()[:, :, 0, 0] for p in plain]))
        self.statistics = RunningStatistics(*self.pointwise.shape[:2])

    def forward(self, x: Tensor, repeated: Tensor, mask: Tensor) -> list[NormalisedBranch]:
        """The terms, from a state and its mask."""
        stride, dilation = self.stride, self.dilation
        if self.thins:
            repeated = for_each_edge(x[:, ::stride, ::stride], len(self.pointwise))
            stride, dilation = 1, dilation // stride
        y = depthwise(repeated.permute(0, 3, 1, 2), self.kernels, stride, dilation)
        return [NormalisedBranch(y.permute(0, 2, 3, 1), self.pointwise, self.statistics)]

    @torch.no_grad()
    def unstack(self, edge: int, plain: DepthwiseSeparable) -> None:
        """Copy the weights and running statistics of an edge into its plain operation."""
        plain.depthwise.weight.copy_(self.kernels.unflatten(0, self.pointwise.shape[:2])[edge])
        plain.pointwise.weight.copy_(self.pointwise[edge, :, :, None, None])
        _unstack_statistics(self.statistics, edge, plain.norm)


class StackedSeparable(Stacked):
    """`sep_conv_*`: two depthwise-separable convolutions."""

    def __init__(self, plain: Sequence[SeparableConvolution]):
        super().__init__()
        self.first = StackedDepthwiseSeparable([p.first for p in plain])
        self.second = StackedDepthwiseSeparable([p.second for p in plain])

    def forward(self, x: Tensor, repeated: Tensor, mask: Tensor) -> list[NormalisedBranch]:
        """The terms, from a state and its mask."""
        terms = self.first(x, repeated, mask)
        mask = mask[:, :, :: self.first.stride]
        alone = mask.new_ones(self.first.pointwise.shape[0], 1)
        between = weighted_sum([terms], alone, mask, self.training, relu=True)
        second: list[NormalisedBranch] = self.second(between, between, mask)
        return second

    def unstack(self, edge: int, plain: SeparableConvolution) -> None:
        """Copy the weights and running statistics of an edge into its plain operation."""
        self.first.unstack(edge, plain.first)
        self.second.unstack(edge, plain.second)


class StackedReduction(Stacked):
    """The skip connection of a reduction cell: even and odd frames are a term each.

    Rows of zeros stand for the channels that the other term gives: their variance is 0, and they add nothing.
    """

    def __init__(self, plain: Sequence[FactorizedReduction]):
        super().__init__()
        self.over_time = plain[0].over_time
        self.even = nn.Parameter(torch.stack([p.even.weight.detach()[:, :, 0, 0] for p in plain]))
        self.odd = nn.Parameter(torch.stack([p.odd.weight.detach()[:, :, 0, 0] for p in plain]))
        channels = self.even.shape[1] + self.odd.shape[1]
        self.statistics = nn.ModuleList(RunningStatistics(len(plain), channels) for _ in ("even", "odd"))

    def forward(self, x: Tensor, repeated: Tensor, mask: Tensor) -> list[NormalisedBranch]:
        """The terms, from a state and its mask."""
        up = 0 if self.over_time else 1
        odd = x.shape[1] % 2 * up, x.shape[2] % 2
        if any(odd):
            x = F.pad(x, (0, 0, 0, odd[1], 0, odd[0]))
        # Copies, since a term's input is handed over, and a part of x may be x itself (two frames, one utterance).
        halves = (part.clone(memory_format=torch.contiguous_format) for part in (x[:, ::2, ::2], x[:, up::2, 1::2]))
        inputs = [for_each_edge(half, len(self.even)) for half in halves]
        pointwise = F.pad(self.even, (0, 0, 0, self.odd.shape[1])), F.pad(self.odd, (0, 0, self.even.shape[1], 0))
        statistics: Iterable[Any] = self.statistics
        return [NormalisedBranch(*term) for term in zip(inputs, pointwise, statistics, strict=True)]

    @torch.no_grad()
    def unstack(self, edge: int, plain: FactorizedReduction) -> None:
        """Copy the weights and running statistics of an edge into its plain operation."""
        half = self.even.shape[1]
        plain.even.weight.copy_(self.even[edge, :, :, None, None])
        plain.odd.weight.copy_(self.odd[edge, :, :, None, None])
        for statistics, rows in zip(self.statistics, (slice(half), slice(half, None)), strict=True):
            _unstack_statistics(statistics, edge, plain.norm, rows)


def _unstack_statistics(statistics: Any, edge: int, norm: MaskedBatchNorm, rows: slice = slice(None)) -> None:
    norm.running_mean[rows] = statistics.running_mean[edge, rows]
    norm.running_var[rows] = statistics.running_var[edge, rows]
    norm.updates.copy_(statistics.updates)


_STACKED: dict[type[nn.Module], type[Any]] = {
    Convolution: StackedConvolution,
    DepthwiseSeparable: StackedDepthwiseSeparable,
    SeparableConvolution: StackedSeparable,
    FactorizedReduction: StackedReduction,
}


def stack(plain: Sequence[nn.Module]) -> Stacked | None:
    """The plain operations of all edges as one module; None for those that have no such form."""
    stacked = _STACKED.get(type(plain[0]))
    return None if stacked is None else stacked(plain)
