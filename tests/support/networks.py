"""A small network's shape, and a batch of images of three lengths for it."""

import torch

from emodarts.networks.masking import image_mask
from emodarts.networks.network import NetworkShape

SHAPE = NetworkShape(4, 1, 16, 3, 2, 4, 1, 2, 8, 4, (2, 2))
LENGTHS = torch.tensor([23, 40, 17])


def inputs(channels=1, bins=16, frames=40, seed=0):
    x = torch.randn(3, channels, bins, frames, generator=torch.Generator().manual_seed(seed))
    return x * image_mask(LENGTHS, frames, x.dtype)
