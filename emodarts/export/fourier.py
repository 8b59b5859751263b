"""The Fourier transform as a convolution, which every ONNX runtime has."""

import math

import torch
from torch import Tensor


def fourier_kernels(size: int, window: Tensor) -> Tensor:
    """Kernels `(2 * (size // 2 + 1), 1, window)`: cosines, then sines, times the window."""
    steps = torch.arange(len(window), dtype=torch.float64)
    bins = torch.arange(size // 2 + 1, dtype=torch.float64)[:, None]
    angles = 2 * math.pi / size * ((bins * steps) % size)
    return (torch.cat([angles.cos(), angles.sin()]) * window.double()).float()[:, None]
