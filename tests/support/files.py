"""The repository's root, and small recordings for tests."""

from pathlib import Path

import numpy as np
import soundfile

REPOSITORY = Path(__file__).resolve().parents[2]


def write_tone(path, seconds=0.6, rate=16000, f0=150.0, seed=0):
    """A voiced sound with a little noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    rng = np.random.default_rng(seed)
    sound = sum(np.sin(2 * np.pi * f0 * k * time) / k for k in range(1, 6)) * 0.1
    soundfile.write(path, sound + rng.normal(0, 1e-3, time.size), rate, subtype="PCM_16")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same_bytes(one, other):
    assert contents(one).keys() == contents(other).keys()
    assert all(contents(other)[name] == content for name, content in contents(one).items())
