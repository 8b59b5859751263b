"""CNN operations over (frequency, time): the eight of DARTS (Liu et al. 2019) and two newer ones, each masked.

Every operation maps `x (batch, channels, frequency, time)` and `mask (batch, 1, 1, time)` to an output of the same
shape (stride 1) or half of it, rounded up (stride 2); padded frames are zero on both sides. Operations over time alone
(`over_time`, for features whose bins have no order) run on one bin: k x k becomes 1 x k.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.depthwise import depthwise
from emodarts.networks.masking import strided_mask
from emodarts.networks.normalisation import normalise


class RunningStatistics(nn.Module):
    """Means and variances that evaluation mode normalises by, and their update; `track` off leaves them as they are."""

    running_mean: Tensor
    running_var: Tensor
    updates: Tensor

    def __init__(self, *shape: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps, self.track = momentum, eps, True
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))
        self.register_buffer("updates", torch.zeros(()))

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Take in the mean and the (biased) variance of a batch of `count` values, unless `track` is off."""
        if self.track:
            # A plain average at first: with few steps an epoch, the arbitrary start would linger.
            self.updates.add_(1)
            share = (1 / self.updates).clamp(min=self.momentum)
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), share)


class MaskedBatchNorm(RunningStatistics):
    """Batch normalisation (Ioffe & Szegedy 2015) whose statistics count real frames only; padding stays zero.

    In training mode the batch's statistics normalise and, unless `track` is switched off (see `frozen_statistics`),
    update the running ones that evaluation mode uses.
    """

    def __init__(self, channels: int, affine: bool = True, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__(channels, momentum=momentum, eps=eps)
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise `x (batch, channels, frequency, time)` by `mask (batch, 1, 1, time)`; padding becomes zero."""
        if self.training:
            output, mean, variance, count = normalise(x, mask, self.weight, self.bias, self.eps)
            self.update(mean, variance, count)
            return output
        scale = torch.rsqrt(self.running_var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -self.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        return torch.addcmul(shift.view(1, -1, 1, 1), x, scale.view(1, -1, 1, 1)) * mask


class frozen_statistics:
    """Within the block, training-mode passes leave the running statistics of all batch norms as they are.

    The bilevel steps use it: of all forward passes of one search step only the pass that trains the weights counts.
    """

    def __init__(self, network: nn.Module):
        self._norms = [m for m in network.modules() if isinstance(m, RunningStatistics)]

    def __enter__(self) -> None:
        self._before = [norm.track for norm in self._norms]
        for norm in self._norms:
            norm.track = False

    def __exit__(self, *exception: object) -> None:
        for norm, track in zip(self._norms, self._before, strict=True):
            norm.track = track


class Pointwise(nn.Conv2d):
    """A 1 x 1 convolution of every `strides`-th bin and frame; the others are left out beforehand.

    torch's own strided one writes past its memory on CPUs, channels-last with few input channels: wrong gradients or a
    crash (oneDNN issue 6035).
    """

    def __init__(self, inputs: int, outputs: int, strides: tuple[int, int] = (1, 1)):
        super().__init__(inputs, outputs, 1, bias=False)
        self.strides = strides

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, F, T)` -> `(batch, outputs, ceil(F / strides[0]), ceil(T / strides[1]))`."""
        output: Tensor = super().forward(x[:, :, :: self.strides[0], :: self.strides[1]])
        return output


class ReluConvNorm(nn.Module):
    """ReLU, 1 x 1 convolution, batch norm."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, affine: bool = True):
        super().__init__()
        self.stride = stride
        self.relu = nn.ReLU()
        self.convolution = Pointwise(inputs, outputs, (stride, stride))
        self.norm = MaskedBatchNorm(outputs, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, inputs, F, T)` -> `(batch, outputs, F', T')`."""
        mask = strided_mask(mask, self.stride)
        return self.norm(self.convolution(self.relu(x)), mask)


def window(size: int, over_time: bool) -> tuple[int, int]:
    """The extent of a kernel in frequency and time."""
    return (1 if over_time else size), size


class Convolution(nn.Module):
    """ReLU, convolution, batch norm (`conv_*`); `kernel` in frequency and time."""

    def __init__(self, channels: int, kernel: tuple[int, int], stride: int, affine: bool):
        super().__init__()
        self.stride = stride
        self.relu = nn.ReLU()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.convolution = nn.Conv2d(channels, channels, kernel, stride, padding, bias=False)
        self.norm = MaskedBatchNorm(channels, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, F, T)` -> `(batch, channels, F', T')`."""
        return self.norm(self.convolution(self.relu(x)), strided_mask(mask, self.stride))


class DepthwiseSeparable(nn.Module):
    """ReLU, depthwise convolution, pointwise convolution, batch norm; `kernel` in frequency and time."""

    def __init__(self, channels: int, kernel: tuple[int, int], stride: int, dilation: int, affine: bool):
        super().__init__()
        self.stride, self.dilation = stride, dilation
        self.relu = nn.ReLU()
        self.depthwise = nn.Conv2d(
            channels,
            channels,
            kernel,
            stride,
            padding=(dilation * (kernel[0] // 2), dilation * (kernel[1] // 2)),
            dilation=dilation,
            groups=channels,
            bias=False,
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = MaskedBatchNorm(channels, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, F, T)` -> `(batch, channels, F', T')`."""
        mask = strided_mask(mask, self.stride)
        return self.norm(self.pointwise(self._filtered(x)), mask)

    def _filtered(self, x: Tensor) -> Tensor:
        return depthwise(self.relu(x), self.depthwise.weight, self.stride, self.dilation)


class SeparableConvolution(nn.Module):
    """Two depthwise-separable convolutions, the stride in the first (`sep_conv_*`)."""

    def __init__(self, channels: int, kernel: tuple[int, int], stride: int, affine: bool):
        super().__init__()
        self.stride = stride
        self.first = DepthwiseSeparable(channels, kernel, stride, 1, affine)
        self.second = DepthwiseSeparable(channels, kernel, 1, 1, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, F, T)` -> `(batch, channels, F', T')`."""
        return self.second(self.first(x, mask), strided_mask(mask, self.stride))


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate in (0, 1) that the means of all channels decide (Hu et al. 2018, eq. 2 to 4).

    The mean is over all bins and over real frames only. A quarter of the channels in between, at least 2.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = nn.Linear(channels, max(2, channels // 4))
        self.excite = nn.Linear(self.squeeze.out_features, channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, F, T)`, zero at padded frames -> the same shape."""
        means = x.sum((2, 3)) / (mask.sum(3)[:, 0] * x.shape[2])
        return x * self.excite(self.squeeze(means).relu()).sigmoid()[:, :, None, None]


class SqueezeExciteConvolution(DepthwiseSeparable):
    """A depthwise-separable convolution with squeeze-excite between its two halves (`se_conv_*`).

    There as in MobileNetV3 (Howard et al. 2019): behind the batch norm the gate would rescale what the alphas weigh.
    """

    def __init__(self, channels: int, kernel: tuple[int, int], stride: int, affine: bool):
        super().__init__(channels, kernel, stride, 1, affine)
        self.gate = SqueezeExcite(channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, F, T)` -> `(batch, channels, F', T')`."""
        mask = strided_mask(mask, self.stride)
        return self.norm(self.pointwise(self.gate(self._filtered(x) * mask, mask)), mask)


class MaxPool(nn.Module):
    """3 x 3 max pooling over real frames, then batch norm without affine parameters.

    Padded frames are zero; they are brought below every real value first.
    """

    def __init__(self, channels: int, stride: int, over_time: bool = False):
        super().__init__()
        self.stride, self.window = stride, window(3, over_time)
        self.norm = MaskedBatchNorm(channels, affine=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, F, T)` -> `(batch, channels, F', T')`."""
        padding = (self.window[0] // 2, self.window[1] // 2)
        lowest = (1 - mask) * torch.finfo(x.dtype).min  # a sum keeps the memory format, masked_fill does not
        pooled = F.max_pool2d(x + lowest, self.window, self.stride, padding)
        mask = strided_mask(mask, self.stride)
        return self.norm(pooled * mask, mask)


class AveragePool(nn.Module):
    """3 x 3 average pooling over real frames (padding counts neither above nor below), then batch norm."""

    def __init__(self, channels: int, stride: int, over_time: bool = False):
        super().__init__()
        self.stride, self.window = stride, window(3, over_time)
        self.norm = MaskedBatchNorm(channels, affine=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, F, T)` -> `(batch, channels, F', T')`."""
        counts = self._sums(mask.expand(-1, -1, x.shape[2], -1))
        mask = strided_mask(mask, self.stride)
        return self.norm(self._sums(x) / counts.clamp(min=1), mask)

    def _sums(self, x: Tensor) -> Tensor:
        padding = (self.window[0] // 2, self.window[1] // 2)
        return F.avg_pool2d(x, self.window, self.stride, padding, divisor_override=1)


class Skip(nn.Module):
    """Identity."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return x as it is."""
        return x


class FactorizedReduction(nn.Module):
    """The skip connection of a reduction cell: two 1 x 1 convolutions of stride 2, one frame and bin apart."""

    def __init__(self, inputs: int, outputs: int, affine: bool, over_time: bool = False):
        super().__init__()
        self.over_time = over_time
        self.relu = nn.ReLU()
        self.even = Pointwise(inputs, outputs // 2, (2, 2))
        self.odd = Pointwise(inputs, outputs - outputs // 2, (2, 2))
        self.norm = MaskedBatchNorm(outputs, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, inputs, F, T)` -> `(batch, outputs, ceil(F / 2), ceil(T / 2))`."""
        up = 0 if self.over_time else 1  # with one bin, the two are one frame apart only
        x = F.pad(self.relu(x), (0, x.shape[3] % 2, 0, x.shape[2] % 2 * up))
        mask = strided_mask(mask, 2)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, up:, 1:])], 1), mask)


class Zero(nn.Module):
    """`none`: no connection."""

    def __init__(self, stride: int = 1):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Zeros of the output's shape."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Build(Protocol):
    """How an operation is built."""

    def __call__(self, channels: int, stride: int, affine: bool, over_time: bool = False) -> nn.Module:
        """`affine` for its batch norms, `over_time` for kernels over time alone."""
        ...


def _separable(size: int) -> Build:
    return lambda channels, stride, affine, over_time=False: SeparableConvolution(
        channels, window(size, over_time), stride, affine
    )


def _dilated(size: int) -> Build:
    return lambda channels, stride, affine, over_time=False: DepthwiseSeparable(
        channels, window(size, over_time), stride, 2, affine
    )


def _squeeze_excite(size: int) -> Build:
    return lambda channels, stride, affine, over_time=False: SqueezeExciteConvolution(
        channels, window(size, over_time), stride, affine
    )


def _skip(channels: int, stride: int, affine: bool, over_time: bool = False) -> nn.Module:
    return Skip() if stride == 1 else FactorizedReduction(channels, channels, affine, over_time)


# name -> how it is built: DARTS's eight in DARTS's order; a time-channel separable convolution (QuartzNet, Kriman et
# al. 2020), which leaves the bins apart; squeeze-excite; an ordinary convolution
CNN_OPERATIONS: dict[str, Build] = {
    "none": lambda channels, stride, affine, over_time=False: Zero(stride),
    "max_pool_3x3": lambda channels, stride, affine, over_time=False: MaxPool(channels, stride, over_time),
    "avg_pool_3x3": lambda channels, stride, affine, over_time=False: AveragePool(channels, stride, over_time),
    "skip_connect": _skip,
    "sep_conv_3x3": _separable(3),
    "sep_conv_5x5": _separable(5),
    "dil_conv_3x3": _dilated(3),
    "dil_conv_5x5": _dilated(5),
    "time_conv_7": lambda channels, stride, affine, over_time=False: DepthwiseSeparable(
        channels, window(7, True), stride, 1, affine
    ),
    "se_conv_3x3": _squeeze_excite(3),
    "conv_3x3": lambda channels, stride, affine, over_time=False: Convolution(
        channels, window(3, over_time), stride, affine
    ),
}
