"""Hand-designed networks, to stand beside searched ones: the same input, masks, loss and training.

What the field builds by hand: residual convolutions over time and frequency, a bidirectional LSTM over time, attention
that pools its outputs. The widths follow `channels` and `sequence_width` of the shape; cells, nodes, the stem's sizes
and `frequency_fold` do not apply.
"""

from typing import Any

import torch
from torch import Tensor, nn

from emodarts.errors import EmodartsError
from emodarts.networks.masking import strided_lengths, strided_mask
from emodarts.networks.network import AttentiveStatistics, NetworkShape
from emodarts.networks.operations import MaskedBatchNorm, window
from emodarts.networks.sequence import BidirectionalLayers
from emodarts.networks.stem import LayerWeighting, Stem, TimeStem

SYSTEMS = ("cnn_lstm_attention",)
_STEM_STRIDES = (4, 2)  # frequency, time
_BLOCKS = ((1.5, (2, 2)), (2.0, (2, 1)), (3.0, (2, 2)))  # channels as a multiple of the first ones, strides


def build(system: str, shape: NetworkShape) -> "CnnLstmAttention":
    """The network by its name. Raises EmodartsError for an unknown one."""
    if system not in SYSTEMS:
        raise EmodartsError(f"system={system} is unknown: {', '.join(SYSTEMS)}")
    return CnnLstmAttention(shape)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norms beside a shortcut (He et al. 2016), the strides in the first."""

    def __init__(self, inputs: int, outputs: int, strides: tuple[int, int], over_time: bool):
        super().__init__()
        self.strides = strides
        kernel = window(3, over_time)
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.first = nn.Conv2d(inputs, outputs, kernel, strides, padding, bias=False)
        self.second = nn.Conv2d(outputs, outputs, kernel, 1, padding, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, strides, bias=False)
        self.norms = nn.ModuleList(MaskedBatchNorm(outputs) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, inputs, F, T)` -> `(batch, outputs, F', T')`; mask `(batch, 1, 1, T')`, of the output."""
        first, second, shortcut = self.norms
        y = torch.relu(first(self.first(x), mask))
        y = second(self.second(y), mask) + shortcut(self.shortcut(x), mask)
        return torch.relu(y)


class CnnLstmAttention(nn.Module):
    """Stem, three residual blocks, mean over frequency, bidirectional LSTM, attentive statistics pooling, dropout.

    Attentive statistics after Okabe et al. 2018; CNN, LSTM and attention for emotion after Zhao et al. 2019.
    """

    def __init__(self, shape: NetworkShape):
        super().__init__()
        self.shape, self.drop_path = shape, 0.0  # there is no path to drop
        layers, bins = shape.input_channels, shape.bins
        self.layer_weighting = LayerWeighting(layers) if shape.layer_weighting else None
        inputs = 1 if shape.layer_weighting else layers
        self.stem: nn.Module = (
            TimeStem(inputs * bins, shape.channels, _STEM_STRIDES[1])
            if shape.over_time
            else Stem(inputs, shape.channels, _STEM_STRIDES)
        )
        self.blocks = nn.ModuleList()
        channels = shape.channels
        for multiple, strides in _BLOCKS:
            outputs = round(multiple * shape.channels)
            self.blocks.append(ResidualBlock(channels, outputs, strides, shape.over_time))
            channels = outputs
        self.lstm = BidirectionalLayers("lstm", shape.sequence_width, 1, channels)
        self.pool = AttentiveStatistics(shape.sequence_width)
        self.head = nn.Sequential(nn.Dropout(shape.dropout), nn.Linear(2 * shape.sequence_width, shape.classes))

    def forward(self, x: Tensor, lengths: Tensor, arguments: dict[str, Any] | None = None) -> Tensor:
        """Logits `(batch, classes)` of `(batch, channels, bins, time)` and lengths `(batch,)` in frames."""
        if self.layer_weighting is not None:
            x = self.layer_weighting(x)
        x, mask, lengths = self.stem(x, lengths)
        x = torch.relu(x)
        for block, (_, strides) in zip(self.blocks, _BLOCKS, strict=True):
            lengths, mask = strided_lengths(lengths, strides[1]), strided_mask(mask, strides[1])
            x = block(x, mask)
        frames = self.lstm(x.mean(2).transpose(1, 2), lengths)
        logits: Tensor = self.head(self.pool(frames, lengths))
        return logits
