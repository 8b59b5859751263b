"""Extraction of one shard: decode, measure, clean, copy, transform, write. The same bytes in every process."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from emodarts.corpora.table import Dropped
from emodarts.errors import EmodartsError
from emodarts.features.audio import (
    UNKNOWN_LENGTH,
    Samples,
    UnreadableAudio,
    UnusableAudio,
    at_speed,
    decode,
    prepare,
    with_noise,
)
from emodarts.features.extractors.extractor import Extractor
from emodarts.features.measures import measure
from emodarts.features.settings import FeatureSettings, Variant
from emodarts.features.store.files import Extracted, shard_name, write_shard
from emodarts.features.store.plan import ExtractionPlan, seconds_of
from emodarts.processors import processors
from emodarts.seeds import derive_seed

BATCH_SECONDS = 60.0  # of sound that are transformed at once: few calls, little padding, little memory
BATCH_SECONDS_GPU = 240.0
LONGEST_ENCODED = 120  # s
_LARGEST = 65504.0  # of float16
Row = dict[str, Any]


@dataclass(frozen=True)
class Loaded:
    """A usable recording: its measures, and clean samples of each variant at the features' rate."""

    measures: dict[str, float | str]
    copies: list[Samples]


def extract_shard(
    plan: ExtractionPlan,
    number: int,
    folder: Path,
    extractor: Extractor,
    device: str = "cpu",
    recordings: Mapping[str, Path] | None = None,
) -> None:
    """Write one shard of the plan into the store's folder. `recordings`: where they are, if not below the plan's root.

    Raises EmodartsError.
    """
    rows = plan.shard(number)
    seconds = seconds_of(plan.rows.slice(number * plan.rows_per_shard, len(rows)))
    order = np.argsort(seconds, kind="stable").tolist()
    results: list[Extracted | Dropped] = [Dropped(row["path"], "not reached") for row in rows]
    with _loading(plan, [rows[i] for i in order], device, recordings) as loading:
        for batch in _batches(order, seconds * len(plan.settings.variants), device):
            loaded = list(islice(loading, len(batch)))
            copies = [copy for recording in loaded if isinstance(recording, Loaded) for copy in recording.copies]
            frames = iter(extractor(copies, device) if copies else [])
            for i, recording in zip(batch, loaded, strict=True):
                results[i] = _extracted(rows[i], recording, frames)
    extracted = [row for row in results if isinstance(row, Extracted)]
    dropped = [row for row in results if isinstance(row, Dropped)]
    write_shard(folder / shard_name(number), extracted, dropped, len(plan.settings.variants))


@contextmanager
def _loading(
    plan: ExtractionPlan, rows: list[Row], device: str, recordings: Mapping[str, Path] | None
) -> Iterator[Iterator[Loaded | Dropped]]:
    """The recordings of these rows, in their order. Beside a GPU, threads decode ahead of it."""

    def load(row: Row) -> Loaded | Dropped:
        path = plan.root / row["path"] if recordings is None else recordings.get(row["path"], plan.root / row["path"])
        return _load(path, row, plan.settings)

    if device == "cpu":
        yield map(load, rows)
        return
    with ThreadPoolExecutor(min(8, processors())) as pool:
        yield iter(pool.map(load, rows))


def _batches(order: list[int], seconds: "np.ndarray[Any, np.dtype[np.float64]]", device: str) -> Iterator[list[int]]:
    """Neighbours in `order` that together, padded, are not longer than a batch may be."""
    limit = BATCH_SECONDS if device == "cpu" else BATCH_SECONDS_GPU
    batch: list[int] = []
    for i in order:
        if batch and seconds[i] * (len(batch) + 1) > limit:
            yield batch
            batch = []
        batch.append(i)
    yield batch


def _load(path: Path, row: Row, settings: FeatureSettings) -> Loaded | Dropped:
    if row["size"] < 0:  # even if it is there by now: the store's key says that it is not
        return Dropped(row["path"], "the file is missing")
    _check_unchanged(path, row)
    try:
        samples, rate = decode(path, row["start"], row["end"])
        _check_whole(samples, row)
        measures = {"utterance": row["utterance"], **measure(samples, rate)}
        sound = prepare(samples, rate, settings)
        if settings.kind == "pretrained" and len(sound) > LONGEST_ENCODED * rate:
            raise UnusableAudio(f"longer than {LONGEST_ENCODED} s: a bundle's memory grows with the square; cut it")
    except UnreadableAudio as reason:
        raise EmodartsError(f"{path}: {reason}; what is finished is kept: run again") from reason
    except UnusableAudio as reason:
        return Dropped(row["path"], str(reason))
    return Loaded(measures, [_copy(sound, rate, row["utterance"], variant, settings) for variant in settings.variants])


def _check_unchanged(path: Path, row: Row) -> None:
    """The store's key speaks of the file's size and time: another file, or none, must not go under it."""
    try:
        state = os.stat(path)
    except OSError as error:
        raise EmodartsError(f"{path}: {error.strerror}, though it was there before; run again") from error
    if (state.st_size, state.st_mtime_ns) != (row["size"], row["time"]):
        raise EmodartsError(f"{path} changed while features were built; run again")


def _check_whole(samples: Samples, row: Row) -> None:
    """A WAV that was cut after the corpus was read says nothing of it: its header is adapted in silence."""
    whole = row["start"] is None and row["end"] is None and row["path"].lower().endswith((".wav", ".flac"))
    if whole and len(samples) < row["frames"] < UNKNOWN_LENGTH:
        raise UnusableAudio(f"the file is cut: {row['frames']} samples promised, {len(samples)} decoded")


def _copy(sound: Samples, rate: int, utterance: str, variant: Variant, settings: FeatureSettings) -> Samples:
    copy = at_speed(sound, rate, settings.sample_rate, variant.speed)
    if variant.snr_db is None:
        return copy
    seed = derive_seed("noise", utterance, str(float(variant.snr_db)))
    return with_noise(copy, settings.sample_rate, variant.snr_db, seed)


def _extracted(row: Row, recording: Loaded | Dropped, frames: Iterator[Tensor]) -> Extracted | Dropped:
    if isinstance(recording, Dropped):
        return recording
    copies = [next(frames) for _ in recording.copies]
    if not all(float(x.abs().max()) < _LARGEST for x in copies):
        return Dropped(row["path"], "its features are not finite, or too large for 16 bits")
    return Extracted(recording.measures, [x.half().numpy() for x in copies])
