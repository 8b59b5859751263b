"""Convolutional operations of all edges that leave one state, their weights stacked so that they are computed together.

Each class is made of the plain operations of the edges (see `operations`), stands for all of them, and gives what
their last pointwise convolutions need as `NormalisedBranch`es; `weighted_sum` adds up those of all operations at once.
Tensors are `(batch, frequency, time, channels)`, those of edges `(batch, frequency, time, edges * channels)`, edge by
edge; masks are `(batch, 1, time, 1)`. A state comes behind the ReLU, once by itself and once repeated for each edge.
"""

from collections.abc import Sequence
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
    RunningStatistics,
    SeparableConvolution,
)


def repeat_for_edges(x: Tensor, edges: int) -> Tensor:
    """`(batch, frequency, time, channels)` -> `(batch, frequency, time, edges * channels)`: x repeated.

    As a product with unit matrices, which takes a CPU less time than the copies, and far less in the backward pass.
    Under autocast in its precision, to which the convolutions that read it would round x themselves.
    """
    if edges == 1:
        return x
    return x @ torch.eye(x.shape[3], dtype=x.dtype, device=x.device).repeat(1, edges)


class NormalisedBranch(NamedTuple):
    """A pointwise convolution and the batch norm after it, for every edge."""

    inputs: Tensor  # (batch, frequency, time, edges * channels), read by nothing else; anything at padding
    pointwise: Tensor  # (edges, channels, channels)
    statistics: RunningStatistics  # (edges, channels)


def weighted_sum(
    operations: Sequence[Sequence[NormalisedBranch]], weights: Tensor, mask: Tensor, relu: bool = False
) -> Tensor:
    """`sum_o weights[e, o] * o` for each edge e: `(batch, frequency, time, edges * channels)`, zero at padded frames.

    An operation may have several branches, of which each gives some channels; weights `(edges, operations)`; the mask
    is that of the branches' frames; `relu`: the sum behind a ReLU.
    """
    branches = [branch for operation in operations for branch in operation]
    columns = [column for column, operation in enumerate(operations) for _ in operation]
    inputs, pointwise = [branch.inputs for branch in branches], torch.stack([branch.pointwise for branch in branches])
    statistics, by_branch = [branch.statistics for branch in branches], select(weights.t(), columns, 0)
    if not statistics[0].training:  # see `take_batch_statistics`
        mean = torch.stack([s.running_mean for s in statistics])
        variance = torch.stack([s.running_var for s in statistics])
        sums = running_mixture(inputs, pointwise, by_branch, mask, statistics[0].eps, mean, variance)
        return sums.relu() if relu else sums
    sums, mean, variance = batch_mixture(inputs, pointwise, by_branch, mask, statistics[0].eps, relu)
    count = mask.sum() * sums.shape[1]
    for s, m, v in zip(statistics, mean.unbind(), variance.unbind(), strict=True):
        s.update(m, v, count)
    return sums


class StackedOperation(nn.Module):
    """One operation of all edges."""

    def forward(self, x: Tensor, repeated: Tensor, mask: Tensor) -> list[NormalisedBranch]:
        """The branches, from a state, the same repeated for each edge, and its mask."""
        raise NotImplementedError


class _StackedConvolution(StackedOperation):
    """`conv*`: one convolution from a state to the channels of all edges; unit matrices stand for pointwise ones."""

    def __init__(self, plain: Sequence[Convolution]):
        super().__init__()
        convolution = plain[0].convolution
        self.strides, self.padding, self.dilation = convolution.stride, convolution.padding, convolution.dilation
        self.kernels = nn.Parameter(torch.cat([p.convolution.weight.detach() for p in plain]))
        channels = convolution.out_channels
        self.register_buffer("units", torch.eye(channels).repeat(len(plain), 1, 1), persistent=False)
        self.statistics = RunningStatistics(len(plain), channels)

    def forward(self, x: Tensor, repeated: Tensor, mask: Tensor) -> list[NormalisedBranch]:
        y = F.conv2d(x.permute(0, 3, 1, 2), self.kernels, None, self.strides, self.padding, self.dilation)
        return [NormalisedBranch(y.permute(0, 2, 3, 1), cast(Tensor, self.units), self.statistics)]


