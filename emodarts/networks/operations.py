"""CNN operations over (frequency, time): the eight of DARTS (Liu et al. 2019) and three newer ones, each masked.

Every operation maps `x (batch, channels, frequency, time)` and `mask (batch, 1, 1, time)` to an output of the same
shape (stride 1) or half of it, rounded up (stride 2); padded frames are zero on both sides. Operations over time alone
(`over_time`, for features whose bins have no order) run on one bin: k x k becomes 1 x k.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

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
        if not self.track:
            return
        # A plain average at first: with few steps an epoch, the arbitrary start would linger.
        self.updates.add_(1)
        if self.updates.device.type == "cpu" and not torch.compiler.is_compiling():
            # The same in fewer calls, by Python's numbers, which a GPU would have to be waited for.
            momentum, values = max(1 / float(self.updates), self.momentum), float(count)
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * values / max(values - 1, 1), momentum)
        else:
            fraction = (1 / self.updates).clamp(min=self.momentum)
            self.running_mean.lerp_(mean, fraction)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), fraction)


class MaskedBatchNorm(RunningStatistics):
    """Batch normalisation (Ioffe & Szegedy 2015) whose statistics count real frames only; padding stays zero.

    In training mode the batch's statistics normalise and, unless `track` is switched off (see `frozen_statistics`),
    update the running ones that evaluation mode uses.
    """

    def __init__(self, channels: int, affine: bool = True, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__(channels, momentum=momentum, eps=eps)
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor, mask: Tensor, relu: bool = False) -> Tensor:
        """Normalise `x (batch, channels, frequency, time)` by `mask (batch, 1, 1, time)`; padding becomes zero.

        `relu`: and put a ReLU behind it, which in training costs no pass of its own.
        """
        if self.training:
            output, mean, variance, count = normalise(x, mask, self.weight, self.bias, self.eps, relu)
            self.update(mean, variance, count)
            return output
        scale = torch.rsqrt(self.running_var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -self.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        output = torch.addcmul(shift.view(1, -1, 1, 1), x, scale.view(1, -1, 1, 1)) * mask
        return output.relu() if relu else output


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Within the block, training-mode passes leave the running statistics of all batch norms as they are.

    The bilevel steps use it: of all forward passes of one search step only the pass that trains the weights counts.
    """
    norms = [module for module in network.modules() if isinstance(module, RunningStatistics)]
    before = [norm.track for norm in norms]
    try:
        for norm in norms:
            norm.track = False
        yield
    finally:
        for norm, track in zip(norms, before, strict=True):
            norm.track = track


def kernel_size(size: int, over_time: bool) -> tuple[int, int]:
    """The extent of a kernel in frequency and time."""
    return (1 if over_time else size), size


def same_padding(kernel: tuple[int, int], dilation: int = 1) -> tuple[int, int]:
    """The padding in frequency and time with which output frame t is centred on input frame `stride * t`."""
    return dilation * (kernel[0] // 2), dilation * (kernel[1] // 2)


class PointwiseConvolution(nn.Conv2d):
    """A 1 x 1 convolution of every `strides`-th bin and frame; the others are left out beforehand.

    torch's own strided one writes past its memory on CPUs, channels-last with few input channels: wrong gradients or a
    crash (oneDNN issue 6035).
    """

    def __init__(self, inputs: int, outputs: int, strides: tuple[int, int] = (1, 1)):
        super().__init__(inputs, outputs, 1, bias=False)
        self.strides = strides

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, frequency, time)` -> `(batch, outputs, frequency, time)`, divided by the strides."""
        output: Tensor = super().forward(x[:, :, :: self.strides[0], :: self.strides[1]])
        return output


class ReluConvNorm(nn.Module):
    """ReLU, 1 x 1 convolution, batch norm."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, affine: bool = True):
        super().__init__()
        self.stride = stride
        self.relu = nn.ReLU()
        self.convolution = PointwiseConvolution(inputs, outputs, (stride, stride))
        self.norm = MaskedBatchNorm(outputs, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, inputs, frequency, time)` -> `(batch, outputs, frequency, time)`, or half of it with stride 2."""
        return self.norm(self.convolution(self.relu(x)), strided_mask(mask, self.stride))


class Convolution(nn.Module):
    """ReLU, convolution, batch norm (`conv_*`, `conv1d_*`); `kernel` in frequency and time."""

    def __init__(self, channels: int, kernel: tuple[int, int], stride: int, affine: bool, dilation: int = 1):
        super().__init__()
        self.stride = stride
        self.relu = nn.ReLU()
        padding = same_padding(kernel, dilation)
        self.convolution = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, bias=False)
        self.norm = MaskedBatchNorm(channels, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` -> the same shape, or half of it with stride 2."""
        return self.norm(self.convolution(self.relu(x)), strided_mask(mask, self.stride))


