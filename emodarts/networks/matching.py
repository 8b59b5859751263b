"""Sizes at which a genotype's network has the parameters of a hand-designed one: size then explains no difference."""

import math
from bisect import bisect_left
from dataclasses import replace
from functools import cache

import torch

from emodarts.errors import EmodartsError
from emodarts.networks.baselines import build_network
from emodarts.networks.costs import count_parameters
from emodarts.networks.genotype import Genotype
from emodarts.networks.network import DiscreteNetwork, NetworkShape

TOLERANCE = 0.05  # of the parameters
_CHANNELS = range(2, 513)  # as `training.channels` allows
_WIDTH_STEP = 8  # widths that every number of attention heads divides


@cache
def match_parameters(shape: NetworkShape, genotype: Genotype, system: str) -> NetworkShape:
    """The shape with other channels and sequence width, whose network matches that of `system` at the sizes of `shape`.

    Widths and channels are first scaled alike; at the four widths about the one that fits, channels are then set
    exactly, and of the sizes within TOLERANCE those that keep the ratio of channels to width best are taken. Nothing is
    drawn. Raises EmodartsError where no sizes come so near.
    """
    with torch.device("meta"):  # no memory, and no random numbers
        target = count_parameters(build_network(system, shape))
    ratio = shape.channels / shape.sequence_width
    scaled = [
        replace(shape, sequence_width=width, channels=min(max(_CHANNELS[0], round(ratio * width)), _CHANNELS[-1]))
        for width in range(_WIDTH_STEP, 4 * shape.sequence_width + 1, _WIDTH_STEP)
    ]
    place = bisect_left(scaled, target, key=lambda sizes: _count(sizes, genotype))
    about = scaled[max(0, place - 2) : place + 2]
    nearest = [_with_nearest_channels(sizes, genotype, target) for sizes in about]
    counts = {sizes: _count(sizes, genotype) for sizes in nearest}
    matching = [sizes for sizes, count in counts.items() if abs(count - target) <= TOLERANCE * target]
    if not matching:
        count = min(counts.values(), key=lambda count: abs(count - target))
        raise EmodartsError(
            f"search.match_parameters={system} has {target:,} parameters, and the fixed architecture comes no nearer "
            f"to them within its sizes than {count:,}: change search.cells, search.nodes, or the sizes of the training"
        )
    return min(matching, key=lambda s: (abs(math.log(s.channels / s.sequence_width / ratio)), s.sequence_width))


def _with_nearest_channels(shape: NetworkShape, genotype: Genotype, target: int) -> NetworkShape:
    """The shape with the channels whose parameters, which grow with them, are nearest to `target`."""
    place = bisect_left(_CHANNELS, target, key=lambda channels: _count(replace(shape, channels=channels), genotype))
    about = [replace(shape, channels=channels) for channels in _CHANNELS[max(0, place - 1) : place + 1]]
    return min(about, key=lambda sizes: abs(_count(sizes, genotype) - target))


@cache
def _count(shape: NetworkShape, genotype: Genotype) -> int:
    with torch.device("meta"):
        return count_parameters(DiscreteNetwork(shape, genotype))
