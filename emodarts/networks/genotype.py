"""The genotype: what a search decided. A frozen data class with a stable JSON form; never `eval`, never pickle."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from emodarts.errors import EmodartsError
from emodarts.networks.names import CNN_OPERATION_NAMES, POOLING_NAMES, SEQUENCE_OPERATION_NAMES

VERSION = 1
POOLING = "attentive_statistics"
KINDS = {"N": "normal", "R": "reduction", "S": "sequence"}  # the kinds of cell


@dataclass(frozen=True)
class Edge:
    """One input of a node: an operation on state `source` (0, 1: the two inputs of the cell; then its nodes)."""

    operation: str
    source: int


CellGenotype = tuple[tuple[Edge, ...], ...]  # node -> its edges


@dataclass(frozen=True)
class Genotype:
    """Operations and inputs of each node for the three kinds of cell, and the pooling over time.

    `layers`: where each cell reads the frames of an encoder (the CNN cells, then the sequence cells), the number of the
    layer that it reads, from 0 among those of the features; None: a weighting of all, which its training learns.
    """

    normal: CellGenotype
    reduction: CellGenotype
    sequence: CellGenotype
    pooling: str = POOLING
    layers: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        if self.pooling not in POOLING_NAMES:
            raise EmodartsError(f"genotype: unknown pooling '{self.pooling}'; there are {', '.join(POOLING_NAMES)}")
        if not all(layer is None or (type(layer) is int and layer >= 0) for layer in self.layers):
            raise EmodartsError(f"genotype: layers {list(self.layers)} are not numbers from 0, or null")
        for kind in KINDS.values():
            operations = SEQUENCE_OPERATION_NAMES if kind == "sequence" else CNN_OPERATION_NAMES
            for node, edges in enumerate(getattr(self, kind)):
                if not edges:
                    raise EmodartsError(f"genotype: node {node} of the {kind} cell has no input")
                for edge in edges:
                    if edge.operation not in operations:
                        raise EmodartsError(f"genotype: unknown operation '{edge.operation}' in the {kind} cell")
                    if not 0 <= edge.source < node + 2:
                        raise EmodartsError(f"genotype: node {node} of the {kind} cell cannot read state {edge.source}")
        if len(self.normal) != len(self.reduction):
            raise EmodartsError(
                f"genotype: the normal cell has {len(self.normal)} nodes and the reduction cell {len(self.reduction)}; "
                "both need the same number"
            )

    @property
    def cells(self) -> dict[str, CellGenotype]:
        """The cells by kind: N, R, S."""
        return {kind: getattr(self, name) for kind, name in KINDS.items()}

    @classmethod
    def from_cells(
        cls, cells: Mapping[str, CellGenotype], pooling: str = POOLING, layers: tuple[int | None, ...] = ()
    ) -> "Genotype":
        """The genotype with these cells of N, R, S."""
        return cls(cells["N"], cells["R"], cells["S"], pooling, layers)

    def to_json(self) -> str:
        """A stable JSON text: equal genotypes give equal texts. Without layers it has none, as in version 0.1.0."""
        content = {name: value for name, value in asdict(self).items() if name != "layers" or value}
        return json.dumps({"version": VERSION, **content}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """The genotype of a JSON text. Raises EmodartsError for another version or anything that is no genotype."""
        try:
            content = json.loads(text)
            version = content.pop("version")
            if version != VERSION:
                raise EmodartsError(f"genotype of version {version}; this program reads version {VERSION}")
            cells = {
                kind: tuple(tuple(Edge(e["operation"], e["source"]) for e in edges) for edges in content[kind])
                for kind in KINDS.values()
            }
            return cls(**cells, pooling=content["pooling"], layers=tuple(content.get("layers", ())))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EmodartsError(f"not a genotype: {error!r}") from error
