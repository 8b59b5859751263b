"""A fold's features in the memory of the device, where they fit: a batch is one gather, nothing comes from the host."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emodarts.features.store.joined import AnyStore

_CHUNK = 1 << 25  # values copied to the device at once: 64 MB


@dataclass(frozen=True)
class ResidentFrames:
    """float16 `values (frames, channels * bins)` on the device, of the store's positions `rows` (sorted).

    `first (rows, variants)` is the frame where each copy begins, -1 where it is not kept.
    """

    values: Tensor
    rows: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, store: AnyStore, train: NDArray[np.int64], others: NDArray[np.int64], device: str) -> "ResidentFrames":
        """Keep all variants of the positions `train`, and the recordings as they are of `others`."""
        rows = np.unique(np.concatenate([train, others]))
        lengths = _lengths(store, rows, train)
        ends = np.cumsum(lengths.reshape(-1), dtype=np.int64)
        first = np.where(lengths.reshape(-1) > 0, ends - lengths.reshape(-1), -1).reshape(lengths.shape)
        values = torch.empty((int(ends[-1]), store.channels * store.bins), dtype=torch.float16, device=device)
        waiting: list[NDArray[np.float16]] = []
        filled = size = 0
        for place, variant in np.argwhere(first >= 0).tolist():
            waiting.append(store.read(int(rows[place]), variant))
            size += waiting[-1].size
            if size >= _CHUNK:
                filled, waiting, size = _fill(values, filled, waiting), [], 0
        _fill(values, filled, waiting)
        return cls(values, rows, first)

    def gather(
        self,
        rows: NDArray[np.int64],
        variants: NDArray[np.int64],
        starts: NDArray[np.int64],
        counts: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> Tensor:
        """Frames `(batch, max(counts), channels * bins)` on the device; what stands behind `counts` is of no meaning.

        `starts` is the first frame taken of each utterance, `lengths` are those of the whole copies: a copy that ends
        too soon begins again.
        """
        first = self.first[np.searchsorted(self.rows, rows), variants]
        steps = (starts[:, None] + np.arange(counts.max())) % lengths[:, None]
        index = torch.from_numpy(first[:, None] + steps).to(self.values.device)
        return self.values[index]


def keep_on_device(
    store: AnyStore, train: NDArray[np.int64], others: NDArray[np.int64], device: str, fraction: float
) -> ResidentFrames | None:
    """The features on a GPU if they take at most this fraction of its free memory, else None.

    On a CPU never: there the memory map is better, as all processes of a node share its pages.
    """
    if torch.device(device).type != "cuda" or fraction == 0:
        return None
    lengths = _lengths(store, np.unique(np.concatenate([train, others])), train)
    size = int(lengths.sum(dtype=np.int64)) * store.channels * store.bins * 2
    free, _ = torch.cuda.mem_get_info(device)
    return ResidentFrames.of(store, train, others, device) if size <= fraction * free else None


def _lengths(store: AnyStore, rows: NDArray[np.int64], train: NDArray[np.int64]) -> NDArray[np.int64]:
    """Frames `(rows, variants)`; 0 for the variants that are not kept: those of rows that do not train."""
    lengths = np.stack([store.lengths(rows, variant) for variant in range(len(store.variants))], 1).astype(np.int64)
    lengths[~np.isin(rows, train), 1:] = 0
    return lengths


def _fill(values: Tensor, filled: int, frames: Sequence[NDArray[np.float16]]) -> int:
    if not frames:
        return filled
    joined = torch.from_numpy(np.concatenate(frames))
    values[filled : filled + len(joined)] = joined
    return filled + len(joined)
