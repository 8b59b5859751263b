"""The mixed CNN operations of all edges that leave one state, computed together.

Equal to a `MixedOperation` for each edge: what has no weights is computed once and shared by the edges, convolutions
are stacked (see `stacked_convolutions`), and what has no fused form stays a module for each edge.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.cell import MixedOperation
from emodarts.networks.depthwise import depthwise
from emodarts.networks.fused.cell import FusedOperations
from emodarts.networks.fused.stacked_convolutions import NormalisedBranch, repeat_for_edges, stacked_form, weighted_sum
from emodarts.networks.masking import strided_mask, without_autocast
from emodarts.networks.operations import AveragePool, Identity, MaxPool, Zero, same_padding


class FusedCnnOperations(FusedOperations):
    """CNN operations whose batch norms have no affine parameters."""

    def __init__(self, edges: Sequence[MixedOperation], stride: int):
        shared_operations, stacked_operations, zeros = {}, {}, set()
        for name, plain in edges[0].operations.items():
            if isinstance(plain, Zero):
                zeros.add(name)
            elif (operation := _shared_form(plain)) is not None:
                shared_operations[name] = operation
            elif (stacked := stacked_form([edge.operations[name] for edge in edges])) is not None:
                stacked_operations[name] = stacked
        super().__init__(edges, {*zeros, *shared_operations, *stacked_operations}, stride)
        self.shared, self.stacked = nn.ModuleDict(shared_operations), nn.ModuleDict(stacked_operations)

    def forward(self, x: Tensor, extent: Tensor, weights: Tensor) -> Tensor:
        """See `FusedOperations`; x `(batch, channels, frequency, time)`, extent its mask `(batch, 1, 1, time)`.

        Under autocast the operations are computed in its precision, their weighted sums in the mask's.
        """
        x, mask = x.contiguous(memory_format=torch.channels_last), extent.permute(0, 2, 3, 1)
        outputs = {name: operation(x, extent).permute(0, 2, 3, 1) for name, operation in self.shared.items()}
        behind_relu = x.relu().permute(0, 2, 3, 1)
        repeated = repeat_for_edges(behind_relu, self.edges)
        branches = {name: operation(behind_relu, repeated, mask) for name, operation in self.stacked.items()}
        mask = mask[:, :, :: self.stride]
        dropped = self._dropped_skips(outputs, branches, mask) if self.skip_dropout and self.training else None
        if branches:
            sums = weighted_sum(list(branches.values()), self.weights_of(weights, branches), mask)
        else:
            shape = x[:, 0, :: self.stride, :: self.stride].shape
            sums = mask.new_zeros(*shape, self.edges * x.shape[1])
        if outputs:
            sums = _add_shared(sums, list(outputs.values()), self.weights_of(weights, outputs))
        if dropped is not None:
            sums = sums + (self.weights_of(weights, ["skip_connect"]) * dropped).flatten(3)
        return self.add_unfused(sums.permute(0, 3, 1, 2), x, extent, weights)

    def _dropped_skips(
        self, outputs: dict[str, Tensor], branches: dict[str, list[NormalisedBranch]], mask: Tensor
    ) -> Tensor | None:
        """Take the skip connection out of its sum; its output for each edge, with values dropped at random."""
        if "skip_connect" in outputs:
            skips = outputs.pop("skip_connect")[:, :, :, None].expand(-1, -1, -1, self.edges, -1)
        elif "skip_connect" in branches:
            weights = mask.new_ones(self.edges, 1)
            sums = weighted_sum([branches.pop("skip_connect")], weights, mask)
            skips = sums.unflatten(3, (self.edges, -1))
        else:
            return None
        return F.dropout(skips, self.skip_dropout)


def _add_shared(sums: Tensor, outputs: list[Tensor], weights: Tensor) -> Tensor:
    """Sums of the edges plus the outputs that are the same for all of them; weights `(edges, outputs)`.

    One product: outputs `(frames, outputs * channels)` by weights, which are the same for each channel.
    """
    frames = torch.cat([output.to(sums.dtype) for output in outputs], 3).flatten(0, 2)
    unit = torch.eye(outputs[0].shape[3], dtype=sums.dtype, device=sums.device)
    with without_autocast(sums.device.type):  # mixing weights are not to be rounded
        by_channel = torch.einsum("eo,ij->oiej", weights, unit).flatten(2).flatten(0, 1)
        return torch.addmm(sums.flatten(0, 2), frames, by_channel).view(sums.shape)


class _SharedAveragePool(AveragePool):
    """Equal to `AveragePool`: its sums are a depthwise convolution with ones, its counts a product of two axes'."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        with without_autocast(x.device.type):  # a pool, which autocast leaves as it is
            sums = depthwise(x, x.new_ones(x.shape[1], 1, *self.kernel), self.stride)
        bins = _counts(x.new_ones(1, 1, x.shape[2], 1), (self.kernel[0], 1), (self.stride, 1))
        frames = _counts(mask, (1, self.kernel[1]), (1, self.stride))
        mask = strided_mask(mask, self.stride)
        return self.norm(sums * (mask / (bins * frames).clamp(min=1)), mask)


def _counts(real: Tensor, kernel: tuple[int, int], strides: tuple[int, int]) -> Tensor:
    """How many real bins or frames, of ones and zeros, a window holds."""
    return F.avg_pool2d(real, kernel, strides, same_padding(kernel), divisor_override=1)


def _shared_form(plain: nn.Module) -> nn.Module | None:
    """The operation that stands for those of all edges, if it has no weights; None if it has."""
    if type(plain) in (Identity, MaxPool):
        return plain
    if type(plain) is AveragePool:
        return _SharedAveragePool(plain.norm.running_mean.numel(), plain.stride, over_time=plain.kernel[0] == 1)
    return None
