"""Depthwise convolution whose gradients are computed fast on a CPU.

PyTorch's oneDNN kernels are fast for the forward pass of any depthwise convolution in the channels-last layout, but the
gradient for the kernel only without dilation and up to three columns, the gradient for the input only without
dilation: the others take 10 to 30 times as long. Both gradients are brought to those cases here; nothing is
approximated.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FAST_COLUMNS = 3  # the widest kernel whose gradient oneDNN computes fast


def depthwise(x: Tensor, kernel: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """One odd kernel for each channel, output frame t centred on input frame `stride * t`.

    x `(batch, channels, F, T)`, fast if channels-last; kernel `(channels, 1, rows, columns)`; output `(batch,
    channels, ceil(F / stride), ceil(T / stride))`.
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
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, kernel = ctx.saved_tensors
        of_x = of_kernel = None
        if torch.is_grad_enabled():  # a second derivative is wanted
            wanted = [t for t, needed in zip((x, kernel), ctx.needs_input_grad, strict=False) if needed]
            output = _convolve(x, kernel, ctx.stride, ctx.dilation)
            found = iter(torch.autograd.grad(output, wanted, gradient, create_graph=True))
            of_x, of_kernel = (next(found) if needed else None for needed in ctx.needs_input_grad[:2])
            return of_x, of_kernel, None, None
        if ctx.needs_input_grad[0]:
            of_x = _gradient_of_input(gradient, x, kernel, ctx.stride, ctx.dilation)
        if ctx.needs_input_grad[1]:
            of_kernel = _gradient_of_kernel(gradient, x, kernel, ctx.stride, ctx.dilation)
        return of_x, of_kernel, None, None


def _gradient_of_input(gradient: Tensor, x: Tensor, kernel: Tensor, stride: int, dilation: int) -> Tensor:
    """With stride 1 it is the same convolution, of the output's gradient with the kernel turned round."""
    if stride == 1:
        return _convolve(gradient, kernel.flip(2, 3), 1, dilation)
    return _native_gradients(gradient, x, kernel, stride, _padding(kernel, 1), [True, False])[0]


def _gradient_of_kernel(gradient: Tensor, x: Tensor, kernel: Tensor, stride: int, dilation: int) -> Tensor:
    """As that of a larger kernel without dilation, of whose rows some do not count, on columns that lie apart."""
    if dilation == 1:
        return _gradient_of_undilated(gradient, x, len(kernel), kernel.shape[2:], stride)
    rows = dilation * (kernel.shape[2] - 1) + 1
    gradient, x = _phases(gradient, dilation), _phases(x, dilation)
    of_phases = _gradient_of_undilated(gradient, x, x.shape[1], (rows, kernel.shape[3]), stride)
    return of_phases[:, :, ::dilation].unflatten(0, (dilation, -1)).sum(0)


def _phases(x: Tensor, dilation: int) -> Tensor:
    """Columns `dilation` apart beside each other, a view if channels-last: a dilated kernel never mixes the others.

    `(batch, channels, F, T)` -> `(batch, dilation * channels, F, ceil(T / dilation))`.
    """
    missing = -x.shape[3] % dilation
    x = _with_margins(x, 0, missing) if missing else x
    return x.permute(0, 2, 3, 1).unflatten(2, (-1, dilation)).flatten(3).permute(0, 3, 1, 2)


def _gradient_of_undilated(gradient: Tensor, x: Tensor, channels: int, size: Sequence[int], stride: int) -> Tensor:
    """Three columns at a time, each three as those of a narrow kernel on x moved to the left or the right.

    Neighbouring triples share a column, since the number of columns is odd. An input shorter than half a kernel cannot
    be moved that far, and is soon done with anyway.
    """
    rows, columns = size
    if columns <= FAST_COLUMNS or x.shape[3] < columns // 2:
        kernel = x.new_empty(channels, 1, rows, columns)  # its values do not matter
        return _native_gradients(gradient, x, kernel, stride, _padding(kernel, 1), [False, True])[1]
    kernel = x.new_empty(channels, 1, rows, FAST_COLUMNS)
    triples = []
    for first in range(0, columns - 2, 2):
        before = columns // 2 - first  # so many columns are left of the input when the first of the three meets it
        moved = _with_margins(x, before, 2 - before)
        triples.append(_native_gradients(gradient, moved, kernel, stride, [rows // 2, 0], [False, True])[1])
    return torch.cat([triple[..., :2] for triple in triples[:-1]] + [triples[-1]], 3)


def _with_margins(x: Tensor, before: int, after: int) -> Tensor:
    """Columns of zeros before and after those of x, or so many columns less: `F.pad`, filling nothing twice."""
    columns = x.shape[3]
    padded = x.new_empty(x.shape[0], x.shape[2], before + columns + after, x.shape[1]).permute(0, 3, 1, 2)
    padded[..., max(0, before) : before + columns] = x[..., max(0, -before) : columns - max(0, -after)]
    padded[..., : max(0, before)] = 0
    padded[..., padded.shape[3] - max(0, after) :] = 0
    return padded


def _native_gradients(
    gradient: Tensor, x: Tensor, kernel: Tensor, stride: int, padding: list[int], wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """PyTorch's own gradients for input and kernel of an undilated convolution."""
    strides, groups = [stride, stride], kernel.shape[0]
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        gradient, x, kernel, None, strides, padding, [1, 1], False, [0, 0], groups, [*wanted, False]
    )
    return gradients
