"""From an audio file to clean samples: decoded, mono, no DC, resampled, silence trimmed; and copies with noise."""

from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from emodarts.features.settings import FeatureSettings

Samples = NDArray[np.float32]
UNKNOWN_LENGTH = 1 << 40  # samples: more than any file holds, so it was written as a stream and does not know
LARGEST_SAMPLE = 1e9  # full scale is 1; some files hold integers as floats, but their squares must be finite


_SYSTEM_ERROR = 2  # libsndfile's code for what the system says, not the file's content


class UnusableAudio(Exception):
    """The reason why a recording cannot become features."""


class UnreadableAudio(UnusableAudio):
    """A file that is there, but that the system does not give now: another time it may."""


def decode(path: Path, start: float | None = None, end: float | None = None) -> tuple[Samples, int]:
    """Mono samples and sample rate (Hz) of a file, or of its part from start to end (s). Raises UnusableAudio."""
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate, promised = file.samplerate, file.frames
            first = 0 if start is None else round(start * rate)
            last = promised if end is None else min(promised, round(end * rate))
            if first:
                file.seek(min(first, promised))
            if last - first >= UNKNOWN_LENGTH:  # libsndfile fails at the end of such a file
                raise UnusableAudio("its header does not say how long it is: write the file anew, with ffmpeg or sox")
            samples = file.read(max(0, last - first), dtype="float32")
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        if not path.exists():
            raise UnusableAudio("cannot be decoded: the file is missing") from error
        reason = f"cannot be decoded: {str(error).rsplit(': ', 1)[-1]}"
        if isinstance(error, OSError) or getattr(error, "code", None) == _SYSTEM_ERROR:
            raise UnreadableAudio(reason) from error
        raise UnusableAudio(reason) from error
    if len(samples) < last - first and path.suffix.lower() in (".wav", ".flac"):
        raise UnusableAudio(f"the file is cut: {last - first} samples promised, {len(samples)} decoded")
    if len(samples) == 0:
        raise UnusableAudio("no samples between start and end")
    peak = max(samples.max(), -samples.min())
    if not peak < LARGEST_SAMPLE:  # also where it is NaN
        raise UnusableAudio(f"samples up to {peak:g}" if np.isfinite(peak) else "NaN or infinite samples")
    return (samples if samples.ndim == 1 else samples.mean(1)), rate


def prepare(samples: Samples, rate: int, settings: FeatureSettings) -> Samples:
    """Remove DC and trim silence; still at `rate`. Raises UnusableAudio for silence or too little sound."""
    samples = samples - samples.sum() / np.float32(len(samples))
    powers = frame_powers(samples, rate)
    if not powers.max() > 1e-14:
        raise UnusableAudio("silent: every sample is the same")
    if settings.trim_db is not None:
        samples = trim(samples, rate, powers, settings.trim_db)
    if len(samples) < settings.minimum_ms / 1000 * rate:
        raise UnusableAudio(f"too short: {1000 * len(samples) / rate:.0f} ms of sound (features.minimum_ms)")
    return samples


def trim(samples: Samples, rate: int, powers: NDArray[np.float64], below_db: float) -> Samples:
    """Cut both ends where 20 ms frames lie more than `below_db` under the active level (95th percentile of frames).

    `powers` are the samples' `frame_powers`.
    """
    hop = max(1, rate // 50)
    level = 10 * np.log10(powers + 1e-12)
    active = np.flatnonzero(level > percentile(level, 95) - below_db)
    return samples[active[0] * hop : (active[-1] + 1) * hop]


def frame_powers(samples: Samples, rate: int) -> NDArray[np.float64]:
    """Mean squares `(frames,)` of 20 ms frames; the last one is filled up with zeros."""
    hop = max(1, rate // 50)
    powers = np.empty(-(-len(samples) // hop))
    whole = len(samples) // hop
    frames, rest = samples[: whole * hop].reshape(whole, hop), samples[whole * hop :]
    powers[:whole] = np.vecdot(frames, frames)
    powers[whole:] = rest @ rest
    powers /= hop
    return powers


def percentile(values: NDArray[np.float64], percent: float) -> float:
    """As `np.percentile`, which takes longer than all else that is done with a short recording."""
    place = (len(values) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(values) - 1)
    ordered = np.partition(values, (low, high))
    return float(ordered[low] + (ordered[high] - ordered[low]) * (place - low))


def at_speed(samples: Samples, rate: int, target: int, speed: float) -> Samples:
    """Resample to `target` Hz, played `speed` times as fast (pitch and tempo change together)."""
    if rate * speed == target:
        return samples
    return np.ascontiguousarray(soxr.resample(samples, rate * speed, target, quality="HQ"), dtype=np.float32)


def with_noise(samples: Samples, rate: int, snr_db: float, seed: int) -> Samples:
    """Samples with stationary noise `snr_db` below the active speech level; the seed says whether white or pink.

    The active speech level is the mean power of the 20 ms frames within 20 dB of their 95th percentile, so that
    pauses do not count. Pink noise has a power of 1/f.
    """
    rng = np.random.default_rng(seed)
    pink = bool(rng.integers(2))
    noise = rng.standard_normal(len(samples), dtype=np.float32)
    if pink:
        spectrum = np.fft.rfft(noise, 1 << (len(noise) - 1).bit_length())
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum), dtype=np.float32))
        spectrum[0] = 0
        noise = np.fft.irfft(spectrum)[: len(samples)].astype(np.float32)
    powers = frame_powers(samples, rate)
    speech = powers[powers >= percentile(powers, 95) / 100].mean()
    noise_power = speech / 10 ** (snr_db / 10)
    scale = np.sqrt(noise_power / max(float(np.mean(noise.astype(np.float64) ** 2)), 1e-30))
    return samples + noise * np.float32(scale)
