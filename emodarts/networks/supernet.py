"""The joint supernet: every operation on every edge, mixed by architecture parameters (alphas).

Alphas of normal, reduction and sequence cells belong to one optimiser and one loss: CNN and SeqNN operations are
chosen together (emoDARTS). Derivation keeps each node's two strongest inputs, `none` excluded (Liu et al. 2019, 2.4).
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from emodarts.networks.cell import BuildOperation, MixedCell, MixedOperation, edges_of
from emodarts.networks.fused.cell import FusedCell, FusedOperations
from emodarts.networks.fused.mixed_cnn import FusedCnnOperations
from emodarts.networks.fused.mixed_sequence import FusedSequenceOperations
from emodarts.networks.genotype import KINDS, CellGenotype, Edge, Genotype
from emodarts.networks.network import Network, NetworkShape


class Supernet(Network):
    """The supernet; `alphas` maps N, R, S to parameters `(edges, operations)` of that kind of cell.

    `relaxation`: the mixing weights of an edge are the alphas' softmax (DARTS, Liu et al. 2019, eq. 2), or each alpha's
    sigmoid, so that no operation gains by another's loss (FairDARTS, Chu et al. 2020). `fused`: its cells are computed
    fast (`networks.fused`); otherwise they are the plain ones, with the same weights. `held` maps kinds to
    mixing weights that stand in the place of the alphas' own.
    """

    def __init__(
        self,
        shape: NetworkShape,
        cnn_operations: tuple[str, ...],
        sequence_operations: tuple[str, ...],
        generator: torch.Generator | None = None,
        relaxation: str = "softmax",
        fused: bool = True,
    ):
        def build_cell(kind: str, build: BuildOperation, preprocess: tuple[nn.Module, nn.Module]) -> nn.Module:
            if kind == "S":
                plain = MixedCell(shape.sequence_nodes, sequence_operations, build, preprocess)
                return FusedCell(plain, FusedSequenceOperations) if fused else plain
            plain = MixedCell(shape.nodes, cnn_operations, build, preprocess, kind == "R")
            return FusedCell(plain, FusedCnnOperations) if fused else plain

        # Affine norms would undo the scale that the mixing weights give.
        super().__init__(shape, build_cell, shape.nodes, shape.sequence_nodes, affine=False)
        self.cnn_operations, self.sequence_operations = cnn_operations, sequence_operations
        self.relaxation, self.skip_dropout = relaxation, 0.0
        cnn_edges, sequence_edges = len(list(edges_of(shape.nodes))), len(list(edges_of(shape.sequence_nodes)))
        sizes = {
            "N": (cnn_edges, len(cnn_operations)),
            "R": (cnn_edges, len(cnn_operations)),
            "S": (sequence_edges, len(sequence_operations)),
        }
        self.alphas = nn.ParameterDict(
            {kind: nn.Parameter(1e-3 * torch.randn(size, generator=generator)) for kind, size in sizes.items()}
        )
        for kind, alpha in self.alphas.items():
            self.register_buffer(f"start_{kind}", alpha.detach().clone())
        self.held: dict[str, Tensor] = {}

    def forward(self, x: Tensor, lengths: Tensor, arguments: dict[str, Any] | None = None) -> Tensor:
        """Logits `(batch, classes)` under the present mixing weights."""
        return super().forward(x, lengths, {kind: (weights,) for kind, weights in self.weights().items()})

    def weights(self) -> dict[str, Tensor]:
        """The mixing weights of each kind of cell: those held, or what the relaxation makes of the alphas."""
        return {kind: self.held[kind] if kind in self.held else self._relaxed(a) for kind, a in self.alphas.items()}

    def _relaxed(self, alpha: Tensor) -> Tensor:
        return alpha.softmax(1) if self.relaxation == "softmax" else alpha.sigmoid()

    @property
    def free_kinds(self) -> tuple[str, ...]:
        """The kinds whose alphas count: there, and not held."""
        return tuple(k for k in self.shape.kinds if k not in self.held)

    def operations_of(self, kind: str) -> tuple[str, ...]:
        """The operations of a kind of cell, in the order of the alphas' columns."""
        return self.sequence_operations if kind == "S" else self.cnn_operations

    def architecture_parameters(self) -> list[nn.Parameter]:
        """The alphas that count."""
        return [self.alphas[kind] for kind in self.free_kinds]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything but the alphas."""
        return [p for name, p in self.named_parameters() if not name.startswith("alphas.")]

    def mixing(self, genotype: Genotype) -> dict[str, Tensor]:
        """The mixing weights that make this supernet the genotype's network: 1 at what it kept, else 0."""
        cells = genotype.cells
        return {kind: cell_weights(cells[kind], self.operations_of(kind)).to(a) for kind, a in self.alphas.items()}

    @contextmanager
    def mixed_by(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Within the block these kinds are mixed by the given weights `(edges, operations)`."""
        before = self.held
        self.held = {**before, **weights}
        try:
            yield
        finally:
            self.held = before

    def set_skip_dropout(self, probability: float) -> None:
        """Drop values of skip connections in training with this probability (P-DARTS, Chen et al. 2019)."""
        self.skip_dropout = probability
        for module in self.modules():
            if isinstance(module, MixedOperation | FusedOperations):
                module.skip_dropout = probability

    def unfused(self) -> "Supernet":
        """The same supernet of plain cells, with copies of all weights, running statistics and alphas."""
        plain = copy.deepcopy(self)
        for cells in (plain.cells, plain.sequence_cells):
            for number, cell in enumerate(cells):
                if isinstance(cell, FusedCell):
                    cells[number] = cell.unfused()
        return plain

    def derive(self) -> Genotype:
        """The discrete architecture of the present mixing weights."""
        return self.genotype_of(self.weights())

    def genotype_of(self, weights: Mapping[str, Tensor]) -> Genotype:
        """The discrete architecture of some mixing weights."""
        return Genotype.from_cells(
            {kind: derive_cell(weights[kind].detach().cpu(), self.operations_of(kind)) for kind in KINDS}
        )

    @torch.no_grad()
    def alpha_figures(self) -> dict[str, float]:
        """How decided the alphas are: means over the edges of the kinds that count, and skips derived.

        Entropy (nats) of an edge's weights, as parts of their sum; margin between its two largest; `moved`, the root
        mean square distance of the alphas from their start; `skips`, skip connections in the derived cells.
        """
        present = self.weights()
        weights = [present[kind] for kind in self.free_kinds]
        shares = [w / w.sum(1, keepdim=True) for w in weights]
        entropy = torch.cat([torch.special.entr(share).sum(1) for share in shares])
        largest = [w.topk(2).values.unbind(1) for w in weights if w.shape[1] > 1]
        margins = [first - second for first, second in largest]
        margin = torch.cat(margins) if margins else entropy.new_zeros(1)  # there is one operation alone
        moved = torch.cat([(self.alphas[kind] - getattr(self, f"start_{kind}")).flatten() for kind in self.free_kinds])
        return {
            "entropy": float(entropy.mean()),
            "top2_margin": float(margin.mean()),
            "moved": float(moved.square().mean().sqrt()),
            "skip_connections": sum(self.skips(self.derive()).values()),
        }

    def skips(self, genotype: Genotype) -> dict[str, int]:
        """Skip connections in each kind of cell that the network has."""
        cells = genotype.cells
        return {k: sum(e.operation == "skip_connect" for node in cells[k] for e in node) for k in self.shape.kinds}


def derive_cell(weights: Tensor, operations: tuple[str, ...]) -> CellGenotype:
    """Each node's two strongest inputs with their strongest operation; weights `(edges, operations)`."""
    allowed = [number for number, name in enumerate(operations) if name != "none"]
    best, choice = weights[:, allowed].max(1)
    nodes: list[tuple[Edge, ...]] = []
    first = 0
    while first < len(weights):
        sources = range(len(nodes) + 2)
        strongest = sorted(sources, key=lambda s: (-float(best[first + s]), s))[:2]
        nodes.append(tuple(Edge(operations[allowed[int(choice[first + s])]], s) for s in sorted(strongest)))
        first += len(sources)
    return tuple(nodes)


def cell_weights(cell: CellGenotype, operations: tuple[str, ...]) -> Tensor:
    """1 at the operations that a cell kept, 0 elsewhere: `(edges, operations)`. The reverse of `derive_cell`."""
    edges = list(edges_of(len(cell)))
    weights = torch.zeros(len(edges), len(operations))
    for node, kept in enumerate(cell):
        for edge in kept:
            weights[edges.index((node, edge.source)), operations.index(edge.operation)] = 1.0
    return weights
