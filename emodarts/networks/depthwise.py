"""Depthwise convolution whose gradients are computed fast on a CPU.

PyTorch's oneDNN kernels are fast for the forward pass of any depthwise convolution in the channels-last layout, but the
gradient for the kernel only without dilation, up to three columns and on images at least as high, the gradient for the
input only without dilation: the others take 5 to 30 times as long. Both gradients are brought to those cases here;
nothing is approximated.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from emodarts.networks.first_order import first_order_only

FAST_COLUMNS = 3  # the widest kernel whose gradient oneDNN computes fast


def depthwise(x: Tensor, kernel: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """One odd kernel for each channel, output frame t centred on input frame `stride * t`.

    x `(batch, channels, frequency, time)`, fast if channels-last; kernel `(channels, 1, rows, columns)`; the output's
    last two axes are divided by the stride, rounded up. Gradients of first order only.
    """
    if stride > 1 and dilation % stride == 0:  # frames in between are never met
        x, stride, dilation = x[:, :, ::stride, ::stride], 1, dilation // stride
    if x.device.type == "cpu" and (stride == 1 or dilation == 1):
        if torch.is_autocast_enabled("cpu"):
            x, kernel = (t.to(torch.get_autocast_dtype("cpu")) for t in (x, kernel))
        output: Tensor = _Depthwise.apply(x, kernel, stride, dilation)
        return output
    return _convolve(x, kernel, stride, dilation)


def _convolve(x: Tensor, kernel: Tensor, stride: int, dilation: int) -> Tensor:
    return F.conv2d(x, kernel, None, stride, _padding(kernel, dilation), dilation, groups=len(kernel))


def _padding(kernel: Tensor, dilation: int) -> list[int]:
    return [dilation * (size // 2) for size in kernel.shape[2:]]


class _Depthwise(torch.autograd.Function):
    """Either the stride or the dilation is 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.stride, ctx.dilation = stride, dilation
        return _convolve(x, kernel, stride, dilation)

    @staticmethod
    @first_order_only
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, kernel = ctx.saved_tensors
        of_x = of_kernel = None
        if ctx.needs_input_grad[0]:
            of_x = _gradient_of_input(gradient, x, kernel, ctx.stride, ctx.dilation)
        if ctx.needs_input_grad[1]:
            of_kernel = _gradient_of_kernel(gradient, x, kernel, ctx.stride, ctx.dilation)
        return of_x, of_kernel, None, None


def _gradient_of_input(gradient: Tensor, x: Tensor, kernel: Tensor, stride: int, dilation: int) -> Tensor:
    """With stride 1 it is the same convolution, of the output's gradient with the kernel turned round."""
    if stride == 1:
        return _convolve(gradient, kernel.flip(2, 3), 1, dilation)
    return _native_gradient(gradient, x, kernel, [stride, stride], of_kernel=False)


def _gradient_of_kernel(gradient: Tensor, x: Tensor, kernel: Tensor, stride: int, dilation: int) -> Tensor:
    """Three columns at a time: the middle one and two equally far from it, those of a narrow kernel on thinner images.

    With a stride the images that lie between each other, of every stride-th column, meet columns of their own.
    """
    rows, columns = kernel.shape[2:]
    if dilation == 1 and columns <= FAST_COLUMNS and rows <= x.shape[2]:
        return _native_gradient(gradient, x, kernel, [stride, stride], of_kernel=True)
    half = columns // 2
    by_offset: dict[int, Tensor] = {}
    for first in range(stride):
        part = _padded(x[..., first::stride], x.shape[2], gradient.shape[3])
        for step in range(1, max(1, (half + first) // stride) + 1):
            three = _three_columns(gradient, part, rows, step, stride, dilation).unbind(3)
            by_offset |= zip((first - step * stride, first, first + step * stride), three, strict=True)
    return torch.stack([by_offset[offset] for offset in range(-half, half + 1)], 3)


def _three_columns(gradient: Tensor, x: Tensor, rows: int, step: int, stride: int, dilation: int) -> Tensor:
    """The kernel's gradient in the middle and `step` columns from it, `(channels, 1, rows, 3)`.

    The stride is that of the rows alone. A dilated kernel is taken as a larger one, of whose rows some do not count;
    images that are less high are padded.
    """
    extent, apart = dilation * (rows - 1) + 1, step * dilation
    height, width = max(extent, x.shape[2]), x.shape[3] + -x.shape[3] % apart
    gradient = _phases(_padded(gradient, -(-height // stride), width), apart)
    x = _phases(_padded(x, height, width), apart)
    kernel = x.new_empty(x.shape[1], 1, extent, FAST_COLUMNS)  # its values do not matter
    of_phases = _native_gradient(gradient, x, kernel, [stride, 1], of_kernel=True)
    of_rows = of_phases[:, :, ::dilation]
    return of_rows if apart == 1 else of_rows.unflatten(0, (apart, -1)).sum(0)


def _phases(x: Tensor, apart: int) -> Tensor:
    """Columns so far apart beside each other: a view `(batch, apart * channels, frequency, time / apart)`."""
    if apart == 1:
        return x
    return x.permute(0, 2, 3, 1).unflatten(2, (-1, apart)).flatten(3).permute(0, 3, 1, 2)


def _padded(x: Tensor, rows: int, columns: int) -> Tensor:
    """Channels-last, with so many rows and columns, the last of zeros."""
    if x.shape[2:] == (rows, columns):
        return x.contiguous(memory_format=torch.channels_last)
    padded = x.new_empty(x.shape[0], rows, columns, x.shape[1]).permute(0, 3, 1, 2)
    padded[:, :, : x.shape[2], : x.shape[3]] = x
    padded[:, :, x.shape[2] :] = 0
    padded[:, :, : x.shape[2], x.shape[3] :] = 0
    return padded


def _native_gradient(gradient: Tensor, x: Tensor, kernel: Tensor, strides: list[int], of_kernel: bool) -> Tensor:
    """PyTorch's own gradient for the kernel or the input of an undilated convolution."""
    wanted = [not of_kernel, of_kernel, False]
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient, x, kernel, None, strides, _padding(kernel, 1), [1, 1], False, [0, 0], len(kernel), wanted
    )
    return gradients[int(of_kernel)]
