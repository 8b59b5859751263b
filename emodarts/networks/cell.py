"""Cells: small directed graphs of operations, for images and for sequences alike.

A cell has two input states and some nodes; each node is the sum of operations on earlier states; the output is the
concatenation of the nodes. In the supernet every edge is a mixed operation, in a derived network each node has its two.
`extent` is the mask of an image cell, the lengths of a sequence cell: what its operations take beside x.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.genotype import CellGenotype

BuildOperation = Callable[[str, int], nn.Module]  # (operation, stride) -> module


def edges_of(nodes: int) -> Iterator[tuple[int, int]]:
    """Every edge of a cell in the order of the alphas: (node, source state)."""
    return ((node, source) for node in range(nodes) for source in range(node + 2))


def channel_axis(x: Tensor) -> int:
    """1 for images `(batch, channels, F, T)`, 2 for sequences `(batch, time, width)`."""
    return 1 if x.dim() == 4 else 2


def select(weights: Tensor, numbers: Sequence[int], dim: int) -> Tensor:
    """Some rows (dim 0) or columns (dim 1) of a matrix: a view, if they are neighbours.

    A list as an index would be copied to a GPU at each call.
    """
    if list(numbers) == list(range(numbers[0], numbers[0] + len(numbers))):
        return weights.narrow(dim, numbers[0], len(numbers))
    parts = weights.unbind(dim)
    return torch.stack([parts[number] for number in numbers], dim)


class MixedOperations(nn.Module):
    """The mixed operations of all edges that leave one state of a search cell (DARTS, Liu et al. 2019, eq. 2).

    This is the plain form, a module for each operation of each edge. What is computed faster for all edges together
    (see `cnn_edges`, `sequence_edges`) keeps this interface. `skip_dropout` is the probability with which values of a
    skip connection are dropped in training (P-DARTS, Chen et al. 2019).
    """

    def __init__(self, operations: tuple[str, ...], build: BuildOperation, edges: int, stride: int):
        super().__init__()
        self.names, self.skip_dropout = operations, 0.0
        self.columns = {name: column for column, name in enumerate(operations)}
        self.operations = nn.ModuleList(
            nn.ModuleDict({name: build(name, stride) for name in operations}) for _ in range(edges)
        )

    def forward(self, x: Tensor, extent: Tensor, weights: Tensor) -> Tensor:
        """`sum_o weights[e, o] * o(x)` of all edges e, one after the other along the channels.

        weights `(edges, operations)`; output `(batch, edges * channels, F, T)` or `(batch, time, edges * width)`.
        """
        sums = []
        for row, operations in zip(weights, self.operations, strict=True):
            named = zip(self.names, operations.children(), strict=True)
            sums.append(_sum([w * self._output(n, o, x, extent) for w, (n, o) in zip(row, named, strict=True)]))
        return torch.cat(sums, channel_axis(x))

    def _output(self, name: str, operation: nn.Module, x: Tensor, extent: Tensor) -> Tensor:
        y: Tensor = operation(x, extent)
        return F.dropout(y, self.skip_dropout, self.training) if name == "skip_connect" and self.skip_dropout else y

    def _columns(self, weights: Tensor, names: Iterable[str]) -> Tensor:
        """The weights of some operations, `(edges, names)`."""
        return select(weights, [self.columns[name] for name in names], 1)

    def extract(self, edge: int, operation: str) -> nn.Module:
        """One operation of one edge (counted among this state's edges) as a module with a copy of its weights."""
        return copy.deepcopy(self.operations.get_submodule(f"{edge}.{operation}"))


BuildEdges = Callable[
    [int, int], MixedOperations
]  # (edges that leave the state, stride) -> the module that computes them


class SearchCell(nn.Module):
    """A cell of the supernet: every operation on every edge, computed state by state."""

    def __init__(self, nodes: int, build: BuildEdges, preprocess: tuple[nn.Module, nn.Module], reduction: bool = False):
        super().__init__()
        self.nodes = nodes
        self.preprocess = nn.ModuleList(preprocess)
        sources = [source for _, source in edges_of(nodes)]
        self.counts = [sources.count(source) for source in range(nodes + 1)]
        self.order = sorted(range(len(sources)), key=sources.__getitem__)  # the edges, state by state
        self.sources = nn.ModuleList(
            build(count, 2 if reduction and source < 2 else 1) for source, count in enumerate(self.counts)
        )

    def forward(self, inputs: tuple[Tensor, Tensor], extents: tuple[Tensor, Tensor, Tensor], weights: Tensor) -> Tensor:
        """Two states -> the concatenated nodes. `extents`: of each input, and of the nodes; weights `(edges, ops)`."""
        inputs = (_channels_last(inputs[0]), _channels_last(inputs[1]))
        states = [pre(x, e) for pre, x, e in zip(self.preprocess, inputs, extents, strict=False)]
        axis, mixing = channel_axis(states[0]), select(weights, self.order, 0).split(self.counts)
        sums: Tensor | None = None  # of the nodes that are not whole yet, which are those that the next state reaches
        for source, edges in enumerate(self.sources):
            terms = edges(states[source], extents[1] if source < 2 else extents[2], mixing[source])
            sums = terms if sums is None else sums + terms
            if source:
                width = sums.shape[axis] // self.counts[source]
                node, sums = sums.split([width, sums.shape[axis] - width], axis)
                states.append(_channels_last(node))
        return torch.cat(states[2:], axis)


def _channels_last(x: Tensor) -> Tensor:
    """An image in the layout in which its operations are fast; a sequence as it is."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _sum(terms: list[Tensor]) -> Tensor:
    if len(terms) == 1:
        return terms[0]
    total = terms[0] + terms[1]
    for term in terms[2:]:
        total += term
    return total


class DerivedCell(nn.Module):
    """A cell of a discrete network: the edges that a genotype kept; drop-path on all but identities."""

    def __init__(
        self,
        genotype: CellGenotype,
        build: BuildOperation,
        preprocess: tuple[nn.Module, nn.Module],
        reduction: bool = False,
    ):
        super().__init__()
        self.sources = [[edge.source for edge in edges] for edges in genotype]
        self.preprocess = nn.ModuleList(preprocess)
        self.operations = nn.ModuleList(
            nn.ModuleList(build(edge.operation, 2 if reduction and edge.source < 2 else 1) for edge in edges)
            for edges in genotype
        )
        self.identities = [
            [edge.operation == "skip_connect" and not (reduction and edge.source < 2) for edge in edges]
            for edges in genotype
        ]

    def forward(
        self, inputs: tuple[Tensor, Tensor], extents: tuple[Tensor, Tensor, Tensor], drop_path: float = 0.0
    ) -> Tensor:
        """Two states -> the concatenated nodes; see `SearchCell.forward`."""
        states = [pre(x, e) for pre, x, e in zip(self.preprocess, inputs, extents, strict=False)]
        for sources, operations, identities in zip(self.sources, self.operations, self.identities, strict=True):
            terms = []
            for source, operation, identity in zip(sources, list(operations.children()), identities, strict=True):
                term = operation(states[source], extents[1] if source < 2 else extents[2])
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
