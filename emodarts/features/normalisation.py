"""Normalisation: the statistics that frames are standardised by, taken from a fold's train part and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emodarts.features.store.joined import AnyStore

_CHUNK = 1 << 21  # values that Standardiser.fit holds in float64 at once: 16 MB


@dataclass(frozen=True)
class Standardiser:
    """Mean and standard deviation `(channels * bins,)` of the frames of a fold's train part, and of nothing else."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def fit(cls, store: AnyStore, utterances: Sequence[str]) -> "Standardiser":
        """Statistics over all frames of the given utterances as recorded (variant 0); their order does not count."""
        width = store.channels * store.bins
        total, squares = (torch.zeros(width, dtype=torch.float64) for _ in range(2))
        count = 0
        for frames in _read_chunks(store, np.sort(store.positions(utterances)), max(1, _CHUNK // width)):
            values = torch.from_numpy(frames).double()
            count += len(values)
            total += values.sum(0)
            squares += values.square_().sum(0)
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(1e-8).sqrt()
        return cls(mean.float(), deviation.float())

    def standardise_(self, frames: Tensor) -> Tensor:
        """Frames `(..., channels * bins)` less the mean, over the deviation: in place, and returned."""
        return frames.sub_(self.mean.to(frames.device)).div_(self.deviation.to(frames.device))


def _read_chunks(store: AnyStore, rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.float16]]:
    """The frames of these utterances, one after the other, at most `size` at once."""
    buffer = np.empty((size, store.channels * store.bins), np.float16)
    filled = 0
    for row in rows.tolist():
        frames = store.read(row)
        while len(frames):
            taken = min(len(frames), size - filled)
            buffer[filled : filled + taken] = frames[:taken]
            frames, filled = frames[taken:], filled + taken
            if filled == size:
                yield buffer
                filled = 0
    yield buffer[:filled]
