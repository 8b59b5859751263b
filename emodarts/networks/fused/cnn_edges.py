"""The mixed CNN operations of all edges that leave one state, computed together.

Equal to a module for each operation of each edge (`cell.Edges`) in a fraction of the time: what has no weights is
computed once and shared by the edges, convolutions are stacked (see `convolutions`), and what has no joint form stays
a module for each edge.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.cell import MixedOperations
from emodarts.networks.fused.convolutions import NormalisedBranch, Stacked, for_each_edge, stack, weighted_sum
from emodarts.networks.fused.pools import shared
from emodarts.networks.operations import CNN_OPERATIONS


class CnnEdges(MixedOperations):
    """`operations` on `channels` channels for each of `edges` edges; batch norms without affine parameters.

    `over_time`: kernels and pools over time alone. Weights are drawn as those of the plain modules, in their order.
    """

    def __init__(self, operations: tuple[str, ...], channels: int, edges: int, stride: int, over_time: bool = False):
        def build(name: str, stride: int) -> nn.Module:
            return CNN_OPERATIONS[name](channels, stride, False, over_time)

        super().__init__(operations, build, edges, stride)
        self.edges, self.stride, self._build = edges, stride, build
        self.shared = nn.ModuleDict()
        self.stacked = nn.ModuleDict()
        for name in operations:
            plain = [self.operations.get_submodule(f"{edge}.{name}") for edge in range(edges)]
            if (one := shared(plain[0])) is not None:
                self.shared[name] = one
            elif (joint := stack(plain)) is not None:
                self.stacked[name] = joint
        together = {"none", *self.shared, *self.stacked}
        self.names = tuple(name for name in operations if name not in together)
        for edge in range(edges):
            left = {name: self.operations.get_submodule(f"{edge}.{name}") for name in self.names}
            self.operations[edge] = nn.ModuleDict(left)

    def forward(self, x: Tensor, extent: Tensor, weights: Tensor) -> Tensor:
        """See `Edges`; x `(batch, channels, F, T)`, extent its mask.

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
            sums = weighted_sum(list(stacked.values()), self._columns(weights, stacked), mask, self.training)
        else:
            sums = mask.new_zeros(shape)
        if same:  # one product: outputs (frames, operations * channels) by weights, the same for each channel
            outputs = torch.cat([output.to(mask.dtype) for output in same.values()], 3).flatten(0, 2)
            unit = torch.eye(x.shape[1], dtype=mask.dtype, device=x.device)
            with torch.autocast(x.device.type, enabled=False):  # mixing weights are not to be rounded
                by_channel = torch.einsum("eo,ij->oiej", self._columns(weights, same), unit).flatten(2).flatten(0, 1)
                sums = torch.addmm(sums.flatten(0, 2), outputs, by_channel).view(shape)
        if dropped is not None:
            sums = sums + (self._columns(weights, ["skip_connect"]) * dropped).flatten(3)
        sums = sums.permute(0, 3, 1, 2)
        if self.names:
            sums = sums + super().forward(x, extent, self._columns(weights, self.names))
        return sums

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

    def extract(self, edge: int, operation: str) -> nn.Module:
        """One operation of one edge as its plain module, with a copy of its weights and running statistics."""
        if operation in self.names:
            return super().extract(edge, operation)
        with torch.random.fork_rng(devices=[]):
            plain = self._build(operation, self.stride)
        if operation in self.shared:
            one = self.shared.get_submodule(operation)
            plain.to(next(one.buffers(), None)).load_state_dict(one.state_dict())
        elif operation in self.stacked:
            joint = cast(Stacked, self.stacked.get_submodule(operation))
            joint.unstack(edge, plain.to(next(joint.buffers())))
        return plain.train(self.training)
