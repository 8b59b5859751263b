"""Architectures without a supernet: drawn uniformly from the space, and changed in one place."""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from emodarts.networks.genotype import KINDS, CellGenotype, Edge, Genotype
from emodarts.networks.network import NetworkShape
from emodarts.search.scope import fixed_cells, fixed_kinds
from emodarts.search.settings import SearchSettings


@dataclass(frozen=True)
class CandidateSpace:
    """All architectures that a search with these settings may choose among.

    `nodes` and `operations` (without `none`) of each kind of cell (N, R, S); `fixed`: the cells that are not searched;
    `searched`: the kinds that are, and that the network has.
    """

    nodes: dict[str, int]
    operations: dict[str, tuple[str, ...]]
    fixed: dict[str, CellGenotype]
    searched: tuple[str, ...]

    @classmethod
    def of(cls, settings: SearchSettings, shape: NetworkShape) -> "CandidateSpace":
        """The space of the settings, which do not search its parts in turn: that has no candidates."""
        cnn, sequence = (
            tuple(name for name in names if name != "none")
            for names in (settings.all_cnn_operations, settings.seqnn_operations)
        )
        cells, fixed = fixed_cells(settings), fixed_kinds(settings)
        return cls(
            {"N": settings.nodes, "R": settings.nodes, "S": settings.sequence_nodes},
            {"N": cnn, "R": cnn, "S": sequence},
            {kind: cells[kind] for kind in fixed},
            tuple(kind for kind in shape.kinds if kind not in fixed),
        )

    def draw(self, rng: np.random.Generator) -> Genotype:
        """An architecture, uniformly: for each node two different inputs, and an operation other than none for each."""
        cells = {kind: self.fixed[kind] if kind in self.fixed else self._draw_cell(kind, rng) for kind in KINDS}
        return Genotype.from_cells(cells)

    def mutate(self, genotype: Genotype, rng: np.random.Generator) -> Genotype:
        """The architecture with one edge changed: another operation or another input, with equal chance.

        The mutations of Real et al. (2019, sec. 3.1). Of a change that is not possible (the first node of a cell has no
        third state to read, a space with one operation no other) the other one is made.
        """
        cells = genotype.cells
        places = [(k, n, e) for k in self.searched for n in range(len(cells[k])) for e in range(len(cells[k][n]))]
        changes = [(place, self._changes(cells, place)) for place in places]
        possible = [(place, by_type) for place, by_type in changes if by_type]
        if not possible:
            return genotype
        (kind, node, number), by_type = possible[int(rng.integers(len(possible)))]
        options = by_type[int(rng.integers(len(by_type)))]
        edge = options[int(rng.integers(len(options)))]
        edges = [*cells[kind][node][:number], edge, *cells[kind][node][number + 1 :]]
        changed = tuple(sorted(edges, key=lambda e: e.source))
        cells[kind] = (*cells[kind][:node], changed, *cells[kind][node + 1 :])
        return Genotype.from_cells(cells)

    def _draw_cell(self, kind: str, rng: np.random.Generator) -> CellGenotype:
        operations = self.operations[kind]
        nodes = []
        for node in range(self.nodes[kind]):
            pairs = list(combinations(range(node + 2), 2))
            sources = pairs[int(rng.integers(len(pairs)))]
            nodes.append(tuple(Edge(operations[int(rng.integers(len(operations)))], s) for s in sources))
        return tuple(nodes)

    def _changes(self, cells: dict[str, CellGenotype], place: tuple[str, int, int]) -> list[list[Edge]]:
        """What an edge may become by each type of change (operation, input) that is possible."""
        kind, node, number = place
        edges = cells[kind][node]
        edge, sources = edges[number], {e.source for e in edges}
        operations = [replace(edge, operation=name) for name in self.operations[kind] if name != edge.operation]
        inputs = [replace(edge, source=source) for source in range(node + 2) if source not in sources]
        return [options for options in (operations, inputs) if options]
