"""The mixed sequence operations of all edges that leave one state, computed together."""

from emodarts.networks.cell import Edges
from emodarts.networks.sequence import SEQUENCE_OPERATIONS


class SequenceEdges(Edges):
    """`operations` of a width for each of `edges` edges; layer norms without affine parameters."""

    def __init__(self, operations: tuple[str, ...], width: int, edges: int, stride: int = 1):
        super().__init__(operations, lambda name, _: SEQUENCE_OPERATIONS[name](width, False), edges, stride)
