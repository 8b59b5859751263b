"""From an audio file to clean samples: decoded, mono, no DC, resampled, silence trimmed."""

import hashlib
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from emodarts.features.settings import FeatureSettings

Samples = NDArray[np.float32]


class UnusableAudio(Exception):
    """The reason why a recording cannot become features."""


def decode(path: Path, start: float | None = None, end: float | None = None) -> tuple[Samples, int]:
    """Mono samples and sample rate (Hz) of a file, or of its part from start to end (s). Raises UnusableAudio."""
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate, promised = file.samplerate, file.frames
            first = 0 if start is None else round(start * rate)
            last = promised if end is None else min(promised, round(end * rate))
            file.seek(min(first, promised))
            samples = file.read(max(0, last - first), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise UnusableAudio(f"cannot be decoded: {str(error).rsplit(': ', 1)[-1]}") from error
    if len(samples) < last - first and path.suffix.lower() in (".wav", ".flac"):
        raise UnusableAudio(f"the file is cut: {last - first} samples promised, {len(samples)} decoded")
    if len(samples) == 0:
        raise UnusableAudio("no samples between start and end")
    if not np.isfinite(samples).all():
        raise UnusableAudio("NaN or infinite samples")
    return samples.mean(1), rate


def fingerprint(samples: Samples) -> str:
    """16 hex digits of the decoded samples: equal recordings have equal ones."""
    return hashlib.sha256(samples.tobytes()).hexdigest()[:16]


def prepare(samples: Samples, rate: int, settings: FeatureSettings) -> Samples:
    """Remove DC and trim silence; still at `rate`. Raises UnusableAudio for silence or too little sound."""
    samples = samples - samples.mean(dtype=np.float64).astype(np.float32)
    if not np.abs(samples).max() > 1e-7:
        raise UnusableAudio("silent: every sample is the same")
    if settings.trim_db is not None:
        samples = trim(samples, rate, settings.trim_db)
    if len(samples) < settings.minimum_ms / 1000 * rate:
        raise UnusableAudio(f"too short: {1000 * len(samples) / rate:.0f} ms of sound (features.minimum_ms)")
    return samples


def trim(samples: Samples, rate: int, below_db: float) -> Samples:
    """Cut both ends where 20 ms frames lie more than `below_db` under the active level (95th percentile of frames)."""
    hop = max(1, rate // 50)
    padded = np.pad(samples, (0, -len(samples) % hop)).reshape(-1, hop)
    level = 10 * np.log10((padded.astype(np.float64) ** 2).mean(1) + 1e-12)
    active = np.flatnonzero(level > np.percentile(level, 95) - below_db)
    return samples[active[0] * hop : (active[-1] + 1) * hop]


def at_speed(samples: Samples, rate: int, target: int, speed: float) -> Samples:
    """Resample to `target` Hz, played `speed` times as fast (pitch and tempo change together)."""
    if rate * speed == target:
        return samples
    return np.ascontiguousarray(soxr.resample(samples, rate * speed, target, quality="HQ"), dtype=np.float32)
