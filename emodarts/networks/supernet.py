"""The joint supernet: every operation on every edge, mixed by architecture parameters (alphas).

Alphas of normal, reduction and sequence cells belong to one optimiser and one loss: CNN and sequence operations are
chosen together (emoDARTS). Derivation keeps each node's two strongest inputs, `none` excluded (Liu et al. 2019, sec.
2.4).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from emodarts.networks.cell import BuildOperation, MixedCell, MixedOperation, Preprocess, edges_of
from emodarts.networks.fused.cell import FusedCell, FusedOperations
from emodarts.networks.fused.mixed_cnn import FusedCnnOperations
from emodarts.networks.fused.mixed_sequence import FusedSequenceOperations
from emodarts.networks.genotype import KINDS, CellGenotype, Edge, Genotype
from emodarts.networks.network import Network, NetworkShape


class Supernet(Network):
    """The supernet; `alphas` maps N, R, S to parameters `(edges, operations)` of that kind of cell.

    `relaxation`: the mixing weights of an edge are the alphas' softmax (DARTS, Liu et al. 2019, eq. 2), or each alpha's
    sigmoid, so that no operation gains by another's loss (FairDARTS, Chu et al. 2020). `fixed_weights` maps kinds to
    mixing weights that stand in the place of the alphas' own. `fused`: the cells are computed fast (`networks.fused`);
    otherwise they are the plain ones of `networks.cell`, with the same weights.
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
        operations = {"N": cnn_operations, "R": cnn_operations, "S": sequence_operations}

        def build_cell(kind: str, build: BuildOperation, preprocess: Preprocess) -> nn.Module:
            plain = MixedCell(shape.nodes_of(kind), operations[kind], build, preprocess, reduction=kind == "R")
            return FusedCell(plain, FusedSequenceOperations if kind == "S" else FusedCnnOperations) if fused else plain

        # Affine norms would undo the scale that the mixing weights give.
        super().__init__(shape, build_cell, shape.nodes, shape.sequence_nodes, affine=False)
        self.cnn_operations, self.sequence_operations = cnn_operations, sequence_operations
        self.relaxation, self.skip_dropout = relaxation, 0.0
        self.alphas = nn.ParameterDict()
        for kind in KINDS:
            size = len(list(edges_of(shape.nodes_of(kind)))), len(operations[kind])
            self.alphas[kind] = nn.Parameter(1e-3 * torch.randn(size, generator=generator))
        for kind, alpha in self.alphas.items():
            self.register_buffer(f"start_{kind}", alpha.detach().clone())
        self.fixed_weights: dict[str, Tensor] = {}

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(batch, classes)` of `(batch, channels, frequency, time)` under the present mixing weights."""
        return self.classify(x, lengths, self.mixing_weights())

    def mixing_weights(self) -> dict[str, Tensor]:
        """The mixing weights of each kind of cell: the fixed ones, or the relaxation of the alphas."""
        return {k: self.fixed_weights[k] if k in self.fixed_weights else self._relax(a) for k, a in self.alphas.items()}

    def even_weights(self) -> dict[str, Tensor]:
        """Mixing weights that prefer no operation: those of alphas of zero."""
        return {kind: self._relax(torch.zeros_like(alpha)) for kind, alpha in self.alphas.items()}

    def _relax(self, alpha: Tensor) -> Tensor:
        return alpha.softmax(1) if self.relaxation == "softmax" else alpha.sigmoid()

    @property
    def searched_kinds(self) -> tuple[str, ...]:
        """The kinds of cell that the network has and whose mixing weights are not fixed."""
        return tuple(k for k in self.shape.kinds if k not in self.fixed_weights)

    def operations_of(self, kind: str) -> tuple[str, ...]:
        """The operations of a kind of cell, in the order of the alphas' columns."""
        return self.sequence_operations if kind == "S" else self.cnn_operations

    def architecture_parameters(self) -> list[nn.Parameter]:
        """The alphas of the searched kinds."""
        return [self.alphas[kind] for kind in self.searched_kinds]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything but the alphas."""
        return [p for name, p in self.named_parameters() if not name.startswith("alphas.")]

    def discrete_weights(self, genotype: Genotype) -> dict[str, Tensor]:
        """The mixing weights that make this supernet the genotype's network: 1 at its operations, else 0."""
        cells = genotype.cells
        return {kind: discrete_weights(cells[kind], self.operations_of(kind)).to(a) for kind, a in self.alphas.items()}

    @contextmanager
    def override_weights(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Within the block these kinds are mixed by the given weights `(edges, operations)`."""
        before = self.fixed_weights
        self.fixed_weights = {**before, **weights}
        try:
            yield
        finally:
            self.fixed_weights = before

    def set_skip_dropout(self, probability: float) -> None:
        """Drop values of skip connections in training with this probability (P-DARTS, Chen et al. 2019)."""
        self.skip_dropout = probability
        for module in self.modules():
            if isinstance(module, MixedOperation | FusedOperations):
                module.skip_dropout = probability

    def derive(self, weights: Mapping[str, Tensor] | None = None) -> Genotype:
        """The discrete architecture of the present mixing weights, or of others."""
        weights = self.mixing_weights() if weights is None else weights
        return Genotype.from_cells(
            {kind: derive_cell(weights[kind].detach().cpu(), self.operations_of(kind)) for kind in KINDS}
        )

    @torch.no_grad()
    def alpha_statistics(self) -> dict[str, float]:
        """How decided the alphas are: means over the edges of the searched kinds, and skip connections derived.

        Entropy (nats) of an edge's mixing weights, as parts of their sum; `top2_margin` between its two largest;
        `moved`, the root mean square distance of the alphas from their start; skip connections in the derived cells.
        """
        mixing_weights = self.mixing_weights()
        weights = [mixing_weights[kind] for kind in self.searched_kinds]
        fractions = [w / w.sum(1, keepdim=True) for w in weights]
        entropy = torch.cat([torch.special.entr(fraction).sum(1) for fraction in fractions])
        margins = [torch.sub(*w.topk(2).values.unbind(1)) for w in weights if w.shape[1] > 1]
        margin = torch.cat(margins) if margins else entropy.new_zeros(1)  # there is one operation alone
        moved = [(self.alphas[kind] - getattr(self, f"start_{kind}")).flatten() for kind in self.searched_kinds]
        return {
            "entropy": float(entropy.mean()),
            "top2_margin": float(margin.mean()),
            "moved": float(torch.cat(moved).square().mean().sqrt()),
            "skip_connections": sum(self.count_skip_connections(self.derive()).values()),
        }

    def count_skip_connections(self, genotype: Genotype) -> dict[str, int]:
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


def discrete_weights(cell: CellGenotype, operations: tuple[str, ...]) -> Tensor:
    """1 at the operations of a cell, 0 elsewhere: `(edges, operations)`. The reverse of `derive_cell`."""
    edges = list(edges_of(len(cell)))
    weights = torch.zeros(len(edges), len(operations))
    for node, inputs in enumerate(cell):
        for edge in inputs:
            weights[edges.index((node, edge.source)), operations.index(edge.operation)] = 1.0
    return weights
