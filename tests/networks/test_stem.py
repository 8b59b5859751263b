"""The strides of a stem are those of its settings, to the frame and to the bin, or are refused."""

import copy
from itertools import product
from math import prod

import pytest
import torch

from emodarts.errors import EmodartsError
from emodarts.networks.masking import image_mask, strided_mask
from emodarts.networks.stem import STEM_STRIDES, Stem, stem_layers, stem_resolution
from emodarts.search.settings import SearchSettings
from emodarts.training.settings import TrainingSettings
from tests.support.plain import with_plain_parts


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


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("inputs", [1, 3])
def test_a_stem_is_its_plain_layers(inputs, dtype, tolerance):
    torch.manual_seed(0)
    stem, lengths = Stem(inputs, 4, (8, 2)).to(dtype), torch.tensor([19, 8])
    plain = with_plain_parts(copy.deepcopy(stem))
    mask = image_mask(lengths, 19, dtype)
    x = torch.randn(2, inputs, 16, 19, dtype=dtype) * mask
    found = stem(x.transpose(2, 3).contiguous().transpose(2, 3), lengths)[0]
    expected = x
    for number, (layer, norm, (_, stride)) in enumerate(zip(plain.layers, plain.norms, plain.strides, strict=True)):
        mask = strided_mask(mask, stride)
        expected = norm(layer(expected.relu() if number else expected), mask)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    direction = torch.randn_like(expected)
    gradients = [
        torch.autograd.grad((y * direction).sum(), m.parameters()) for y, m in ((found, stem), (expected, plain))
    ]
    for of_stem, of_plain in zip(*gradients, strict=True):
        assert (of_stem - of_plain).norm() <= 10 * tolerance * (1 + of_plain.norm())


@pytest.mark.parametrize("strides", [[5, 3], [8, 7], [0, 1], [16, 1]])
@pytest.mark.parametrize("settings", [SearchSettings, TrainingSettings])
def test_strides_that_cannot_be_are_refused_with_those_that_can(settings, strides):
    with pytest.raises(EmodartsError, match=r"stem_strides=.* is out of range: .*1, 2, 3, 4, 6, 8"):
        settings(stem_strides=strides)
    with pytest.raises(EmodartsError, match=r"each is one of 1, 2, 3, 4, 6, 8"):
        stem_layers(tuple(strides))
