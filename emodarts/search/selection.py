"""Perturbation-based selection: what matters is how much worse the supernet gets without an operation.

The alphas' size is no measure of that (DARTS-PT, Wang et al. 2021). All is measured on what the alphas learn from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emodarts.networks.cell import edges_of
from emodarts.networks.genotype import Genotype
from emodarts.networks.supernet import Supernet

Weights = dict[str, Tensor]
EdgeRow = tuple[str, int]  # kind of cell, and row of its alphas


@dataclass(frozen=True)
class PerturbationSelector:
    """Decides edge after edge of a supernet by its `loss` without an operation; `tune` trains the weights a little."""

    supernet: Supernet
    loss: Callable[[], float]
    tune: Callable[[], None]
    rng: np.random.Generator

    def select(self) -> Genotype:
        """The genotype: first the operation of each edge, in random order, then the two inputs of each node.

        The pooling over time and each cell's layer of an encoder are decided like the operation of an edge.
        The supernet is tuned after each decision, under what has been decided so far.
        """
        weights = {kind: w.detach().clone() for kind, w in self.supernet.mixing_weights().items()}
        edges = [(kind, row) for kind in self.supernet.searched_kinds for row in range(len(weights[kind]))]
        for number in self.rng.permutation(len(edges)).tolist():
            self._decide(weights, edges[number], self.best_operation(weights, edges[number]))
        nodes = [node for kind in self.supernet.searched_kinds for node in self._nodes_with_a_choice(kind)]
        for number in self.rng.permutation(len(nodes)).tolist():
            kind, rows = nodes[number]
            for row in set(rows) - set(self.best_inputs(weights, kind, rows)):
                weights[kind][row] = 0.0
            self._tune_under(weights)
        return self.supernet.derive(weights)

    def best_operation(self, weights: Mapping[str, Tensor], edge: EdgeRow) -> int:
        """The operation of an edge (its column; never `none`) without which the loss is largest."""
        kind, row = edge
        names = self.supernet.operations_of(kind)
        columns = [column for column, name in enumerate(names) if name != "none"]
        return columns[_largest([self._loss_without(weights, kind, (row, column)) for column in columns])]

    def best_inputs(self, weights: Mapping[str, Tensor], kind: str, rows: Sequence[int]) -> list[int]:
        """The two edges into a node (their rows) without which the loss is largest."""
        losses = [self._loss_without(weights, kind, row) for row in rows]
        order = sorted(range(len(rows)), key=lambda i: (-losses[i], i))
        return [rows[i] for i in order[:2]]

    def _nodes_with_a_choice(self, kind: str) -> list[tuple[str, list[int]]]:
        """The nodes of a kind of cell that have more than two inputs: the rows of their edges."""
        nodes = 0 if kind in self.supernet.shape.choices else self.supernet.shape.nodes_of(kind)
        edges = list(edges_of(nodes))
        rows_by_node = [[row for row, (n, _) in enumerate(edges) if n == node] for node in range(nodes)]
        return [(kind, rows) for rows in rows_by_node if len(rows) > 2]

    def _decide(self, weights: Weights, edge: EdgeRow, column: int) -> None:
        kind, row = edge
        weights[kind][row] = 0.0
        weights[kind][row, column] = 1.0
        self._tune_under(weights)

    def _tune_under(self, weights: Weights) -> None:
        with self.supernet.override_weights(weights):
            self.tune()

    @torch.no_grad()
    def _loss_without(self, weights: Mapping[str, Tensor], kind: str, index: int | tuple[int, int]) -> float:
        """The loss without the operation at `index` (row, column) of the mixing weights, or the edge at a row."""
        changed = weights[kind].clone()
        changed[index] = 0.0
        with self.supernet.override_weights({**weights, kind: changed}):
            return self.loss()


def _largest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda i: (values[i], -i))
