"""Operations without weights, which are the same for all edges that leave a state; pools in the layout of cells."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.depthwise import depthwise
from emodarts.networks.masking import strided_mask
from emodarts.networks.operations import AveragePool, MaxPool, Skip


class SharedAveragePool(AveragePool):
    """Equal to `AveragePool`: its sums are a depthwise convolution with ones, its counts a product of two axes'."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(batch, channels, F, T)` -> `(batch, channels, F', T')`."""
        with torch.autocast(x.device.type, enabled=False):  # a pool, which autocast leaves as it is
            sums = depthwise(x, x.new_ones(x.shape[1], 1, *self.window), self.stride)
        counts = self._counts(x.new_ones(1, 1, x.shape[2], 1), 2) * self._counts(mask, 3)
        mask = strided_mask(mask, self.stride)
        return self.norm(sums * (mask / counts.clamp(min=1)), mask)

    def _counts(self, real: Tensor, axis: int) -> Tensor:
        """How many real bins (axis 2) or frames (axis 3) a window holds."""
        if axis == 2:
            window, strides = (self.window[0], 1), (self.stride, 1)
        else:
            window, strides = (1, self.window[1]), (1, self.stride)
        return F.avg_pool2d(real, window, strides, (window[0] // 2, window[1] // 2), divisor_override=1)


def shared(plain: nn.Module) -> nn.Module | None:
    """The one operation that stands for those of all edges, if it has no weights; None if it has."""
    if type(plain) is Skip or type(plain) is MaxPool:
        return plain
    if type(plain) is AveragePool:
        return SharedAveragePool(plain.norm.running_mean.numel(), plain.stride, over_time=plain.window[0] == 1)
    return None
