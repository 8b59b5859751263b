"""What every encoder does around its network: windows, batches of similar lengths, choice of layers, frame rate."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from emodarts.errors import EmodartsError
from emodarts.features.audio import Samples
from emodarts.features.settings import ENCODER_RATE, FRAME_SAMPLES

# What goes through the transformer at once: padded frames (the layers' outputs), and frames squared (the attention).
_FRAMES, _SQUARES = 6_000, 4_000_000
_GRID = 4 * FRAME_SAMPLES  # windows begin at multiples of it: an average over four frames never spans two windows


class LayerEncoder(ABC):
    """Layers (0: the input of the first block) of an encoder as an Extractor: 16 kHz samples -> `(time, channels *
    width)`.

    An utterance gives the same frames in any batch: what takes statistics over time or pads with zeros sees it alone
    (`_front`), and its padding is masked in the transformer (`_hidden`). `longest`: samples of a window; a longer
    utterance goes through in windows of nearly equal length, each by itself. `alone_on`: devices where each runs by
    itself, so that its bits do not depend on others. `pooling`: frames averaged into one.
    """

    longest: int | None = None
    alone_on: tuple[str, ...] = ()

    def __init__(
        self, model: nn.Module, width: int, layers: Sequence[int], weighting: str, pooling: int, precision: str
    ):
        self.model: Any = model.eval().requires_grad_(False)
        self.layers, self._mean = tuple(layers), weighting == "mean"
        self._pooling, self._dtype = pooling, getattr(torch, precision)
        self.bins = width
        self.channels = 1 if self._mean else len(self.layers)

    @abstractmethod
    def frames(self, samples: int) -> int:
        """Number of frames of a window of so many samples, before they are averaged."""

    @abstractmethod
    def _front(self, samples: Tensor) -> Tensor:
        """One window `(samples,)` through what comes before the transformer: `(time, features)`."""

    @abstractmethod
    def _hidden(self, features: Tensor, lengths: Tensor) -> Sequence[Tensor]:
        """The input of the first block, and the outputs `(batch, time, width)` of the blocks up to the last wanted."""

    @torch.no_grad()
    def __call__(self, utterances: list[Samples], device: str = "cpu") -> list[Tensor]:
        """Float32 frames `(time, channels * bins)` on the CPU, one tensor an utterance."""
        self.model.to(device)
        counts = [self._window_count(len(x)) for x in utterances]
        windows = [window for x, count in zip(utterances, counts, strict=True) for window in _cut(x, count)]
        results: dict[int, Tensor] = {}
        with _full_precision(), torch.autocast(torch.device(device).type, self._dtype, self._dtype != torch.float32):
            for batch in self._batches([len(x) for x in windows], device):
                front = [self._front(torch.as_tensor(windows[i], device=device)) for i in batch]
                results.update(zip(batch, self._transform(front), strict=True))
        frames = (results[i] for i in range(len(windows)))
        joined = [torch.cat([next(frames) for _ in range(count)]) for count in counts]
        for x, count, own in zip(utterances, counts, joined, strict=True):
            if abs(len(own) - len(x) / FRAME_SAMPLES) > 2 * count:
                seconds = len(x) / (ENCODER_RATE * FRAME_SAMPLES)
                raise EmodartsError(f"the encoder gives {len(own)} frames of {seconds:.2f} s, not {ENCODER_RATE:g} a s")
        return [average_frames(x, self._pooling) for x in joined]

    def _window_count(self, samples: int) -> int:
        return 1 if self.longest is None else max(1, -(-samples // self.longest))

    def _batches(self, lengths: Sequence[int], device: str) -> Iterator[list[int]]:
        """Positions in batches of similar lengths that fit into memory."""
        alone = torch.device(device).type in self.alone_on
        batch: list[int] = []
        for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
            longest, count = self.frames(lengths[i]), len(batch) + 1
            full = count * longest > _FRAMES or count * longest**2 > _SQUARES or alone
            if batch and full:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _transform(self, front: list[Tensor]) -> list[Tensor]:
        """The chosen layers of a batch of `(time, features)`, without padding, on the CPU."""
        lengths = [len(x) for x in front]
        outputs = self._hidden(nn.utils.rnn.pad_sequence(front, batch_first=True), torch.tensor(lengths))
        return [x[:n].float().cpu() for x, n in zip(self._choose(outputs), lengths, strict=True)]

    def _choose(self, outputs: Sequence[Tensor]) -> Tensor:
        """The wanted layers side by side, `(batch, time, channels * width)`, or their mean."""
        chosen = torch.stack([outputs[layer] for layer in self.layers], 2)
        return chosen.mean(2) if self._mean else chosen.flatten(2)


def average_frames(frames: Tensor, count: int) -> Tensor:
    """Means of so many neighbouring frames `(time, values)`; the last one is of those that are left."""
    if count == 1:
        return frames
    whole, rest = frames.split([len(frames) // count * count, len(frames) % count])
    means = whole.unflatten(0, (-1, count)).mean(1)
    return torch.cat([means, rest.mean(0, keepdim=True)]) if len(rest) else means


def padding_mask(lengths: Tensor, frames: int, device: torch.device) -> Tensor | None:
    """`(batch, time)`, true at padding; None where there is none."""
    mask = torch.arange(frames) >= lengths[:, None]
    return mask.to(device) if mask.any() else None


def additive_mask(padding: Tensor, dtype: torch.dtype) -> Tensor:
    """-inf at padding and 0 elsewhere, `(batch, 1, time, time)`: what attention adds before its softmax."""
    batch, frames = padding.shape
    mask = torch.zeros_like(padding, dtype=dtype).masked_fill(padding, float("-inf"))
    return mask[:, None, None, :].expand(batch, 1, frames, frames)


def _cut(samples: Samples, count: int) -> list[Samples]:
    """So many pieces of nearly equal length."""
    size = -(-len(samples) // (count * _GRID)) * _GRID
    return [samples] if count == 1 else [samples[i : i + size] for i in range(0, len(samples), size)]


@contextmanager
def _full_precision() -> Iterator[None]:
    """Convolutions in float32 on GPUs too: their default there, TF32, rounds differently from batch to batch."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
