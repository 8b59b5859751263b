"""Recordings as they would be heard under other conditions: with noise, or by telephone. For tests, never training.

The degraded copies of a corpus are files in the cache, which become features like any recordings: silence is trimmed as
far as it can be told from the noise.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
import soxr
from scipy.signal import butter, sosfiltfilt

from emodarts.errors import EmodartsError
from emodarts.features.audio import Samples, UnusableAudio, decode, with_noise
from emodarts.files import atomic_folder, file_lock
from emodarts.processors import processors
from emodarts.seeds import derive_seed

_TELEPHONE_RATE, _TELEPHONE_BAND = 8000, (300.0, 3400.0)  # Hz
_COMPANDING = 255.0  # mu-law, ITU-T G.711


def degrade(samples: Samples, rate: int, condition: str, utterance: str) -> tuple[Samples, int]:
    """Mono samples at `rate` (Hz) as heard under a condition, and their rate; the same for an utterance each time.

    `noise<dB>`: white or pink noise (`with_noise`). `telephone`: 8 kHz, 300 to 3,400 Hz, 8 bits by mu-law (G.711).
    """
    if condition != "telephone":
        seed = derive_seed("condition", condition, utterance)
        return with_noise(samples, rate, float(condition.removeprefix("noise")), seed), rate
    narrow = np.asarray(soxr.resample(samples, rate, _TELEPHONE_RATE, quality="HQ"), np.float64)
    band = butter(4, _TELEPHONE_BAND, btype="bandpass", fs=_TELEPHONE_RATE, output="sos")
    filtered = sosfiltfilt(band, narrow, padlen=min(len(narrow) - 1, 300))
    peak = max(float(np.abs(filtered).max()), 1e-9)
    scaled = np.clip(filtered / max(peak, 1.0), -1, 1)
    companded = np.sign(scaled) * np.log1p(_COMPANDING * np.abs(scaled)) / np.log1p(_COMPANDING)
    coded = np.round(companded * 127) / 127
    decoded = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(_COMPANDING)) / _COMPANDING
    return decoded.astype(np.float32), _TELEPHONE_RATE


def degrade_corpus(
    utterances: pa.Table,
    root: Path,
    condition: str,
    cache: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[pa.Table, Path]:
    """Degraded copies of these utterances (schema UTTERANCES) below `cache`, unless they are there: the table of those
    that could be decoded, and its root. Raises EmodartsError where none could.
    """
    rows = utterances.to_pylist()
    corpus = "+".join(sorted(set(utterances["corpus"].to_pylist())))
    folder = cache / f"{corpus}-{condition}-{_key(rows, root, condition)}"
    with file_lock(folder):
        if not folder.is_dir():
            with atomic_folder(folder) as temporary, ThreadPoolExecutor(min(8, processors())) as pool:
                jobs = enumerate(rows)
                written = pool.map(lambda job: _write(temporary, root, condition, *job), jobs)
                for done, _ in enumerate(written, 1):
                    progress(done, len(rows))
    degraded = [_described(row, folder / f"{number:06d}.flac") for number, row in enumerate(rows)]
    usable = [row for row in degraded if row is not None]
    if not usable:
        raise EmodartsError(f"robustness: none of the {len(rows)} recordings of {corpus} in {root} could be decoded")
    return pa.Table.from_pylist(usable, utterances.schema), folder


def _write(folder: Path, root: Path, condition: str, number: int, row: dict[str, Any]) -> None:
    try:
        samples, rate = decode(root / row["path"], row["start"], row["end"])
    except UnusableAudio:
        return  # it has no features without the condition either
    sound, rate = degrade(samples, rate, condition, row["utterance"])
    peak = float(np.abs(sound).max())
    soundfile.write(folder / f"{number:06d}.flac", sound / max(1.0, peak), rate, subtype="PCM_24")


def _described(row: dict[str, Any], file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    about = soundfile.info(str(file))
    whole = {"path": file.name, "start": None, "end": None, "channels": 1}
    return {**row, **whole, "sample_rate": about.samplerate, "frames": about.frames}


def _key(rows: Iterable[dict[str, Any]], root: Path, condition: str) -> str:
    """Of the condition, and of each recording's id, part, size and time."""
    digest = hashlib.sha256(f"1 {condition} {root}".encode())
    for row in rows:
        try:
            state = os.stat(root / row["path"])
        except OSError:
            continue
        part = (row["utterance"], row["path"], row["start"], row["end"], state.st_size, state.st_mtime_ns)
        digest.update(repr(part).encode())
    return digest.hexdigest()[:16]
