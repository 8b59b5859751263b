"""The built-in corpus: synthetic voiced sounds, 8 speakers x 4 classes, made on first use from a seed.

Classes differ in F0, its contour, loudness modulation and spectral tilt, speakers in formants, F0 and tempo: learning
across speakers is possible and imperfect. It shows that the machine works; it says nothing about emotion in speech.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from emodarts.corpora.description import CorpusDescription
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance, rows_of_files
from emodarts.errors import EmodartsError
from emodarts.files import atomic_folder

RATE = 16000  # Hz
REPETITIONS = 8  # 8 speakers x 4 classes x 8 = 256 utterances
_VERSION = 1
_MARKER = "demo.json"
_NAME = re.compile(r"^s([0-7])_([a-z]+)_(\d+)$")  # speaker, class, repetition
# class -> F0 factor, contour (octaves over the utterance), modulation (Hz, depth), tilt (dB an octave)
_CLASSES = {
    "angry": (1.20, -0.35, 7.0, 0.55, -6.5),
    "happy": (1.25, 0.40, 5.0, 0.35, -8.5),
    "neutral": (1.00, -0.05, 3.5, 0.20, -10.5),
    "sad": (0.90, -0.30, 2.0, 0.35, -13.0),
}


def _rows(root: Path, settings: CorpusSettings) -> Iterator[Utterance | Dropped]:
    """Make the corpus in `root` unless it is there, then read it."""
    _make_corpus(root, settings.demo_seed)
    return rows_of_files(root, _read_name)


def _read_name(file: Path, path: str) -> Utterance | str:
    match = _NAME.match(file.stem)
    if not match or match[2] not in _CLASSES:
        return "not a file of the demo corpus"
    speaker, emotion, repetition = match.groups()
    return Utterance(
        utterance=f"demo/{file.stem}",
        path=path,
        speaker=f"demo/s{speaker}",
        gender="female" if int(speaker) % 2 == 0 else "male",
        text=repetition,
        intended=emotion,
    )


def _make_corpus(root: Path, seed: int) -> None:
    marker = {"version": _VERSION, "seed": seed}
    if _is_complete(root, marker):
        return
    try:
        with atomic_folder(root) as temporary:  # an empty folder of that name is replaced
            _write_all(temporary, seed)
            (temporary / _MARKER).write_text(json.dumps(marker))
    except OSError as error:
        if not (root / _MARKER).is_file():  # otherwise another process was first: the same bytes
            reason = error.strerror
            raise EmodartsError(f"the demo corpus cannot be made in {root} ({reason}): set corpus.root") from error


def _is_complete(root: Path, marker: dict[str, int]) -> bool:
    """Whether root holds the corpus of this marker; raises EmodartsError where it holds anything else."""
    if root.exists() and not root.is_dir():
        raise EmodartsError(f"{root} is a file, not a folder for the demo corpus: set corpus.root to another folder")
    if (root / _MARKER).is_file():
        if (root / _MARKER).read_text() != json.dumps(marker):
            raise EmodartsError(f"{root} holds a demo corpus of another seed or version: delete it or set corpus.root")
        return True
    if root.exists() and any(root.iterdir()):
        raise EmodartsError(f"{root} is not empty and holds no demo corpus: set corpus.root to another folder")
    return False


def _write_all(folder: Path, seed: int) -> None:
    for speaker in range(8):
        voice = np.random.default_rng([seed, speaker])
        woman = speaker % 2 == 0
        base = voice.uniform(175, 235) if woman else voice.uniform(95, 140)
        formants = np.array([550.0, 1500.0, 2500.0, 3500.0]) * voice.uniform(0.9, 1.15, 4) * (1.12 if woman else 1.0)
        tempo, tilt = voice.uniform(0.85, 1.15), voice.normal(0, 1.5)
        for number, emotion in enumerate(_CLASSES):
            for repetition in range(REPETITIONS):
                rng = np.random.default_rng([seed, speaker, number, repetition])
                sound = _utterance(rng, emotion, base, formants, tempo, tilt)
                soundfile.write(folder / f"s{speaker}_{emotion}_{repetition}.wav", sound, RATE, subtype="PCM_16")


def _utterance(
    rng: np.random.Generator, emotion: str, base: float, formants: NDArray[np.float64], tempo: float, tilt: float
) -> NDArray[np.float64]:
    """One voiced sound `(samples,)` at RATE: a sum of harmonics under formants, tilt and modulation, and some noise."""
    factor, contour, rate, depth, slope = _CLASSES[emotion]
    samples = int(RATE * rng.uniform(0.8, 1.2) / tempo)
    time = np.arange(samples) / RATE
    course = np.linspace(-0.5, 0.5, samples)
    octaves = np.log2(factor) + rng.normal(0, 0.14) + (contour + rng.normal(0, 0.18)) * course
    f0 = base * 2.0 ** (octaves + 0.02 * np.sin(2 * np.pi * rng.uniform(4, 6) * time))
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    vowel = formants * rng.uniform(0.85, 1.15, formants.size)
    slope = slope + tilt + rng.normal(0, 1.2)
    sound = np.zeros(samples)
    for harmonic in range(1, 31):
        frequency = harmonic * f0
        envelope = sum(1 / (1 + ((frequency - f) / (60 + 0.08 * f)) ** 2) for f in vowel)
        gain = (0.05 + envelope) * harmonic ** (slope / 6.02) * (frequency < RATE / 2.2)
        sound += gain * np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi))
    rate, depth = rate * rng.uniform(0.8, 1.25) * tempo, np.clip(depth + rng.normal(0, 0.1), 0.05, 0.9)
    sound *= 1 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * rate * time + rng.uniform(0, 2 * np.pi)))
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.03)
    sound = fade * sound / np.abs(sound).max() * rng.uniform(0.2, 0.7)
    return sound + rng.normal(0, 10 ** rng.uniform(-3.3, -2.3), samples)


CORPUS = CorpusDescription(
    name="demo",
    title="the built-in synthetic corpus",
    rows=_rows,
    looked_for="the synthetic files s0_angry_0.wav ...",
    words={name: name for name in _CLASSES},
    protocol="speaker4",
    rules={"speaker4": Rule(rules.by_speaker(rules.dealt_by_gender(4)))},
    licence="synthetic, no restrictions",
)
