"""Masks: which frames of a padded batch are real; and the precision in which they are applied.

Every layer keeps one invariant: values at padded frames are exactly zero. With it a prediction does not depend on
which utterances share its batch.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

_NOTHING: AbstractContextManager[None] = nullcontext()


def time_mask(lengths: Tensor, frames: int) -> Tensor:
    """True at real frames: lengths `(batch,)` in frames -> bool `(batch, frames)`."""
    return torch.arange(frames, device=lengths.device)[None, :] < lengths[:, None]


def image_mask(lengths: Tensor, frames: int, dtype: torch.dtype) -> Tensor:
    """The same as ones and zeros that broadcast over `(batch, channels, frequency, time)`: `(batch, 1, 1, frames)`."""
    return time_mask(lengths, frames).to(dtype)[:, None, None, :]


def strided_mask(mask: Tensor, stride: int) -> Tensor:
    """The mask of a strided layer's output: output frame t is centred on input frame `stride * t`."""
    return mask[..., ::stride] if stride > 1 else mask


def strided_lengths(lengths: Tensor, stride: int) -> Tensor:
    """Lengths after a strided layer, in frames (rounded up)."""
    return (lengths + stride - 1) // stride


def reverse_in_time(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each sequence within its own length; padded frames stay where they are. x `(batch, time, channels)`."""
    steps = torch.arange(x.shape[1], device=x.device)[None, :]
    index = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return x.gather(1, index[:, :, None].expand_as(x))


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Within the block nothing is rounded to autocast's precision; where there is none it costs next to nothing."""
    return torch.autocast(device_type, enabled=False) if torch.is_autocast_enabled(device_type) else _NOTHING
