"""Architectures without a supernet: drawn uniformly from the space, and changed in one place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from emodarts.networks.genotype import KINDS, POOLING, CellGenotype, Edge, Genotype
from emodarts.networks.names import POOLING_NAMES
from emodarts.networks.network import NetworkShape
from emodarts.search.scope import fixed_cells, fixed_kinds
from emodarts.search.settings import SearchSettings

# (name of a choice, its options) -> one of these
Choose = Callable[[str, Sequence[Any]], Any]


def choose_uniformly(rng: np.random.Generator) -> Choose:
    """Each option with the same chance, whatever was chosen before."""
    return lambda name, options: options[int(rng.integers(len(options)))]


class FairChoice:
    """Deals the options of each choice from a shuffled deck of its own, so that all are dealt equally often.

    Of a choice with n options each comes once in n deals (strict fairness, FairNAS, Chu et al. 2021, sec. 3.2).
    `decks`: what is left of each deck, the numbers of the options.
    """

    def __init__(self, rng: np.random.Generator, decks: dict[str, list[int]]):
        self.rng, self.decks = rng, decks

    def __call__(self, name: str, options: Sequence[Any]) -> Any:
        """The next option of a choice."""
        deck = self.decks.get(name) or self.rng.permutation(len(options)).tolist()
        self.decks[name] = deck[1:]
        return options[deck[0]]


@dataclass(frozen=True)
class GenotypeChoice:
    """One choice of a genotype in words: what it may be, and what the plain architecture has.

    `kind`: of the cell that it is of (N, R, S), L: a layer, P: the pooling. `required`: the choices, and their words,
    without which it makes no difference: an operation needs its node to read the state.
    """

    name: str
    kind: str
    options: tuple[str, ...]
    default: str
    required: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class CandidateSpace:
    """All architectures that a search with these settings may choose among.

    `nodes` and `operations` (without `none`) of each kind of cell (N, R, S); `fixed`: the cells that are not searched;
    `searched`: the kinds that are, and that the network has; `plain`: all cells of the architecture without a search.
    `poolings` over time; `layers`: what each of the `readers` may read (`Genotype.layers`).
    """

    nodes: dict[str, int]
    operations: dict[str, tuple[str, ...]]
    fixed: dict[str, CellGenotype]
    searched: tuple[str, ...]
    plain: dict[str, CellGenotype]
    poolings: tuple[str, ...] = (POOLING,)
    layers: tuple[int | None, ...] = ()
    readers: int = 0

    @classmethod
    def of(cls, settings: SearchSettings, shape: NetworkShape | None = None, layers: int = 0) -> "CandidateSpace":
        """The space of the settings, which do not search its parts in turn: that has no candidates.

        Without a shape all kinds of cell that the space may have count as those of the network, and its frames have so
        many `layers`; 0: nobody knows, and all cells keep their learned weightings.
        """
        cnn, sequence = (
            tuple(name for name in names if name != "none")
            for names in (settings.all_cnn_operations, settings.seqnn_operations)
        )
        cells, fixed = fixed_cells(settings), fixed_kinds(settings)
        reads_frames = settings.chosen_space.reads_frames
        kinds = shape.kinds if shape else [k for k in KINDS if k != "R" or not reads_frames]
        readers = shape.readers if shape else reads_frames * (settings.cells + settings.sequence_cells)
        layers = (shape.frame_layers or 0) if shape else layers
        return cls(
            {"N": settings.nodes, "R": settings.nodes, "S": settings.sequence_nodes},
            {"N": cnn, "R": cnn, "S": sequence},
            {k: cell for k, cell in cells.items() if k in fixed or not (shape or k in kinds)},
            tuple(kind for kind in kinds if kind not in fixed),
            cells,
            POOLING_NAMES if reads_frames and "P" not in fixed else (POOLING,),
            _readable_layers(layers, "L" in fixed),
            readers,
        )

    def draw(self, rng: np.random.Generator) -> Genotype:
        """An architecture, uniformly: for each node two different inputs, and an operation other than none for each."""
        return self.build(choose_uniformly(rng))

    def build(self, choose: Choose) -> Genotype:
        """The architecture of these choices: for each node its two inputs, then an operation for each of them.

        They are named `normal_1_inputs` and `normal_1_from_2`: cell, node, and the state that is read; where they are
        searched, then `layer_0` (of the first cell) and so on, and `pooling`.
        """
        cells = {kind: self.fixed[kind] if kind in self.fixed else self._build_cell(kind, choose) for kind in KINDS}
        if not self.readers:
            return Genotype.from_cells(cells)
        layers = tuple(choose(f"layer_{reader}", self.layers) for reader in range(self.readers))
        return Genotype.from_cells(cells, choose("pooling", self.poolings), layers)

    def choices(self, kinds: Sequence[str] | None = None) -> Iterator[GenotypeChoice]:
        """What `build` chooses, each under its name there, a node's inputs before its operations; None: as searched."""
        for kind in self.searched if kinds is None else kinds:
            for node in range(self.nodes[kind]):
                place, plain = f"{KINDS[kind]}_{node}", {e.source: e.operation for e in self.plain[kind][node]}
                pairs = list(combinations(range(node + 2), 2))
                yield GenotypeChoice(f"{place}_inputs", kind, tuple(map(_word, pairs)), _word(tuple(plain)), {})
                for source in range(node + 2):
                    required = {f"{place}_inputs": tuple(_word(pair) for pair in pairs if source in pair)}
                    name, operations = f"{place}_from_{source}", self.operations[kind]
                    default = plain.get(source, plain[node + 1])  # that of the state just before it
                    yield GenotypeChoice(name, kind, operations, default, required)
        for reader in range(self.readers):
            words = tuple(map(_word, self.layers))
            yield GenotypeChoice(f"layer_{reader}", "L", words, words[-1], {})
        if len(self.poolings) > 1:
            yield GenotypeChoice("pooling", "P", self.poolings, POOLING, {})

    def build_of_words(self, words: Mapping[str, str]) -> Genotype:
        """The architecture of choices in words; of a choice without a word it has what the plain one has."""
        defaults = {choice.name: choice.default for choice in self.choices(tuple(KINDS))}

        def choose(name: str, options: Sequence[Any]) -> Any:
            word = words.get(name, defaults.get(name))
            return next((option for option in options if _word(option) == word), options[0])

        return self.build(choose)

    def mutate(self, genotype: Genotype, rng: np.random.Generator) -> Genotype:
        """The architecture with one edge changed: another operation or another input, with equal chance.

        Or, as likely as any edge, another pooling over time, or another layer for one cell, where these are searched.
        The mutations of Real et al. (2019, sec. 3.1). Of a change that is not possible (the first node of a cell has no
        third state to read, a space with one operation no other) the other one is made.
        """
        cells = genotype.cells
        places = [(k, n, e) for k in self.searched for n in range(len(cells[k])) for e in range(len(cells[k][n]))]
        changes = [(place, self._changes(cells, place)) for place in places]
        possible = [(place, by_type) for place, by_type in changes if by_type]
        others = self._other_choices(genotype)
        if not possible and not others:
            return genotype
        chosen = int(rng.integers(len(possible) + len(others)))
        if chosen >= len(possible):
            genotypes = others[chosen - len(possible)]
            return genotypes[int(rng.integers(len(genotypes)))]
        (kind, node, number), by_type = possible[chosen]
        options = by_type[int(rng.integers(len(by_type)))]
        edge = options[int(rng.integers(len(options)))]
        edges = [*cells[kind][node][:number], edge, *cells[kind][node][number + 1 :]]
        changed = tuple(sorted(edges, key=lambda e: e.source))
        cells[kind] = (*cells[kind][:node], changed, *cells[kind][node + 1 :])
        return Genotype.from_cells(cells, genotype.pooling, genotype.layers)

    def _other_choices(self, genotype: Genotype) -> list[list[Genotype]]:
        """The genotype with another pooling, and with another layer for each cell, where these are searched."""
        changes = [[replace(genotype, pooling=name) for name in self.poolings if name != genotype.pooling]]
        for cell, present in enumerate(genotype.layers):
            others = (layer for layer in self.layers if layer != present)
            rows = ((*genotype.layers[:cell], layer, *genotype.layers[cell + 1 :]) for layer in others)
            changes.append([replace(genotype, layers=row) for row in rows])
        return [options for options in changes if options]

    def _build_cell(self, kind: str, choose: Choose) -> CellGenotype:
        nodes = []
        for node in range(self.nodes[kind]):
            place = f"{KINDS[kind]}_{node}"
            sources = choose(f"{place}_inputs", list(combinations(range(node + 2), 2)))
            operations = [choose(f"{place}_from_{source}", self.operations[kind]) for source in sources]
            nodes.append(tuple(map(Edge, operations, sources)))
        return tuple(nodes)

    def _changes(self, cells: dict[str, CellGenotype], place: tuple[str, int, int]) -> list[list[Edge]]:
        """What an edge may become by each type of change (operation, input) that is possible."""
        kind, node, number = place
        edges = cells[kind][node]
        edge, sources = edges[number], {e.source for e in edges}
        operations = [replace(edge, operation=name) for name in self.operations[kind] if name != edge.operation]
        inputs = [replace(edge, source=source) for source in range(node + 2) if source not in sources]
        return [options for options in (operations, inputs) if options]


def _word(option: Any) -> str:
    """An option in a word: an operation's name, states as `0+2`, a layer as `3` or `weighted`."""
    if option is None:
        return "weighted"
    return str(option) if isinstance(option, str | int) else "+".join(map(str, option))


def _readable_layers(layers: int, are_fixed: bool) -> tuple[int | None, ...]:
    """What a cell may read of so many layers: one of them, or a learned weighting; fixed, or of 0: this alone."""
    if layers == 1:
        return (0,)
    return (None,) if are_fixed else (*range(layers), None)
