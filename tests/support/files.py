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


def write_corpus(root):
    """A manifest corpus: 4 speakers x 2 classes x 4 short files."""
    lines = ["file,speaker,label"]
    for speaker in "abcd":
        for name, f0 in (("angry", 240.0), ("sad", 120.0)):
            for take in range(4):
                file = f"{speaker}/{name}{take}.wav"
                write_tone(root / file, f0=f0, seed=take)
                lines.append(f"{file},{speaker},{name}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return root


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same_bytes(one, other):
    assert contents(one).keys() == contents(other).keys()
    assert all(contents(other)[name] == content for name, content in contents(one).items())
