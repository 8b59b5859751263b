"""The genotype: what a search decided. A frozen data class with a stable JSON form; never `eval`, never pickle."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from emodarts.errors import EmodartsError
from emodarts.networks.operations import CNN_OPERATIONS
from emodarts.networks.sequence import SEQUENCE_OPERATIONS

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
    """Operations and inputs of each node for the three kinds of cell, and the pooling over time."""

    normal: CellGenotype
    reduction: CellGenotype
    sequence: CellGenotype
    pooling: str = POOLING

    def __post_init__(self) -> None:
        if self.pooling != POOLING:
            raise EmodartsError(f"genotype: unknown pooling '{self.pooling}'; there is {POOLING}")
        for kind in KINDS.values():
            operations = SEQUENCE_OPERATIONS if kind == "sequence" else CNN_OPERATIONS
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
    def from_cells(cls, cells: Mapping[str, CellGenotype]) -> "Genotype":
        """The genotype with these cells of N, R, S."""
        return cls(cells["N"], cells["R"], cells["S"])

    def to_json(self) -> str:
        """A stable JSON text: equal genotypes give equal texts."""
        return json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True, separators=(",", ":"))

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
            return cls(**cells, pooling=content["pooling"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EmodartsError(f"not a genotype: {error!r}") from error
