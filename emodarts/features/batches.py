"""Batches: standardised, cropped and padded frames of a fold's parts, with their true lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emodarts.corpora.protocols import Fold
from emodarts.features.store import Store


@dataclass(frozen=True)
class Batch:
    """`inputs (batch, channels, bins, time)`, zero at padding; `lengths`, `labels`, `positions` `(batch,)`."""

    inputs: Tensor
    lengths: Tensor
    labels: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Standardiser:
    """Mean and standard deviation `(channels * bins,)` of the frames of a fold's train part, and of nothing else."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def fit(cls, store: Store, utterances: Sequence[str]) -> "Standardiser":
        """Statistics over all frames of the given utterances at their own speed."""
        count, total, squares = 0, 0.0, 0.0
        for utterance in utterances:
            frames = store.frames(utterance).astype(np.float64)
            count, total, squares = count + len(frames), total + frames.sum(0), squares + (frames**2).sum(0)
        mean = np.asarray(total / count)
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 1e-8))
        return cls(torch.tensor(mean, dtype=torch.float32), torch.tensor(deviation, dtype=torch.float32))


@dataclass(frozen=True)
class Part:
    """Some utterances of a fold, ready to be drawn from. `labels` are class indices, -1 where not public."""

    store: Store
    standardiser: Standardiser
    utterances: tuple[str, ...]
    labels: tuple[int, ...]

    @classmethod
    def of(cls, store: Store, standardiser: Standardiser, fold: Fold, utterances: Sequence[str]) -> "Part":
        """The part of `fold` with these utterances."""
        index = {name: number for number, name in enumerate(fold.classes)}
        labels = tuple(index[fold.labels[u]] if u in fold.labels else -1 for u in utterances)
        return cls(store, standardiser, tuple(utterances), labels)

    def frames(self, position: int, speed: float = 1.0) -> Tensor:
        """Standardised float32 frames `(time, channels * bins)`."""
        frames = torch.from_numpy(self.store.frames(self.utterances[position], speed).astype(np.float32))
        return (frames - self.standardiser.mean) / self.standardiser.deviation

    def batch(self, positions: Sequence[int], frames: Sequence[Tensor], device: str) -> Batch:
        """Pad the frames of these positions with zeros to the longest."""
        lengths = torch.tensor([len(x) for x in frames])
        padded = torch.nn.utils.rnn.pad_sequence(list(frames), batch_first=True)
        shape = (len(frames), padded.shape[1], self.store.channels, self.store.bins)
        inputs = padded.view(shape).permute(0, 2, 3, 1).contiguous()
        labels = torch.tensor([self.labels[p] for p in positions])
        return Batch(inputs.to(device), lengths.to(device), labels.to(device), torch.tensor(positions))


def training_batches(
    part: Part, size: int, crop: int, speeds: Sequence[float], rng: np.random.Generator, device: str = "cpu"
) -> Iterator[Batch]:
    """One epoch in random order: each utterance once, at a random speed, cropped to at most `crop` frames.

    The epoch is cut into batches of nearly equal size (at most `size`), so none is too small to normalise over.
    """
    order = rng.permutation(len(part.utterances))
    for positions in np.array_split(order, -(-len(order) // size)):
        chosen = [part.frames(p, speeds[int(rng.integers(len(speeds)))]) for p in positions.tolist()]
        starts = [int(rng.integers(max(0, len(x) - crop) + 1)) for x in chosen]
        yield part.batch(positions.tolist(), [x[s : s + crop] for x, s in zip(chosen, starts, strict=True)], device)


def evaluation_batches(part: Part, size: int, device: str = "cpu") -> Iterator[Batch]:
    """Every utterance once, whole, shortest first."""
    lengths = [len(part.store.frames(u)) for u in part.utterances]
    order = sorted(range(len(lengths)), key=lambda p: (lengths[p], p))
    for first in range(0, len(order), size):
        positions = order[first : first + size]
        yield part.batch(positions, [part.frames(p) for p in positions], device)


def class_weights(part: Part, n_classes: int) -> Tensor:
    """Weights `(n_classes,)` inverse to the class sizes of a part, with mean 1 over its utterances."""
    counts = np.bincount(part.labels, minlength=n_classes)
    weights = len(part.labels) / (max(1, np.count_nonzero(counts)) * np.maximum(counts, 1))
    return torch.tensor(weights, dtype=torch.float32)
