"""The mixed CNN operations of all edges that leave one state, computed together."""

from emodarts.networks.cell import Edges
from emodarts.networks.operations import CNN_OPERATIONS


class CnnEdges(Edges):
    """`operations` on `channels` channels for each of `edges` edges; batch norms without affine parameters."""

    def __init__(self, operations: tuple[str, ...], channels: int, edges: int, stride: int):
        super().__init__(operations, lambda name, stride: CNN_OPERATIONS[name](channels, stride, False), edges, stride)
