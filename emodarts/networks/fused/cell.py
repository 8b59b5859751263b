"""The fused cell: what `MixedCell` computes (DARTS, eq. 1), state by state in the place of node by node.

All edges that leave one state read the same values, so that their mixed operations are computed together: see
`mixed_cnn` and `mixed_sequence`, which share `FusedOperations`.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from emodarts.networks.cell import Cell, Extents, MixedCell, MixedOperation, States, channel_axis


class FusedOperations(nn.Module):
    """The mixed operations (DARTS, eq. 2) of all edges that leave one state; takes over their plain modules' weights.

    `fused` names the operations that the subclass computes together. Any other is a plain module for each edge.
    """

    def __init__(self, edges: Sequence[MixedOperation], fused: Collection[str], stride: int):
        super().__init__()
        names = tuple(edges[0].operations)
        self.edges, self.stride, self.skip_dropout = len(edges), stride, 0.0
        self.columns = {name: column for column, name in enumerate(names)}
        self.unfused = tuple(name for name in names if name not in fused)
        self.plain = nn.ModuleList(
            MixedOperation({name: edge.operations[name] for name in self.unfused}) for edge in edges
        )

    def forward(self, x: Tensor, extent: Tensor, weights: Tensor) -> Tensor:
        """A state -> `sum_o weights[e, o] * o(x)` of all edges e, one after the other along the channels.

        weights `(edges, operations)`; output `(batch, edges * channels, frequency, time)` or `(batch, time, edges *
        channels)`.
        """
        raise NotImplementedError

    def weights_of(self, weights: Tensor, names: Iterable[str]) -> Tensor:
        """The mixing weights of some operations, `(edges, names)`."""
        return select(weights, [self.columns[name] for name in names], 1)

    def add_unfused(self, sums: Tensor, x: Tensor, extent: Tensor, weights: Tensor) -> Tensor:
        """Sums of the fused operations -> sums of all operations."""
        if not self.unfused:
            return sums
        rows = self.weights_of(weights, self.unfused)
        return sums + torch.cat([e(x, extent, row) for e, row in zip(self.plain, rows, strict=True)], channel_axis(x))


FuseOperations = Callable[[Sequence[MixedOperation], int], FusedOperations]


class FusedCell(Cell):
    """Replaces a `MixedCell`, whose modules it takes over."""

    def __init__(self, plain: MixedCell, fuse: FuseOperations):
        first, second = plain.preprocess
        super().__init__((first, second))
        self.order = [row for rows in plain.leaving for row in rows]  # the edges, state by state
        self.counts = [len(rows) for rows in plain.leaving]
        edges = [cast(MixedOperation, edge) for edge in plain.edges]
        self.sources = nn.ModuleList(
            fuse([edges[row] for row in rows], plain.stride(source)) for source, rows in enumerate(plain.leaving)
        )

    def forward(self, inputs: States, extents: Extents, weights: Tensor) -> Tensor:
        """See `MixedCell.forward`."""
        states = self.input_states((_channels_last(inputs[0]), _channels_last(inputs[1])), extents)
        axis, weights_by_source = channel_axis(states[0]), select(weights, self.order, 0).split(self.counts)
        sums: Tensor | None = None  # of the nodes that are not whole yet, which are those that the next state reaches
        for source, operations in enumerate(self.sources):
            terms = operations(states[source], extents[1] if source < 2 else extents[2], weights_by_source[source])
            sums = terms if sums is None else sums + terms
            if source:
                width = sums.shape[axis] // self.counts[source]
                node, sums = sums.split([width, sums.shape[axis] - width], axis)
                states.append(_channels_last(node))
        return torch.cat(states[2:], axis)


def _channels_last(x: Tensor) -> Tensor:
    """An image in the memory layout in which its operations are fast; a sequence as it is."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def select(weights: Tensor, numbers: Sequence[int], dim: int) -> Tensor:
    """Some rows (dim 0) or columns (dim 1) of a matrix: a view, if they are neighbours.

    A list as an index would be copied to a GPU at each call.
    """
    if list(numbers) == list(range(numbers[0], numbers[0] + len(numbers))):
        return weights.narrow(dim, numbers[0], len(numbers))
    parts = weights.unbind(dim)
    return torch.stack([parts[number] for number in numbers], dim)
