"""CNN operations over (frequency, time): the eight of DARTS (Liu et al. 2019), each masked.

Every operation maps `x (batch, channels, frequency, time)` and `mask (batch, 1, 1, time)` to an output of the same
shape (stride 1) or half of it, rounded up (stride 2); padded frames are zero on both sides.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.masking import strided_mask


class MaskedBatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) whose statistics count real frames only; padding stays zero.

    In training mode the batch's statistics normalise and, unless `track` is switched off (see `frozen_statistics`),
    update the running ones that evaluation mode uses.
    """

    running_mean: Tensor
    running_var: Tensor
    updates: Tensor

    def __init__(self, channels: int, affine: bool = True, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps, self.track = momentum, eps, True
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("updates", torch.zeros(()))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise `x (batch, channels, frequency, time)`, zero at padded frames, by `mask (batch, 1, 1, time)`."""
        if self.training:
            mean, variance = self._batch_statistics(x, mask)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        return torch.addcmul(shift.view(1, -1, 1, 1) * mask, x, scale.view(1, -1, 1, 1))

    def _batch_statistics(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        # Padding is zero, so plain sums over everything are sums over the real frames.
        count = mask.sum() * x.shape[2]
        mean = x.sum((0, 2, 3)) / count
        variance = ((x * x).sum((0, 2, 3)) / count - mean * mean).clamp(min=0)
        if self.track:
            with torch.no_grad():
                # A plain average at first: with few steps an epoch, the arbitrary start would linger.
                self.updates += 1
                share = (1 / self.updates).clamp(min=self.momentum)
                self.running_mean.lerp_(mean.detach(), share)
                self.running_var.lerp_(variance.detach() * count / (count - 1).clamp(min=1), share)
        return mean, variance


class frozen_statistics:
    """Within the block, training-mode passes leave the running statistics of all batch norms as they are.

    The bilevel steps use it: of all forward passes of one search step only the pass that trains the weights counts.
    """

    def __init__(self, network: nn.Module):
        self._norms = [m for m in network.modules() if isinstance(m, MaskedBatchNorm)]

    def __enter__(self) -> None:
        for norm in self._norms:
            norm.track = False

    def __exit__(self, *exception: object) -> None:
        for norm in self._norms:
            norm.track = True


class ReluConvNorm(nn.Module):
    """ReLU, convolution, batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, affine: bool = True):
        super().__init__()
        self.stride = stride
        self.relu = nn.ReLU()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = MaskedBatchNorm(outputs, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, inputs, F, T)` -> `(batch, outputs, F', T')`."""
        mask = strided_mask(mask, self.stride)
        return self.norm(self.convolution(self.relu(x)) * mask, mask)


class _DepthwiseSeparable(nn.Module):
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""

    def __init__(self, channels: int, kernel: int, stride: int, dilation: int, affine: bool):
        super().__init__()
        self.stride = stride
        self.relu = nn.ReLU()
        self.depthwise = nn.Conv2d(
            channels,
            channels,
            kernel,
            stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=channels,
            bias=False,
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = MaskedBatchNorm(channels, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mask = strided_mask(mask, self.stride)
        return self.norm(self.pointwise(self.depthwise(self.relu(x))) * mask, mask)


class SeparableConvolution(nn.Module):
    """Two depthwise-separable convolutions, the stride in the first (`sep_conv_*`)."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        self.stride = stride
        self.first = _DepthwiseSeparable(channels, kernel, stride, 1, affine)
        self.second = _DepthwiseSeparable(channels, kernel, 1, 1, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, F, T)` -> `(batch, channels, F', T')`."""
        return self.second(self.first(x, mask), strided_mask(mask, self.stride))


class MaxPool(nn.Module):
    """3 x 3 max pooling over real frames, then batch norm without affine parameters."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.stride = stride
        self.norm = MaskedBatchNorm(channels, affine=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, F, T)` -> `(batch, channels, F', T')`."""
        pooled = F.max_pool2d(x.masked_fill(mask == 0, float("-inf")), 3, self.stride, padding=1)
        mask = strided_mask(mask, self.stride)
        return self.norm(pooled.masked_fill(mask == 0, 0.0), mask)


class AveragePool(nn.Module):
    """3 x 3 average pooling over real frames (padding counts neither above nor below), then batch norm."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.stride = stride
        self.norm = MaskedBatchNorm(channels, affine=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, F, T)` -> `(batch, channels, F', T')`."""
        sums = F.avg_pool2d(x, 3, self.stride, padding=1, divisor_override=1)
        counts = F.avg_pool2d(mask.expand(-1, -1, x.shape[2], -1), 3, self.stride, padding=1, divisor_override=1)
        mask = strided_mask(mask, self.stride)
        return self.norm(sums / counts.clamp(min=1) * mask, mask)


class Skip(nn.Module):
    """Identity."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return x as it is."""
        return x


class FactorizedReduction(nn.Module):
    """The skip connection of a reduction cell: two 1 x 1 convolutions of stride 2, one frame and bin apart."""

    def __init__(self, inputs: int, outputs: int, affine: bool):
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, 2, bias=False)
        self.norm = MaskedBatchNorm(outputs, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, inputs, F, T)` -> `(batch, outputs, ceil(F / 2), ceil(T / 2))`."""
        x = F.pad(self.relu(x), (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        mask = strided_mask(mask, 2)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], 1) * mask, mask)


class Zero(nn.Module):
    """`none`: no connection."""

    def __init__(self, stride: int = 1):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Zeros of the output's shape."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


Build = Callable[[int, int, bool], nn.Module]

# name -> build(channels, stride, affine), in DARTS's order
CNN_OPERATIONS: dict[str, Build] = {
    "none": lambda channels, stride, affine: Zero(stride),
    "max_pool_3x3": lambda channels, stride, affine: MaxPool(channels, stride),
    "avg_pool_3x3": lambda channels, stride, affine: AveragePool(channels, stride),
    "skip_connect": lambda channels, stride, affine: (
        Skip() if stride == 1 else FactorizedReduction(channels, channels, affine)
    ),
    "sep_conv_3x3": lambda channels, stride, affine: SeparableConvolution(channels, 3, stride, affine),
    "sep_conv_5x5": lambda channels, stride, affine: SeparableConvolution(channels, 5, stride, affine),
    "dil_conv_3x3": lambda channels, stride, affine: _DepthwiseSeparable(channels, 3, stride, 2, affine),
    "dil_conv_5x5": lambda channels, stride, affine: _DepthwiseSeparable(channels, 5, stride, 2, affine),
}
