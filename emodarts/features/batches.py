"""Batches: standardised, cropped, padded and augmented frames of a fold's parts, with their true lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emodarts.corpora.protocols.folds import Fold
from emodarts.features.normalisation import AnyStandardiser, standardise_
from emodarts.features.resident import ResidentFrames
from emodarts.features.settings import BatchSettings
from emodarts.features.store.joined import AnyStore

Ints = NDArray[np.int64]
_DEFAULTS = BatchSettings()
# Windows of similar lengths are for long epochs. On EmoDB (25 batches an epoch; 3 folds, 3 seeds, 10 epochs) the mean
# dev UAR was .016 lower with windows of 8 batches (standard error .015), for a tenth less padding.
_WINDOWS = 32  # of an epoch, at least


@dataclass(frozen=True)
class Batch:
    """`inputs (batch, channels, frequency, time)`, zero at padding; `lengths`, `labels`, `positions` `(batch,)`."""

    inputs: Tensor
    lengths: Tensor
    labels: Tensor
    positions: Tensor


@dataclass(frozen=True)
class FoldPart:
    """Some utterances of a fold, ready to be drawn from.

    `labels` are class indices, -1 where not public; `rows` the utterances' positions in the store. `resident` holds
    their features on the device where they fit.
    """

    store: AnyStore
    standardiser: AnyStandardiser
    utterances: tuple[str, ...]
    labels: Ints
    rows: Ints
    resident: ResidentFrames | None = None

    @classmethod
    def of(
        cls,
        store: AnyStore,
        standardiser: AnyStandardiser,
        fold: Fold,
        utterances: Sequence[str],
        resident: ResidentFrames | None = None,
    ) -> "FoldPart":
        """The part of `fold` with these utterances. Raises EmodartsError where one has no features."""
        index = {name: number for number, name in enumerate(fold.classes)}
        labels = np.array([index[fold.labels[u]] if u in fold.labels else -1 for u in utterances], np.int64)
        return cls(store, standardiser, tuple(utterances), labels, store.positions(utterances), resident)

    @cached_property
    def corpus_numbers(self) -> Ints:
        """The number of each utterance's corpus, from 0 `(utterances,)`; ids begin with the corpus's name."""
        prefixes = [utterance[: utterance.find("/") + 1] for utterance in self.utterances]
        return np.unique(prefixes, return_inverse=True)[1].astype(np.int64)

    def lengths(self, positions: Ints, variants: Ints) -> Ints:
        """Frames of a copy of each of the utterances at these positions."""
        lengths, rows = np.zeros(len(positions), np.int64), self.rows[positions]
        for variant in np.unique(variants).tolist():
            chosen = variants == variant
            lengths[chosen] = self.store.lengths(rows[chosen], variant)
        return lengths


@dataclass(frozen=True)
class _Cuts:
    """What is taken of each utterance: which copy, of how many frames, from which frame, and how many frames."""

    positions: Ints
    variants: Ints
    lengths: Ints
    starts: Ints
    counts: Ints  # more than `lengths`: the copy is repeated

    def of(self, chosen: Ints) -> "_Cuts":
        """Those of some of the utterances."""
        parts = (self.positions, self.variants, self.lengths, self.starts, self.counts)
        return _Cuts(*(values[chosen] for values in parts))


@dataclass
class EpochPosition:
    """Where an epoch of training batches is: the state of `rng` before the epoch was drawn (None: it is to be drawn),
    and how many of its batches were taken. JSON can hold it.
    """

    drawn_from: dict[str, Any] | None = None
    taken: int = 0


def training_batches(
    part: FoldPart,
    size: int,
    crop: int,
    rng: np.random.Generator,
    device: str = "cpu",
    settings: BatchSettings = _DEFAULTS,
    position: EpochPosition | None = None,
) -> Iterator[Batch]:
    """One epoch in random order: each utterance once (or as `sampling` says), as one of the store's variants, at most
    `crop` frames of it.

    The epoch is cut into batches of nearly equal size (at most `size`), so none is too small to normalise over.
    `pad=repeat` fills an utterance up to `crop` with its own frames, which are real ones to every mask: what it looks
    like does not depend on its batch. All chance comes from `rng`. `position` is moved on with each batch; from one
    within an epoch, and `rng` as it was then, the rest of that epoch follows, and nothing of the others is read.
    """
    position, present = position or EpochPosition(), rng.bit_generator.state
    start = position.drawn_from
    if start is None:
        position.drawn_from, position.taken = dict(present), 0
    else:
        rng.bit_generator.state = start
    cuts = _draw(part, crop, rng, settings)
    batches = list(_batches_of(cuts.counts, size, settings.bucket_size, rng))
    if start is not None:
        rng.bit_generator.state = present
    for chosen in batches[position.taken :]:
        position.taken += 1
        batch = _batch(part, cuts.of(chosen), device)
        yield spec_augment(batch, settings, rng) if settings.time_masks or settings.frequency_masks else batch
    position.drawn_from = None


def evaluation_batches(part: FoldPart, size: int, device: str = "cpu") -> Iterator[Batch]:
    """Every utterance once, whole, as recorded, shortest first."""
    positions = np.arange(len(part.rows))
    zeros = np.zeros_like(positions)
    lengths = part.lengths(positions, zeros)
    cuts = _Cuts(positions, zeros, lengths, zeros, lengths)
    order = np.argsort(lengths, kind="stable")
    for first in range(0, len(order), size):
        yield _batch(part, cuts.of(order[first : first + size]), device)


def _draw(part: FoldPart, crop: int, rng: np.random.Generator, settings: BatchSettings) -> _Cuts:
    """Which copy and which frames of each utterance an epoch takes."""
    positions = _sample(part, settings.sampling, rng)
    variants = rng.integers(len(part.store.variants), size=len(positions))
    lengths = part.lengths(positions, variants)
    spare = np.maximum(lengths - crop, 0)
    starts = {"random": rng.integers(spare + 1), "centre": spare // 2, "start": np.zeros_like(spare)}[settings.crop]
    counts = np.minimum(lengths, crop) if settings.pad == "zero" else np.full_like(lengths, crop)
    return _Cuts(positions, variants, lengths, starts, counts)


def draw_rates(part: FoldPart, sampling: str) -> NDArray[np.float64]:
    """How often an epoch draws each utterance, in the mean `(utterances,)`: 1 in the mean over all."""
    numbers = part.corpus_numbers
    if sampling == "utterance":
        return np.ones(len(numbers))
    sizes = np.bincount(numbers).astype(np.float64)
    shares = np.ones_like(sizes) if sampling == "corpus" else np.sqrt(sizes)
    return np.asarray((shares / shares.sum() * len(numbers) / sizes)[numbers])


def _sample(part: FoldPart, sampling: str, rng: np.random.Generator) -> Ints:
    """The positions that an epoch draws, as many as there are: of a corpus each before any comes again."""
    numbers = part.corpus_numbers
    if sampling == "utterance" or not numbers.any():  # one corpus
        return np.arange(len(part.rows))
    rates = draw_rates(part, sampling)
    ends = np.bincount(numbers, rates).cumsum().round().astype(np.int64)  # the rounding adds up to the whole
    drawn = []
    for number, count in enumerate(np.diff(ends, prepend=0).tolist()):
        members = np.flatnonzero(numbers == number)
        whole, rest = divmod(count, len(members))
        drawn += [np.tile(members, whole), rng.permutation(members)[:rest]]
    return np.concatenate(drawn)


def _batches_of(lengths: Ints, size: int, bucket: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Positions, batch by batch: windows of `bucket` batches in random order, each sorted by length, shuffled again."""
    order = rng.permutation(len(lengths))
    count = -(-len(order) // size)
    bounds = np.linspace(0, len(order), count + 1).round().astype(int)
    bucket = min(bucket, count // _WINDOWS)
    if bucket > 1:
        for first, last in zip(bounds[:-1:bucket], [*bounds[bucket:-1:bucket], bounds[-1]], strict=True):
            window = order[first:last]
            order[first:last] = window[np.argsort(lengths[window], kind="stable")]
    batches = rng.permutation(count) if bucket > 1 else np.arange(count)
    for number in batches.tolist():
        yield order[bounds[number] : bounds[number + 1]]


def _batch(part: FoldPart, cuts: _Cuts, device: str) -> Batch:
    """Read, standardise and pad."""
    rows = part.rows[cuts.positions]
    if part.resident is not None:
        frames = part.resident.gather(rows, cuts.variants, cuts.starts, cuts.counts, cuts.lengths)
    else:
        frames = _read(part.store, rows, cuts)
    # float16 on its way to the device: half the bytes. Each step rounds a value by itself, so batches do not matter.
    inputs = standardise_(frames.to(device).float(), part.standardiser, rows)
    padding = np.flatnonzero(np.arange(inputs.shape[1]) >= cuts.counts[:, None])
    if len(padding):
        inputs.flatten(0, 1).index_fill_(0, torch.from_numpy(padding).to(device), 0.0)
    inputs = inputs.view(*inputs.shape[:2], part.store.channels, part.store.bins).permute(0, 2, 3, 1)
    lengths, labels = (torch.from_numpy(x).to(device) for x in (cuts.counts, part.labels[cuts.positions]))
    return Batch(inputs, lengths, labels, torch.from_numpy(cuts.positions))


def _read(store: AnyStore, rows: Ints, cuts: _Cuts) -> Tensor:
    """float16 frames `(batch, max(counts), channels * bins)` from the memory map, zero behind `counts`."""
    copies = list(map(store.read, rows.tolist(), cuts.variants.tolist()))
    for i in np.flatnonzero(cuts.counts != cuts.lengths).tolist():
        steps = cuts.starts[i] + np.arange(cuts.counts[i])
        cropped = cuts.counts[i] < cuts.lengths[i]
        copies[i] = copies[i][steps[0] : steps[-1] + 1] if cropped else copies[i][steps % cuts.lengths[i]]
    width, longest = store.channels * store.bins, int(cuts.counts.max())
    nothing = np.zeros((longest, width), np.float16)
    missing = (longest - cuts.counts).tolist()
    pieces = [x for frames, m in zip(copies, missing, strict=True) for x in ((frames, nothing[:m]) if m else (frames,))]
    return torch.from_numpy(np.concatenate(pieces)).view(len(rows), longest, width)


def spec_augment(batch: Batch, settings: BatchSettings, rng: np.random.Generator) -> Batch:
    """The batch with masks over time and bands set to zero, which is the normalisation's mean (Park et al. 2019).

    Widths are drawn from 0 to the allowed one, places within the utterance's own frames; each utterance has its own
    masks, the same for all channels. No time mask covers more than `time_mask_fraction` of an utterance.
    """
    lengths = batch.lengths.cpu().numpy()
    size, _, bins, frames = batch.inputs.shape
    widest = np.minimum(settings.time_mask_frames, (settings.time_mask_fraction * lengths).astype(np.int64))
    time = _masks(settings.time_masks, lengths, widest, frames, rng)
    all_bins = np.full(size, bins)
    band = _masks(settings.frequency_masks, all_bins, np.minimum(settings.frequency_mask_bins, all_bins), bins, rng)
    hidden = torch.from_numpy(time[:, None, None, :] | band[:, None, :, None]).to(batch.inputs.device)
    return replace(batch, inputs=batch.inputs.masked_fill(hidden, 0.0))


def _masks(count: int, lengths: Ints, widest: Ints, steps: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """`(batch, steps)`, true where one of `count` random intervals within each length lies."""
    shape = (len(lengths), count)
    widths = rng.integers(np.broadcast_to(widest[:, None] + 1, shape))
    starts = rng.integers(lengths[:, None] - widths + 1)
    place = np.arange(steps)
    inside = (starts[..., None] <= place) & (place < (starts + widths)[..., None])
    return np.asarray(inside.any(1))


def class_weights(part: FoldPart, n_classes: int, rates: NDArray[np.float64] | None = None) -> Tensor:
    """Weights `(n_classes,)` inverse to the class sizes of a part, with mean 1 over its utterances.

    `rates`: how often each utterance is drawn, and counts; None: once.
    """
    counts = np.bincount(part.labels, rates, minlength=n_classes)
    weights = len(part.labels) / (max(1, np.count_nonzero(counts)) * np.where(counts > 0, counts, 1))
    return torch.tensor(weights, dtype=torch.float32)


def utterance_weights(part: FoldPart, settings: BatchSettings) -> NDArray[np.float64]:
    """Weights `(utterances,)` by `settings.loss_weights`, with mean 1 over what an epoch draws."""
    rates, corpora = draw_rates(part, settings.sampling), part.corpus_numbers
    cells = part.labels if settings.loss_weights == "class" else corpora * (part.labels.max() + 1) + part.labels
    _, numbers = np.unique(cells, return_inverse=True)
    drawn = np.bincount(numbers, rates)
    return np.asarray(len(part.labels) / (len(drawn) * drawn[numbers]))
