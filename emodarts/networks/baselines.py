"""Hand-designed networks, to stand beside searched ones: the same input, masks, loss and training.

What the field builds by hand: residual convolutions over time and frequency, a bidirectional LSTM over time, attention
that pools its outputs; alone and together (Zhao et al. 2019; attentive statistics after Okabe et al. 2018). The widths
follow `channels` and `sequence_width` of the shape; cells, nodes, stem and `frequency_pooling` do not apply.
The last two are heads on the frames as they are, for those of a pre-trained encoder.
"""

import torch
from torch import Tensor, nn

from emodarts.errors import EmodartsError
from emodarts.networks.masking import strided_lengths, strided_mask
from emodarts.networks.names import DEPTH, DESIGNS, Design
from emodarts.networks.network import NetworkShape
from emodarts.networks.operations import MaskedBatchNorm, PointwiseConvolution, kernel_size, same_padding
from emodarts.networks.pooling import AttentiveStatistics, StatisticsPooling, build_head
from emodarts.networks.sequence import BidirectionalLayers
from emodarts.networks.sizes import residual_strides
from emodarts.networks.stem import build_layer_reader, build_stem


def build_network(system: str, shape: NetworkShape) -> "HandDesignedNetwork":
    """The network by its name. Raises EmodartsError for an unknown one."""
    if system not in DESIGNS:
        raise EmodartsError(f"system={system} is unknown: {', '.join(DESIGNS)}")
    return HandDesignedNetwork(shape, DESIGNS[system])


class _ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norms beside a shortcut (He et al. 2016), the strides in the first."""

    def __init__(self, inputs: int, outputs: int, strides: tuple[int, int], over_time: bool):
        super().__init__()
        self.strides = strides
        kernel = kernel_size(3, over_time)
        self.first = nn.Conv2d(inputs, outputs, kernel, strides, same_padding(kernel), bias=False)
        self.second = nn.Conv2d(outputs, outputs, kernel, 1, same_padding(kernel), bias=False)
        self.shortcut = PointwiseConvolution(inputs, outputs, strides)
        self.norms = nn.ModuleList(MaskedBatchNorm(outputs) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, inputs, frequency, time)` -> `(batch, outputs, ...)` over the strides; the mask is the output's."""
        first, second, shortcut = self.norms
        y = first(self.first(x), mask, relu=True)
        y = second(self.second(y), mask) + shortcut(self.shortcut(x), mask)
        return torch.relu(y)


class _ResidualEncoder(nn.Module):
    """Stem, three residual blocks, mean over frequency."""

    def __init__(self, shape: NetworkShape, inputs: int):
        super().__init__()
        stem_strides, self.specs = residual_strides(shape.depth, shape.reductions, shape.stem_strides[1])
        self.stem = build_stem(inputs, shape.bins, shape.channels, stem_strides, shape.over_time)
        self.blocks = nn.ModuleList()
        self.width = shape.channels
        for multiple, strides in self.specs:
            outputs = round(multiple * shape.channels)
            self.blocks.append(_ResidualBlock(self.width, outputs, strides, shape.over_time))
            self.width = outputs

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`(batch, channels, frequency, time)` -> frames `(batch, time / stride, channels)` and their lengths.

        The stride is 8, or that of the shape's stem where it has no `reductions`.
        """
        x, mask, lengths = self.stem(x, lengths)
        x = torch.relu(x)
        for block, (_, strides) in zip(self.blocks, self.specs, strict=True):
            lengths, mask = strided_lengths(lengths, strides[1]), strided_mask(mask, strides[1])
            x = block(x, mask)
        return x.mean(2).transpose(1, 2), lengths


class HandDesignedNetwork(nn.Module):
    """Convolutions or frames as they are, a bidirectional LSTM or none, pooling over time, dropout, linear layer."""

    def __init__(self, shape: NetworkShape, design: Design):
        super().__init__()
        self.shape, self.drop_path = shape, 0.0  # there is no path to drop
        about = shape.input_channels, shape.layer
        self.layer_weighting = build_layer_reader(*about) if shape.layer_weighting else None
        inputs = 1 if shape.layer_weighting else shape.input_channels
        self.convolutions = _ResidualEncoder(shape, inputs) if design.convolutions else None
        width = self.convolutions.width if self.convolutions else inputs * shape.bins
        layers = 1 if design.convolutions else max(1, (shape.depth or DEPTH) - 2)
        self.lstm = BidirectionalLayers("lstm", shape.sequence_width, layers, width) if design.lstm else None
        width = shape.sequence_width if design.lstm else width
        attends = design.pooling == "attention"
        self.pool = AttentiveStatistics(width) if attends else StatisticsPooling(width, design.pooling == "statistics")
        self.head = build_head(self.pool.outputs, shape.classes, shape.dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(batch, classes)` of `(batch, channels, frequency, time)` and lengths `(batch,)` in frames."""
        if self.layer_weighting is not None:
            x = self.layer_weighting(x)
        if self.convolutions is not None:
            frames, lengths = self.convolutions(x, lengths)
        else:
            frames = x.flatten(1, 2).transpose(1, 2)
        if self.lstm is not None:
            frames = self.lstm(frames, lengths)
        logits: Tensor = self.head(self.pool(frames, lengths))
        return logits
