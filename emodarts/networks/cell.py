"""Cells: small directed acyclic graphs of operations, for images and for sequences alike (DARTS, Liu et al. 2019, 2.1).

A cell has two input states and some nodes, the states after them; its output is the concatenation of the nodes. In the
supernet every edge is a mixed operation (`MixedCell`), in a derived network each node has its two (`DerivedCell`).
States are images `(batch, channels, frequency, time)` or sequences `(batch, time, channels)`; `extent` is what an
operation takes beside its state: the mask `(batch, 1, 1, time)` of an image, the lengths `(batch,)` of a sequence.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.genotype import CellGenotype
from emodarts.networks.operations import Identity

BuildOperation = Callable[[str, int], nn.Module]  # (operation, stride) -> module
Preprocess = tuple[nn.Module, nn.Module]  # what brings a cell's two inputs to its channels and resolution
States = tuple[Tensor, Tensor]
Extents = tuple[Tensor, Tensor, Tensor]  # of a cell's first input, of its second, of its nodes


def edges_of(nodes: int) -> Iterator[tuple[int, int]]:
    """Every edge of a cell in the order of the alphas' rows: (node, source state)."""
    return ((node, source) for node in range(nodes) for source in range(node + 2))


def channel_axis(x: Tensor) -> int:
    """1 for images `(batch, channels, frequency, time)`, 2 for sequences `(batch, time, channels)`."""
    return 1 if x.dim() == 4 else 2


class MixedOperation(nn.Module):
    """The mixed operation of one edge: the weighted sum of all its operations (DARTS, Liu et al. 2019, eq. 2).

        o^(i,j)(x) = sum_o  softmax(alpha^(i,j))_o  o(x)

    The supernet computes the softmax, or another relaxation, for all edges at once and passes its values, the mixing
    weights. `skip_dropout` is the probability with which values of a skip connection are dropped in training (P-DARTS,
    Chen et al. 2019).
    """

    def __init__(self, operations: Mapping[str, nn.Module]):
        super().__init__()
        self.operations = nn.ModuleDict(operations)
        self.skip_dropout = 0.0

    def forward(self, x: Tensor, extent: Tensor, weights: Tensor) -> Tensor:
        """State i -> its part of node j; `weights (operations,)`."""
        return _sum(
            [weight * self._output(name, x, extent) for weight, name in zip(weights, self.operations, strict=True)]
        )

    def _output(self, name: str, x: Tensor, extent: Tensor) -> Tensor:
        output: Tensor = self.operations[name](x, extent)
        if name == "skip_connect" and self.skip_dropout:
            return F.dropout(output, self.skip_dropout, self.training)
        return output


class Cell(nn.Module):
    """What all cells have: modules that bring the two input states to the cell's channels and resolution."""

    def __init__(self, preprocess: Preprocess):
        super().__init__()
        self.preprocess = nn.ModuleList(preprocess)

    def input_states(self, inputs: States, extents: Extents) -> list[Tensor]:
        """The first two states."""
        return [module(x, extent) for module, x, extent in zip(self.preprocess, inputs, extents[:2], strict=True)]


class MixedCell(Cell):
    """A cell of the supernet: each node is the sum of the mixed operations on all states before it (DARTS, eq. 1).

        x^(j) = sum_{i<j}  o^(i,j)(x^(i))

    This is the plain form, a module for each operation of each edge. `fused.cell.FusedCell` computes the same faster.
    """

    def __init__(
        self, nodes: int, operations: Sequence[str], build: BuildOperation, preprocess: Preprocess, reduction: bool
    ):
        super().__init__(preprocess)
        self.nodes, self.reduction = nodes, reduction
        sources = [source for _, source in edges_of(nodes)]
        self.leaving = [[row for row, s in enumerate(sources) if s == source] for source in range(nodes + 1)]
        edges = {}
        for source, rows in enumerate(self.leaving):  # weights are drawn state by state
            for row in rows:
                edges[row] = MixedOperation({name: build(name, self.stride(source)) for name in operations})
        self.edges = nn.ModuleList(edges[row] for row in range(len(edges)))

    def stride(self, source: int) -> int:
        """The stride of the operations on a state: a reduction cell halves its two inputs."""
        return 2 if self.reduction and source < 2 else 1

    def forward(self, inputs: States, extents: Extents, weights: Tensor) -> Tensor:
        """Two states -> the concatenated nodes; mixing weights `(edges, operations)`, rows as in `edges_of`."""
        states = self.input_states(inputs, extents)
        edges = zip(self.edges, weights, strict=True)
        for node in range(self.nodes):
            terms = []
            for source in range(node + 2):
                mixed_operation, row = next(edges)
                terms.append(mixed_operation(states[source], extents[1] if source < 2 else extents[2], row))
            states.append(_sum(terms))
        return torch.cat(states[2:], channel_axis(states[0]))


class PathCell(MixedCell):
    """A `MixedCell` that computes what has a weight alone: of a single path two operations a node (Guo et al. 2020).

    Operations off the path get no gradient, not even one of zero, and keep their batch statistics. The weights are on
    the CPU: what is computed follows from their values.
    """

    def forward(self, inputs: States, extents: Extents, weights: Tensor) -> Tensor:
        """Two states -> the concatenated nodes; mixing weights `(edges, operations)`, mostly 0."""
        states = self.input_states(inputs, extents)
        edges = zip(cast(Iterable[MixedOperation], self.edges), weights.tolist(), strict=True)
        for node in range(self.nodes):
            terms = []
            for source in range(node + 2):
                mixed_operation, row = next(edges)
                extent = extents[1] if source < 2 else extents[2]
                named = zip(row, mixed_operation.operations.values(), strict=True)
                terms += [weight * operation(states[source], extent) for weight, operation in named if weight]
            states.append(_sum(terms))
        return torch.cat(states[2:], channel_axis(states[0]))


def _sum(terms: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.add, terms)


class DerivedCell(Cell):
    """A cell of a discrete network: the edges that a genotype kept; drop-path on all but identities."""

    def __init__(self, genotype: CellGenotype, build: BuildOperation, preprocess: Preprocess, reduction: bool):
        super().__init__(preprocess)
        self.sources = [[edge.source for edge in edges] for edges in genotype]
        self.operations = nn.ModuleList(
            nn.ModuleList(build(edge.operation, 2 if reduction and edge.source < 2 else 1) for edge in edges)
            for edges in genotype
        )

    def forward(self, inputs: States, extents: Extents, drop_path: float = 0.0) -> Tensor:
        """Two states -> the concatenated nodes."""
        states = self.input_states(inputs, extents)
        for sources, operations in zip(self.sources, self.operations, strict=True):
            terms = []
            for source, operation in zip(sources, list(operations.children()), strict=True):
                term = operation(states[source], extents[1] if source < 2 else extents[2])
                identity = isinstance(operation, Identity)
                terms.append(term if identity else _drop_path(term, drop_path, self.training))
            states.append(_sum(terms))
        return torch.cat(states[2:], channel_axis(states[0]))


def _drop_path(x: Tensor, probability: float, training: bool) -> Tensor:
    """Drop the whole path for some utterances of the batch (Larsson et al. 2017), scaling the others up."""
    if not training or probability == 0:
        return x
    keep = 1 - probability
    shape = (x.shape[0],) + (1,) * (x.dim() - 1)
    return x * torch.bernoulli(torch.full(shape, keep, device=x.device, dtype=x.dtype)) / keep
