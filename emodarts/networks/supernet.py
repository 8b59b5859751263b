"""The joint supernet: every operation on every edge, mixed by architecture parameters (alphas).

Alphas of normal, reduction and sequence cells belong to one optimiser and one loss: CNN and sequence operations are
chosen together (emoDARTS). Derivation keeps each node's two strongest inputs, `none` excluded (Liu et al. 2019, sec.
2.4). Where cells read frames, the pooling over time and each cell's layers of an encoder have alphas, too.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.cell import BuildOperation, MixedCell, MixedOperation, PathCell, Preprocess, edges_of
from emodarts.networks.fused.cell import FusedCell, FusedOperations
from emodarts.networks.fused.mixed_cnn import FusedCnnOperations
from emodarts.networks.fused.mixed_sequence import FusedSequenceOperations
from emodarts.networks.genotype import KINDS, POOLING, CellGenotype, Edge, Genotype
from emodarts.networks.names import POOLING_NAMES
from emodarts.networks.network import Network, NetworkShape, layers_of_cells


class Supernet(Network):
    """The supernet; `alphas` maps N, R, S to parameters `(edges, operations)` of that kind of cell.

    Where cells read frames, also P to those of the pooling over time `(1, poolings)`, and L to those of an encoder's
    layers `(cells, layers)` (`NetworkShape.choices`).
    `relaxation`: the mixing weights of an edge are the alphas' softmax (DARTS, Liu et al. 2019, eq. 2), or each alpha's
    sigmoid, so that no operation gains by another's loss (FairDARTS, Chu et al. 2020). `fixed_weights` maps kinds to
    mixing weights that stand in the place of the alphas' own. `fused`: the cells are computed fast (`networks.fused`);
    otherwise they are the plain ones of `networks.cell`, with the same weights. `single_path`: the plain ones that
    compute only what has a mixing weight, for weights on the CPU.
    """

    def __init__(
        self,
        shape: NetworkShape,
        cnn_operations: tuple[str, ...],
        sequence_operations: tuple[str, ...],
        generator: torch.Generator | None = None,
        relaxation: str = "softmax",
        fused: bool = True,
        single_path: bool = False,
    ):
        operations = {"N": cnn_operations, "R": cnn_operations, "S": sequence_operations}

        def build_cell(kind: str, build: BuildOperation, preprocess: Preprocess) -> nn.Module:
            cell = PathCell if single_path else MixedCell
            plain = cell(shape.nodes_of(kind), operations[kind], build, preprocess, reduction=kind == "R")
            if single_path:
                return plain
            return FusedCell(plain, FusedSequenceOperations if kind == "S" else FusedCnnOperations) if fused else plain

        # Affine norms would undo the scale that the mixing weights give.
        poolings = shape.choices["P"][1] if shape.choices else (POOLING,)
        super().__init__(shape, build_cell, shape.nodes, shape.sequence_nodes, affine=False, poolings=poolings)
        self.cnn_operations, self.sequence_operations = cnn_operations, sequence_operations
        self.relaxation, self.skip_dropout, self.single_path = relaxation, 0.0, single_path
        self.alphas = nn.ParameterDict()
        sizes = {kind: (len(list(edges_of(shape.nodes_of(kind)))), len(operations[kind])) for kind in KINDS}
        sizes |= {kind: (rows, len(names)) for kind, (rows, names) in shape.choices.items()}
        for kind, size in sizes.items():
            self.alphas[kind] = nn.Parameter(1e-3 * torch.randn(size, generator=generator))
        for kind, alpha in self.alphas.items():
            self.register_buffer(f"start_{kind}", alpha.detach().clone())
        self.fixed_weights: dict[str, Tensor] = {}

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(batch, classes)` of `(batch, channels, frequency, time)` under the present mixing weights."""
        return self.classify(x, lengths, self.mixing_weights())

    def weigh_layers(self, x: Tensor, arguments: Mapping[str, Tensor | float]) -> Sequence[Tensor]:
        """See `Network`: each cell's layers, mixed by its row of L."""
        if "L" not in arguments:
            return super().weigh_layers(x, arguments)
        rows = cast(Tensor, arguments["L"]).to(x.device)
        return torch.einsum("blft,cl->cbft", x, rows)[:, :, None].unbind()

    def pooled_logits(self, frames: Tensor, lengths: Tensor, arguments: Mapping[str, Tensor | float]) -> Tensor:
        """See `Network`: the poolings' logits, mixed by P."""
        if "P" not in arguments:
            return super().pooled_logits(frames, lengths, arguments)
        pairs = list(zip(cast(Tensor, arguments["P"])[0], self.poolings.values(), strict=True))
        if self.single_path:  # as in `PathCell`, what has no weight is not computed
            pairs = [(weight, pooling) for weight, pooling in pairs if weight]
        outputs: list[Tensor] = [weight * pooling(frames, lengths) for weight, pooling in pairs]
        return torch.stack(outputs).sum(0)

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
        """The kinds of cell, and P and L, that the network has and whose mixing weights are not fixed."""
        return tuple(k for k in (*self.shape.kinds, *self.shape.choices) if k not in self.fixed_weights)

    def operations_of(self, kind: str) -> tuple[str, ...]:
        """The operations of a kind of cell (poolings, layers), in the order of the alphas' columns."""
        if kind in self.shape.choices:
            return self.shape.choices[kind][1]
        return self.sequence_operations if kind == "S" else self.cnn_operations

    def architecture_parameters(self) -> list[nn.Parameter]:
        """The alphas of the searched kinds."""
        return [self.alphas[kind] for kind in self.searched_kinds]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything but the alphas."""
        return [p for name, p in self.named_parameters() if not name.startswith("alphas.")]

    def discrete_weights(self, genotype: Genotype) -> dict[str, Tensor]:
        """The mixing weights that make this supernet the genotype's network: 1 at its operations, else 0.

        A cell that weighs all layers keeps its present weighting.
        """
        weights = {
            kind: discrete_weights(cell, self.operations_of(kind)).to(self.alphas[kind])
            for kind, cell in genotype.cells.items()
        }
        if "P" in self.alphas:
            columns = torch.tensor([POOLING_NAMES.index(genotype.pooling)])
            weights["P"] = F.one_hot(columns, len(POOLING_NAMES)).to(self.alphas["P"])
        if "L" in self.alphas:
            rows, layers = self._relax(self.alphas["L"]).detach(), layers_of_cells(self.shape, genotype)
            unit = torch.eye(rows.shape[1]).to(rows)
            weights["L"] = torch.stack([r if n is None else unit[n] for r, n in zip(rows, layers, strict=True)])
        return weights

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
        weights = {k: w.detach().cpu() for k, w in (self.mixing_weights() if weights is None else weights).items()}
        cells = {kind: derive_cell(weights[kind], self.operations_of(kind)) for kind in KINDS}
        if not self.shape.choices:
            return Genotype.from_cells(cells)
        layers = derive_layers(weights["L"]) if "L" in weights else (0,) * self.shape.readers
        return Genotype.from_cells(cells, POOLING_NAMES[int(weights["P"][0].argmax())], layers)

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


def derive_layers(weights: Tensor) -> tuple[int | None, ...]:
    """Each cell's layer, by weights `(cells, layers)`: the strongest, if its part has come halfway from even to all.

    Even is `1 / layers`. Elsewhere None: no layer does the work alone, and the network learns a weighting of all.
    """
    parts, layers = (weights / weights.sum(1, keepdim=True)).max(1)
    alone = parts > (1 + 1 / weights.shape[1]) / 2
    return tuple(layer if is_alone else None for layer, is_alone in zip(layers.tolist(), alone.tolist(), strict=True))


def discrete_weights(cell: CellGenotype, operations: tuple[str, ...]) -> Tensor:
    """1 at the operations of a cell, 0 elsewhere: `(edges, operations)`. The reverse of `derive_cell`."""
    edges = list(edges_of(len(cell)))
    weights = torch.zeros(len(edges), len(operations))
    for node, inputs in enumerate(cell):
        for edge in inputs:
            weights[edges.index((node, edge.source)), operations.index(edge.operation)] = 1.0
    return weights
