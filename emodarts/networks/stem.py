"""From the features to the cells: a mean of an encoder's layers, and strided convolutions.

Spectra have bins in an order and go through `Stem`; embeddings and functionals have none and go through `TimeStem`.
"""

import torch
from torch import Tensor, nn

from emodarts.errors import EmodartsError
from emodarts.networks.masking import image_mask, strided_lengths, strided_mask
from emodarts.networks.names import STEM_STRIDES, STEM_STRIDES_TEXT
from emodarts.networks.operations import MaskedBatchNorm, kernel_size, same_padding


class LayerWeighting(nn.Module):
    """One mean of an encoder's layers, weighted by the softmax of learned numbers; equally at first (SUPERB, 2021)."""

    def __init__(self, layers: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(layers))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, layers, frequency, time)` -> `(batch, 1, frequency, time)`; padding stays zero."""
        return torch.einsum("blft,l->bft", x, self.logits.softmax(0))[:, None]


class LayerChoice(nn.Module):
    """One of an encoder's layers."""

    def __init__(self, layer: int):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, layers, frequency, time)` -> `(batch, 1, frequency, time)`."""
        return x[:, self.layer : self.layer + 1]


def build_layer_reader(layers: int, layer: int | None) -> LayerWeighting | LayerChoice:
    """From so many layers to one: a learned mean of all, or this one."""
    return LayerWeighting(layers) if layer is None else LayerChoice(layer)


def stem_layers(strides: tuple[int, int]) -> list[tuple[int, int]]:
    """The strides of each layer of a stem (frequency, time), whose product they are.

    A first layer takes the largest divisor up to 4 and 2 of them, a second the rest. Raises EmodartsError for strides
    that are none of STEM_STRIDES.
    """
    if not set(strides) <= set(STEM_STRIDES):
        raise EmodartsError(f"a stem cannot have strides {list(strides)}: each is one of {STEM_STRIDES_TEXT}")
    first = tuple(
        max(factor for factor in range(1, most + 1) if stride % factor == 0)
        for stride, most in zip(strides, (4, 2), strict=True)
    )
    rest = (strides[0] // first[0], strides[1] // first[1])
    return [(first[0], first[1])] if rest == (1, 1) else [(first[0], first[1]), rest]


def stem_resolution(strides: tuple[int, int], bins: int, frames: int) -> tuple[int, int]:
    """Bins and frames that a stem leaves of so many."""
    for frequency, time in stem_layers(strides):
        bins, frames = -(-bins // frequency), -(-frames // time)
    return bins, frames


class Stem(nn.Module):
    """Strided convolutions and batch norms: from the input to the cells' resolution (first 5 x 5, then 3 x 3)."""

    def __init__(self, inputs: int, channels: int, strides: tuple[int, int], over_time: bool = False):
        super().__init__()
        self.strides = stem_layers(strides)
        self.layers = nn.ModuleList()
        for layer, stride in enumerate(self.strides):
            kernel = kernel_size(3 if layer else 5, over_time)
            self.layers.append(nn.Conv2d(inputs, channels, kernel, stride, same_padding(kernel), bias=False))
            inputs = channels
        self.norms = nn.ModuleList(MaskedBatchNorm(channels) for _ in self.strides)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(batch, channels, frequency, time)` and lengths in frames -> features, their mask and lengths."""
        mask = image_mask(lengths, x.shape[3], x.dtype)
        for number, (layer, norm, strides) in enumerate(zip(self.layers, self.norms, self.strides, strict=True)):
            lengths, mask = strided_lengths(lengths, strides[1]), strided_mask(mask, strides[1])
            x = norm(layer(self.relu(x) if number else x), mask)
        return x.contiguous(memory_format=torch.channels_last), mask, lengths


class TimeStem(nn.Module):
    """A projection of each frame's values to the channels, then `Stem` over time alone: one bin is left.

    `values` are all numbers of a frame: bins, times channels where they are not averaged (several layers stacked).
    """

    def __init__(self, values: int, channels: int, stride: int):
        super().__init__()
        self.projection = nn.Conv2d(values, channels, 1, bias=False)
        self.norm = MaskedBatchNorm(channels)
        self.relu = nn.ReLU()
        self.convolutions = Stem(channels, channels, (1, stride), over_time=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(batch, channels, frequency, time)` and lengths -> features over one bin, their mask and lengths."""
        x = x.flatten(1, 2)[:, :, None]
        x = self.norm(self.projection(x), image_mask(lengths, x.shape[3], x.dtype))
        features, mask, lengths = self.convolutions(self.relu(x), lengths)
        return features, mask, lengths


def build_stem(inputs: int, bins: int, channels: int, strides: tuple[int, int], over_time: bool) -> Stem | TimeStem:
    """The stem for `inputs` channels of bins in an order, or without one (`over_time`)."""
    return TimeStem(inputs * bins, channels, strides[1]) if over_time else Stem(inputs, channels, strides)
