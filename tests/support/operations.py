"""Operations of cells as the tests of all of them build, feed and fuse them."""

from typing import NamedTuple

import torch

from emodarts.networks.masking import image_mask, time_mask
from emodarts.networks.operations import CNN_OPERATIONS
from emodarts.networks.sequence import SEQUENCE_OPERATIONS
from tests.support.networks import LENGTHS, inputs
from tests.support.plain import cnn_edges, sequence_edges

FRAMES = 40


class OperationCase(NamedTuple):
    """An operation of a CNN or of a sequence cell, at one stride, on a plane or over time alone."""

    name: str
    kind: str  # cnn | sequence
    channels: int
    bins: int = 1
    stride: int = 1
    over_time: bool = False

    def __str__(self):
        return "-".join(map(str, self))

    @property
    def output_frames(self):
        return -(-FRAMES // self.stride)

    def build(self, affine=False):
        if self.kind == "cnn":
            return CNN_OPERATIONS[self.name](self.channels, self.stride, affine, self.over_time)
        return SEQUENCE_OPERATIONS[self.name](self.channels, affine)

    def edges(self, count):
        """The fused form for so many edges."""
        if self.kind == "cnn":
            return cnn_edges((self.name,), self.channels, count, self.stride, self.over_time)
        return sequence_edges((self.name,), self.channels, count)

    def batch(self, dtype=torch.float32):
        """Three utterances of `LENGTHS` frames: x, and its mask or lengths."""
        if self.kind == "cnn":
            return inputs(self.channels, self.bins).to(dtype), image_mask(LENGTHS, FRAMES, dtype)
        x = torch.randn(3, FRAMES, self.channels, generator=torch.Generator().manual_seed(0), dtype=dtype)
        return x * time_mask(LENGTHS, FRAMES)[:, :, None], LENGTHS

    def utterance(self, x, extent, row):
        """One of them without padding."""
        length = int(LENGTHS[row])
        if self.kind == "cnn":
            return x[row : row + 1, ..., :length], extent[row : row + 1, ..., :length]
        return x[row : row + 1, :length], extent[row : row + 1]

    def frames_first(self, y):
        """Outputs `(batch, time, ...)` of either kind."""
        return y.permute(0, 3, 1, 2) if self.kind == "cnn" else y


CNN_CASES = [
    OperationCase(name, "cnn", 4, bins, stride, over_time)
    for name in CNN_OPERATIONS
    for stride in (1, 2)
    for bins, over_time in ((7, False), (1, True))
]
SEQUENCE_CASES = [OperationCase(name, "sequence", 8) for name in SEQUENCE_OPERATIONS]