class _StackedDepthwiseSeparable(StackedOperation):
    """`dil_conv_*` and the like, and each half of `sep_conv_*`: a depthwise and a pointwise convolution."""

    def __init__(self, plain: Sequence[DepthwiseSeparable]):
        super().__init__()
        self.stride, self.dilation = plain[0].stride, plain[0].dilation
        # A dilated kernel may only ever meet every stride-th frame: then the others are left out beforehand.
        self.thins = self.stride > 1 and self.dilation % self.stride == 0
        self.kernels = nn.Parameter(torch.cat([p.depthwise.weight.detach() for p in plain]))
        self.pointwise = nn.Parameter(torch.stack([p.pointwise.weight.detach()[:, :, 0, 0] for p in plain]))
        self.statistics = RunningStatistics(*self.pointwise.shape[:2])

    def forward(self, x: Tensor, repeated: Tensor, mask: Tensor) -> list[NormalisedBranch]:
        stride, dilation = self.stride, self.dilation
        if self.thins:
            repeated = repeat_for_edges(x[:, ::stride, ::stride], len(self.pointwise))
            stride, dilation = 1, dilation // stride
        y = depthwise(repeated.permute(0, 3, 1, 2), self.kernels, stride, dilation)
        return [NormalisedBranch(y.permute(0, 2, 3, 1), self.pointwise, self.statistics)]


class _StackedSeparable(StackedOperation):
    """`sep_conv_*`: two depthwise-separable convolutions."""

    def __init__(self, plain: Sequence[SeparableConvolution]):
        super().__init__()
        self.first = _StackedDepthwiseSeparable([p.first for p in plain])
        self.second = _StackedDepthwiseSeparable([p.second for p in plain])

    def forward(self, x: Tensor, repeated: Tensor, mask: Tensor) -> list[NormalisedBranch]:
        branches, mask_between = self.first(x, repeated, mask), mask[:, :, :: self.first.stride]
        weights = mask.new_ones(len(self.first.pointwise), 1)
        between = weighted_sum([branches], weights, mask_between, relu=True)
        second: list[NormalisedBranch] = self.second(between, between, mask_between)
        return second


class _StackedFactorizedReduction(StackedOperation):
    """The skip connection of a reduction cell: even and odd frames are a branch each.

    Rows of zeros stand for the channels that the other branch gives: their variance is 0, and they add nothing.
    """

    def __init__(self, plain: Sequence[FactorizedReduction]):
        super().__init__()
        self.over_time = plain[0].over_time
        self.even = nn.Parameter(torch.stack([p.even.weight.detach()[:, :, 0, 0] for p in plain]))
        self.odd = nn.Parameter(torch.stack([p.odd.weight.detach()[:, :, 0, 0] for p in plain]))
        channels = self.even.shape[1] + self.odd.shape[1]
        self.statistics: Any = nn.ModuleList(RunningStatistics(len(plain), channels) for _ in ("even", "odd"))

    def forward(self, x: Tensor, repeated: Tensor, mask: Tensor) -> list[NormalisedBranch]:
        up = 0 if self.over_time else 1
        odd = x.shape[1] % 2 * up, x.shape[2] % 2
        if any(odd):
            x = F.pad(x, (0, 0, 0, odd[1], 0, odd[0]))
        # Copies, since a branch's input is overwritten, and a part of x may be x itself (two frames, one utterance).
        halves = (part.clone(memory_format=torch.contiguous_format) for part in (x[:, ::2, ::2], x[:, up::2, 1::2]))
        inputs = [repeat_for_edges(half, len(self.even)) for half in halves]
        pointwise = F.pad(self.even, (0, 0, 0, self.odd.shape[1])), F.pad(self.odd, (0, 0, self.even.shape[1], 0))
        return [NormalisedBranch(*branch) for branch in zip(inputs, pointwise, self.statistics, strict=True)]


STACKED_FORMS: dict[type[nn.Module], type[Any]] = {
    Convolution: _StackedConvolution,
    DepthwiseSeparable: _StackedDepthwiseSeparable,
    SeparableConvolution: _StackedSeparable,
    FactorizedReduction: _StackedFactorizedReduction,
}


def stacked_form(plain: Sequence[nn.Module]) -> StackedOperation | None:
    """The plain operations of all edges as one module; None for those that have no such form."""
    form = STACKED_FORMS.get(type(plain[0]))
    return None if form is None else form(plain)
