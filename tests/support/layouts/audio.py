"""Tiny sound files for the layouts: voiced, silent, too short, cut, empty, and files that are no audio."""

import zlib
from pathlib import Path

import numpy as np
import soundfile

# f0 (Hz), level, fall of the harmonics, rate of the loudness (Hz)
_CLASSES = {
    "angry": (260.0, 0.30, 0.7, 9.0),
    "happy": (230.0, 0.18, 1.0, 6.0),
    "neutral": (150.0, 0.10, 1.4, 4.0),
    "sad": (120.0, 0.06, 2.0, 2.0),
}


def write(path, seconds=0.4, rate=16000, f0=150.0, channels=1, seed=None, level=0.1, fall=1.0, beat=4.0):
    """A voiced sound: five harmonics of f0 (Hz), the k-th `fall` powers of k weaker, loudness beating at `beat` Hz.

    Files of different names sound different, unless they are given one seed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    rng = np.random.default_rng(zlib.crc32(path.name.encode()) if seed is None else seed)
    sound = sum(np.sin(2 * np.pi * f0 * k * time + rng.uniform(0, 6)) / k**fall for k in range(1, 6))
    sound = level * sound * (0.6 + 0.4 * np.sin(2 * np.pi * beat * time)) + rng.normal(0, 1e-3, time.size)
    sound = np.clip(sound, -0.99, 0.99)
    soundfile.write(path, np.repeat(sound[:, None], channels, 1) if channels > 1 else sound, rate, subtype="PCM_16")


def write_voice(path, label, speaker, take=0, **more):
    """The sound of a class as said by a speaker (any two texts); further takes differ a little."""
    f0, level, fall, beat = _CLASSES.get(label, (180.0, 0.12, 1.2, 5.0))
    person = 0.85 + 0.3 * (zlib.crc32(str(speaker).encode()) % 97) / 96
    seed = zlib.crc32(f"{label}/{speaker}/{take}".encode())
    drift = 0.95 + 0.1 * (seed % 89) / 88
    write(path, **{"f0": f0 * person * drift, "seed": seed, "level": level, "fall": fall, "beat": beat, **more})


def write_short(path, seconds=0.03):
    """A sound that is shorter than features can be made of."""
    write(path, seconds=seconds)


def write_silent(path, seconds=0.4, rate=16000):
    """Nothing but zeros."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(seconds * rate)), rate, subtype="PCM_16")


def write_cut(path, **more):
    """A WAV file whose second half is missing, though its header promises it."""
    write(path, **more)
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])


def write_empty(path):
    """A file of no bytes."""
    write_bytes(path, b"")


def write_noise_bytes(path, size=512):
    """Bytes that are no audio, under an audio file's name."""
    write_bytes(path, np.random.default_rng(0).bytes(size))


def write_appledouble(path):
    """What a Mac leaves beside `path` on foreign disks: `._name`."""
    path = Path(path)
    write_bytes(path.with_name(f"._{path.name}"), bytes.fromhex("00051607000200004d6163204f532058") + b"\0" * 16)


def write_bytes(path, data):
    """A file of these bytes, its folders made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
