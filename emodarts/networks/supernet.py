"""The joint supernet: every operation on every edge, mixed by architecture parameters (alphas).

Alphas of normal, reduction and sequence cells belong to one optimiser and one loss: CNN and SeqNN operations are
chosen together (emoDARTS). Derivation keeps each node's two strongest inputs, `none` excluded (Liu et al. 2019, 2.4).
"""

from typing import Any

import torch
from torch import Tensor, nn

from emodarts.networks.cell import edges_of
from emodarts.networks.genotype import CellGenotype, Edge, Genotype
from emodarts.networks.network import Network, NetworkShape

KINDS = {"N": "normal", "R": "reduction", "S": "sequence"}


class Supernet(Network):
    """The supernet; `alphas` maps N, R, S to parameters `(edges, operations)` of that kind of cell."""

    def __init__(
        self,
        shape: NetworkShape,
        cnn_operations: tuple[str, ...],
        sequence_operations: tuple[str, ...],
        generator: torch.Generator | None = None,
    ):
        super().__init__(shape, None, cnn_operations, sequence_operations)
        cnn_edges, sequence_edges = len(list(edges_of(shape.nodes))), len(list(edges_of(shape.sequence_nodes)))
        sizes = {
            "N": (cnn_edges, len(cnn_operations)),
            "R": (cnn_edges, len(cnn_operations)),
            "S": (sequence_edges, len(sequence_operations)),
        }
        self.alphas = nn.ParameterDict(
            {kind: nn.Parameter(1e-3 * torch.randn(size, generator=generator)) for kind, size in sizes.items()}
        )

    def forward(self, x: Tensor, lengths: Tensor, arguments: dict[str, Any] | None = None) -> Tensor:
        """Logits `(batch, classes)` under the softmax of the alphas."""
        return super().forward(x, lengths, {kind: (weights,) for kind, weights in self.weights().items()})

    def weights(self) -> dict[str, Tensor]:
        """The mixing weights of each kind of cell: the alphas' softmax over operations."""
        return {kind: alpha.softmax(1) for kind, alpha in self.alphas.items()}

    def architecture_parameters(self) -> list[nn.Parameter]:
        """The alphas."""
        return list(self.alphas.values())

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything but the alphas."""
        return [p for name, p in self.named_parameters() if not name.startswith("alphas.")]

    def derive(self) -> Genotype:
        """The discrete architecture of the present alphas."""
        weights = {kind: w.detach().cpu() for kind, w in self.weights().items()}
        return Genotype(
            derive_cell(weights["N"], self.cnn_operations),
            derive_cell(weights["R"], self.cnn_operations),
            derive_cell(weights["S"], self.sequence_operations),
        )

    def alpha_figures(self) -> dict[str, float]:
        """How decided the alphas are: mean entropy (nats) and top-1/top-2 margin over edges, and skips derived."""
        weights = [w.detach() for w in self.weights().values()]
        entropy = torch.cat([-(w * w.log()).sum(1) for w in weights]).mean()
        margin = torch.cat([w.topk(2).values @ w.new_tensor([1.0, -1.0]) for w in weights]).mean()
        genotype = self.derive()
        cells = (genotype.normal, genotype.reduction, genotype.sequence)
        skips = sum(edge.operation == "skip_connect" for cell in cells for node in cell for edge in node)
        return {"entropy": float(entropy), "margin": float(margin), "skips": skips}


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
