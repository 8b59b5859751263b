"""The mixed CNN operations of all edges that leave one state, computed together.

Equal to a `MixedOperation` for each edge in a fraction of the time: what has no weights is computed once and shared by
the edges, convolutions are stacked (see `convolutions`), and what has no fused form stays a module for each edge.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.cell import BuildOperation, MixedOperation
from emodarts.networks.fused.cell import FusedOperations
from emodarts.networks.fused.convolutions import NormalisedBranch, Stacked, for_each_edge, stack, weighted_sum
from emodarts.networks.fused.pools import shared
from emodarts.networks.operations import Zero


class FusedCnnOperations(FusedOperations):
    """CNN operations whose batch norms have no affine parameters."""

    def __init__(self, edges: Sequence[MixedOperation], build: BuildOperation, stride: int):
        shared_operations, stacked_operations, zeros = {}, {}, set()
        for name, plain in edges[0].operations.items():
            if isinstance(plain, Zero):
                zeros.add(name)
            elif (operation := shared(plain)) is not None:
                shared_operations[name] = operation
            elif (stacked := stack([edge.operations[name] for edge in edges])) is not None:
                stacked_operations[name] = stacked
        super().__init__(edges, {*zeros, *shared_operations, *stacked_operations}, build, stride)
        self.shared, self.stacked = nn.ModuleDict(shared_operations), nn.ModuleDict(stacked_operations)

    def forward(self, x: Tensor, extent: Tensor, weights: Tensor) -> Tensor:
        """See `FusedOperations`; x `(batch, channels, frequency, time)`, extent its mask `(batch, 1, 1, time)`.

        Under autocast the operations are computed in its precision, their weighted sums in the mask's.
        """
        x, mask = x.contiguous(memory_format=torch.channels_last), extent.permute(0, 2, 3, 1)
        same = {name: operation(x, extent).permute(0, 2, 3, 1) for name, operation in self.shared.items()}
        behind_relu = x.relu().permute(0, 2, 3, 1)
        repeated = for_each_edge(behind_relu, self.edges)
        stacked = {name: operation(behind_relu, repeated, mask) for name, operation in self.stacked.items()}
        mask = mask[:, :, :: self.stride]
        dropped = self._dropped_skips(same, stacked, mask) if self.skip_dropout and self.training else None

        shape = (*x[:, 0, :: self.stride, :: self.stride].shape, self.edges * x.shape[1])
        if stacked:
            sums = weighted_sum(list(stacked.values()), self.weights_of(weights, stacked), mask, self.training)
        else:
            sums = mask.new_zeros(shape)
        if same:  # one product: outputs (frames, operations * channels) by weights, the same for each channel
            outputs = torch.cat([output.to(mask.dtype) for output in same.values()], 3).flatten(0, 2)
            unit = torch.eye(x.shape[1], dtype=mask.dtype, device=x.device)
            with torch.autocast(x.device.type, enabled=False):  # mixing weights are not to be rounded
                by_channel = torch.einsum("eo,ij->oiej", self.weights_of(weights, same), unit).flatten(2).flatten(0, 1)
                sums = torch.addmm(sums.flatten(0, 2), outputs, by_channel).view(shape)
        if dropped is not None:
            sums = sums + (self.weights_of(weights, ["skip_connect"]) * dropped).flatten(3)
        return self.add_unfused(sums.permute(0, 3, 1, 2), x, extent, weights)

    def _dropped_skips(
        self, same: dict[str, Tensor], stacked: dict[str, list[NormalisedBranch]], mask: Tensor
    ) -> Tensor | None:
        """Take the skip connection out of its sum; its output for each edge, with values dropped at random."""
        if "skip_connect" in same:
            skips = same.pop("skip_connect")[:, :, :, None].expand(-1, -1, -1, self.edges, -1)
        elif "skip_connect" in stacked:
            alone = mask.new_ones(self.edges, 1)
            skips = weighted_sum([stacked.pop("skip_connect")], alone, mask, self.training).unflatten(
                3, (self.edges, -1)
            )
        else:
            return None
        return F.dropout(skips, self.skip_dropout)

    def write(self, name: str, edge: int, operation: nn.Module) -> None:
        """See `FusedOperations`."""
        if name in self.shared:
            operation.load_state_dict(self.shared[name].state_dict())
        elif name in self.stacked:
            cast(Stacked, self.stacked[name]).unstack(edge, operation)
