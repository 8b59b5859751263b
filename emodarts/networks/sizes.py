"""Sizes that follow from settings, and which layer a cell reads: for networks and for their drawings, without torch."""

import math

from emodarts.networks.names import DEPTH

_STEM_STRIDES = (4, 2)  # frequency, time
_BLOCKS = ((1.5, (2, 2)), (2.0, (2, 1)), (3.0, (2, 2)))  # channels as a multiple of the first ones, strides


def time_stride(frame_rate: float, sequence_rate: float) -> int:
    """The stride in time, 1, 2, 4 or 8, that comes nearest to so many frames a second of these."""
    return min((1, 2, 4, 8), key=lambda stride: abs(math.log(frame_rate / stride / sequence_rate)))


def layer_at(position: float | None, layers: int) -> int | None:
    """Which of so many layers `training.layer` means, from 0; None: all of them."""
    return None if position is None else round(position * (layers - 1))


def scale_widths(channels: int, sequence_width: int, factor: float) -> tuple[int, int]:
    """The channels of a first cell and the width of the sequence part times `training.width`."""
    if factor == 1:
        return channels, sequence_width
    return max(2, round(factor * channels)), max(8, 8 * round(factor * sequence_width / 8))


def spread_layers(layers: tuple[int | None, ...], cells: int, sequence_cells: int) -> tuple[int | None, ...]:
    """The layer of each of so many cells, from those of the searched ones; None, a weighting, where there are none."""
    searched = len(layers) - sequence_cells
    if searched < 1:
        return (None,) * (cells + sequence_cells)
    return tuple(layers[number * searched // cells] for number in range(cells)) + layers[searched:]


def residual_strides(
    depth: int | None, reductions: bool, stride: int
) -> tuple[tuple[int, int], list[tuple[float, tuple[int, int]]]]:
    """The stem's strides, and channels (as a multiple) and strides of each residual block of a hand-designed network.

    Blocks beyond the third are as wide as that and have no strides. Without `reductions` strides in time are given out
    from the stem on, until their product is `stride`.
    """
    depth = depth or DEPTH
    blocks = [*_BLOCKS[:depth], *[(_BLOCKS[-1][0], (1, 1))] * (depth - len(_BLOCKS))]
    if reductions:
        return _STEM_STRIDES, blocks
    left, strides = stride, []
    for _, (frequency, _) in ((1.0, _STEM_STRIDES), *blocks):
        time = 2 if left > 1 else 1
        left //= time
        strides.append((frequency, time))
    stem = (strides[0][0], strides[0][1] * max(1, left))  # too few blocks for the rest
    return stem, [(multiple, own) for (multiple, _), own in zip(blocks, strides[1:], strict=True)]
