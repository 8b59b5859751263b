"""Cells: small directed graphs of operations, for images and for sequences alike.

A cell has two input states and some nodes; each node is the sum of operations on earlier states; the output is the
concatenation of the nodes. In the supernet every edge is a mixed operation, in a derived network each node has its two.
`extent` is the mask of an image cell, the lengths of a sequence cell: what its operations take beside x.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from emodarts.networks.genotype import CellGenotype

BuildOperation = Callable[[str, int], nn.Module]  # (operation, stride) -> module


def edges_of(nodes: int) -> Iterator[tuple[int, int]]:
    """Every edge of a cell in the order of the alphas: (node, source state)."""
    return ((node, source) for node in range(nodes) for source in range(node + 2))


class MixedOperation(nn.Module):
    """The weighted sum of all operations of an edge (DARTS, Liu et al. 2019, eq. 2)."""

    def __init__(self, operations: tuple[str, ...], build: BuildOperation, stride: int):
        super().__init__()
        self.operations = nn.ModuleList(build(name, stride) for name in operations)

    def forward(self, x: Tensor, extent: Tensor, weights: Tensor) -> Tensor:
        """`sum_o weights[o] * o(x)`; weights `(operations,)`."""
        return sum((w * op(x, extent) for w, op in zip(weights, self.operations, strict=True)), start=torch.zeros(()))


class SearchCell(nn.Module):
    """A cell of the supernet: a mixed operation on every edge."""

    def __init__(
        self,
        nodes: int,
        operations: tuple[str, ...],
        build: BuildOperation,
        preprocess: tuple[nn.Module, nn.Module],
        reduction: bool = False,
    ):
        super().__init__()
        self.nodes = nodes
        self.preprocess = nn.ModuleList(preprocess)
        self.edges = nn.ModuleList(
            MixedOperation(operations, build, 2 if reduction and source < 2 else 1) for _, source in edges_of(nodes)
        )

    def forward(self, inputs: tuple[Tensor, Tensor], extents: tuple[Tensor, Tensor, Tensor], weights: Tensor) -> Tensor:
        """Two states -> the concatenated nodes. `extents`: of each input, and of the nodes; weights `(edges, ops)`."""
        states = [pre(x, e) for pre, x, e in zip(self.preprocess, inputs, extents, strict=False)]
        mixed = iter(zip(self.edges, weights, strict=True))
        for node in range(self.nodes):
            terms = []
            for source in range(node + 2):
                edge, weight = next(mixed)
                terms.append(edge(states[source], extents[1] if source < 2 else extents[2], weight))
            states.append(torch.stack(terms).sum(0) if len(terms) > 2 else terms[0] + terms[1])
        return torch.cat(states[2:], self._axis(states[0]))

    @staticmethod
    def _axis(x: Tensor) -> int:
        return 1 if x.dim() == 4 else 2


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
            states.append(torch.stack(terms).sum(0) if len(terms) > 1 else terms[0])
        return torch.cat(states[2:], SearchCell._axis(states[0]))


def _drop_path(x: Tensor, probability: float, training: bool) -> Tensor:
    """Drop the whole path for some utterances of the batch (Larsson et al. 2017), scaling the others up."""
    if not training or probability == 0:
        return x
    keep = 1 - probability
    shape = (x.shape[0],) + (1,) * (x.dim() - 1)
    return x * torch.bernoulli(torch.full(shape, keep, device=x.device, dtype=x.dtype)) / keep