class DepthwiseSeparable(nn.Module):
    """ReLU, depthwise convolution, pointwise convolution, batch norm; `kernel` in frequency and time."""

    def __init__(self, channels: int, kernel: tuple[int, int], stride: int, affine: bool, dilation: int = 1):
        super().__init__()
        self.stride, self.dilation = stride, dilation
        self.relu = nn.ReLU()
        padding = same_padding(kernel, dilation)
        self.depthwise = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = MaskedBatchNorm(channels, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` -> the same shape, or half of it with stride 2."""
        return self.behind_relu(self.relu(x), mask)

    def behind_relu(self, x: Tensor, mask: Tensor, relu: bool = False) -> Tensor:
        """The same of what is behind a ReLU already; with `relu` the output is, too."""
        return self.norm(self.pointwise(self._filter(x)), strided_mask(mask, self.stride), relu)

    def _filter(self, x: Tensor) -> Tensor:
        return depthwise(x, self.depthwise.weight, self.stride, self.dilation)


class SeparableConvolution(nn.Module):
    """Two depthwise-separable convolutions, the stride in the first (`sep_conv_*`)."""

    def __init__(self, channels: int, kernel: tuple[int, int], stride: int, affine: bool):
        super().__init__()
        self.stride = stride
        self.first = DepthwiseSeparable(channels, kernel, stride, affine)
        self.second = DepthwiseSeparable(channels, kernel, 1, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` -> the same shape, or half of it with stride 2."""
        between = self.first.behind_relu(self.first.relu(x), mask, relu=True)
        return self.second.behind_relu(between, strided_mask(mask, self.stride))


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate in (0, 1) that the means of all channels decide (Hu et al. 2018, eq. 2 to 4).

    The mean is over all bins and over real frames only. A quarter of the channels in between, at least 2.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = nn.Linear(channels, max(2, channels // 4))
        self.excite = nn.Linear(self.squeeze.out_features, channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)`, zero at padded frames -> the same shape."""
        means = x.sum((2, 3)) / (mask.sum(3)[:, 0] * x.shape[2])
        return x * self.excite(self.squeeze(means).relu()).sigmoid()[:, :, None, None]


class SqueezeExciteConvolution(DepthwiseSeparable):
    """A depthwise-separable convolution with squeeze-excite between its two halves (`se_conv_*`).

    There as in MobileNetV3 (Howard et al. 2019): behind the batch norm the gate would rescale what the alphas weigh.
    """

    def __init__(self, channels: int, kernel: tuple[int, int], stride: int, affine: bool):
        super().__init__(channels, kernel, stride, affine)
        self.gate = SqueezeExcite(channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` -> the same shape, or half of it with stride 2."""
        mask = strided_mask(mask, self.stride)
        return self.norm(self.pointwise(self.gate(self._filter(self.relu(x)) * mask, mask)), mask)


class Pool(nn.Module):
    """3 x 3 pooling over real frames, then batch norm without affine parameters."""

    def __init__(self, channels: int, stride: int, over_time: bool = False):
        super().__init__()
        self.stride, self.kernel = stride, kernel_size(3, over_time)
        self.norm = MaskedBatchNorm(channels, affine=False)


class MaxPool(Pool):
    """The largest value; padded frames, which are zero, are brought below every real value first."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` -> the same shape, or half of it with stride 2."""
        lowest = (1 - mask) * torch.finfo(x.dtype).min  # a sum keeps the memory format, masked_fill does not
        pooled = F.max_pool2d(x + lowest, self.kernel, self.stride, same_padding(self.kernel))
        mask = strided_mask(mask, self.stride)
        return self.norm(pooled * mask, mask)


class AveragePool(Pool):
    """The mean; padding counts neither above nor below."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` -> the same shape, or half of it with stride 2."""
        counts = self._sums(mask.expand(-1, -1, x.shape[2], -1))
        return self.norm(self._sums(x) / counts.clamp(min=1), strided_mask(mask, self.stride))

    def _sums(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel, self.stride, same_padding(self.kernel), divisor_override=1)


class Identity(nn.Module):
    """`skip_connect` where nothing is halved, in CNN and sequence cells."""

    def forward(self, x: Tensor, extent: Tensor) -> Tensor:
        """Return x as it is."""
        return x


class FactorizedReduction(nn.Module):
    """The skip connection of a reduction cell: two 1 x 1 convolutions of stride 2, one frame and bin apart."""

    def __init__(self, channels: int, affine: bool, over_time: bool = False):
        super().__init__()
        self.over_time = over_time
        self.relu = nn.ReLU()
        self.even = PointwiseConvolution(channels, channels // 2, (2, 2))
        self.odd = PointwiseConvolution(channels, channels - channels // 2, (2, 2))
        self.norm = MaskedBatchNorm(channels, affine)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` -> half of the shape."""
        up = 0 if self.over_time else 1  # with one bin, the two are one frame apart only
        x = F.pad(self.relu(x), (0, x.shape[3] % 2, 0, x.shape[2] % 2 * up))
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, up:, 1:])], 1), strided_mask(mask, 2))


class Zero(nn.Module):
    """`none`: no connection, in CNN and sequence cells."""

    def __init__(self, stride: int = 1):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor, extent: Tensor) -> Tensor:
        """Zeros of the output's shape."""
        return torch.zeros_like(x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride])


# (channels, stride, affine: batch norms with parameters, over_time: kernels over time alone) -> module
BuildCnnOperation = Callable[[int, int, bool, bool], nn.Module]


def _with_kernel(
    operation: Callable[[int, tuple[int, int], int, bool], nn.Module], size: int, over_time_alone: bool = False
) -> BuildCnnOperation:
    return lambda channels, stride, affine, over_time: operation(
        channels, kernel_size(size, over_time or over_time_alone), stride, affine
    )


# name -> how it is built: DARTS's eight in DARTS's order; a time-channel separable convolution (QuartzNet, Kriman et
# al. 2020), which leaves the bins apart; squeeze-excite; an ordinary convolution; over time alone, ordinary ones and
# separable ones of other kernels, `_d` with a dilation
CNN_OPERATIONS: dict[str, BuildCnnOperation] = {
    "none": lambda channels, stride, affine, over_time: Zero(stride),
    "max_pool_3x3": lambda channels, stride, affine, over_time: MaxPool(channels, stride, over_time),
    "avg_pool_3x3": lambda channels, stride, affine, over_time: AveragePool(channels, stride, over_time),
    "skip_connect": lambda channels, stride, affine, over_time: (
        Identity() if stride == 1 else FactorizedReduction(channels, affine, over_time)
    ),
    "sep_conv_3x3": _with_kernel(SeparableConvolution, 3),
    "sep_conv_5x5": _with_kernel(SeparableConvolution, 5),
    "dil_conv_3x3": _with_kernel(partial(DepthwiseSeparable, dilation=2), 3),
    "dil_conv_5x5": _with_kernel(partial(DepthwiseSeparable, dilation=2), 5),
    "time_conv_7": _with_kernel(DepthwiseSeparable, 7, over_time_alone=True),
    "se_conv_3x3": _with_kernel(SqueezeExciteConvolution, 3),
    "conv_3x3": _with_kernel(Convolution, 3),
    "conv1d_3": _with_kernel(Convolution, 3, over_time_alone=True),
    "conv1d_5": _with_kernel(Convolution, 5, over_time_alone=True),
    "conv1d_3_d2": _with_kernel(partial(Convolution, dilation=2), 3, over_time_alone=True),
    "conv1d_3_d4": _with_kernel(partial(Convolution, dilation=4), 3, over_time_alone=True),
    "time_conv_15": _with_kernel(DepthwiseSeparable, 15, over_time_alone=True),
    "time_conv_7_d2": _with_kernel(partial(DepthwiseSeparable, dilation=2), 7, over_time_alone=True),
}
