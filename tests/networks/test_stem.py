"""The strides of a stem are those of its settings, to the frame and to the bin, or are refused."""

from itertools import product
from math import prod

import pytest
import torch

from emodarts.errors import EmodartsError
from emodarts.networks.stem import STEM_STRIDES, Stem, stem_layers, stem_resolution
from emodarts.search.settings import SearchSettings
from emodarts.training.settings import TrainingSettings


@pytest.mark.parametrize("strides", list(product(STEM_STRIDES, STEM_STRIDES)))
def test_layers_multiply_to_the_strides(strides):
    layers = stem_layers(strides)
    assert tuple(prod(layer[axis] for layer in layers) for axis in (0, 1)) == strides
    assert all(stride <= 4 for layer in layers for stride in layer)


@pytest.mark.parametrize("strides", [(6, 3), (3, 6), (8, 4)])
def test_a_stem_leaves_what_the_strides_say(strides):
    frequency, time = strides
    x, lengths = torch.randn(2, 1, 48, 96), torch.tensor([96, 48])
    features, mask, left = Stem(1, 4, strides)(x, lengths)
    assert features.shape == (2, 4, 48 // frequency, 96 // time)
    assert stem_resolution(strides, 48, 96) == (48 // frequency, 96 // time)
    assert left.tolist() == [96 // time, 48 // time]
    assert mask[1].sum() == 48 // time


@pytest.mark.parametrize("strides", [[5, 3], [8, 7], [0, 1], [16, 1]])
@pytest.mark.parametrize("settings", [SearchSettings, TrainingSettings])
def test_strides_that_cannot_be_are_refused_with_those_that_can(settings, strides):
    with pytest.raises(EmodartsError, match=r"stem_strides=.* is out of range: .*1, 2, 3, 4, 6, 8"):
        settings(stem_strides=strides)
    with pytest.raises(EmodartsError, match=r"each is one of 1, 2, 3, 4, 6, 8"):
        stem_layers(tuple(strides))
