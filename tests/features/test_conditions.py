"""Recordings under other conditions: what noise and a telephone leave of them, and copies of a corpus."""

from dataclasses import replace

import numpy as np
import pytest

from emodarts.errors import EmodartsError
from emodarts.features.audio import decode, frame_powers
from emodarts.features.condition_names import conditions_of
from emodarts.features.conditions import degrade, degrade_corpus
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.building import build_store

RATE = 16000
TIME = np.arange(2 * RATE) / RATE


def tone(frequency):
    return (0.3 * np.sin(2 * np.pi * frequency * TIME)).astype(np.float32)


def level(sound, rate, low, high):
    """dB of the power between two frequencies."""
    powers = np.abs(np.fft.rfft(sound)) ** 2 / len(sound)
    frequencies = np.fft.rfftfreq(len(sound), 1 / rate)
    return 10 * np.log10(powers[(frequencies >= low) & (frequencies < high)].sum() + 1e-12)


@pytest.mark.parametrize("decibels", [20, 10, 0])
def test_noise_is_as_loud_as_it_says(decibels):
    sound = tone(300)
    noisy, rate = degrade(sound, RATE, f"noise{decibels}", "a")
    ratio = 10 * np.log10(np.mean(sound**2) / np.mean((noisy - sound) ** 2))
    assert rate == RATE
    assert ratio == pytest.approx(decibels, abs=0.5)


def test_an_utterance_has_the_same_noise_each_time_and_others_another():
    sound = tone(300)
    first, again, other = (degrade(sound, RATE, "noise10", name)[0] for name in "aab")
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first - sound, degrade(sound, RATE, "noise20", "a")[0] - sound)


def test_a_telephone_passes_its_band_alone():
    voice, rate = degrade(tone(1000), RATE, "telephone", "a")
    assert rate == 8000
    assert level(voice, rate, 900, 1100) > 10
    for outside in (60, 100, 3900):
        hum, _ = degrade(tone(1000) + tone(outside), RATE, "telephone", "a")
        loss = level(tone(outside), RATE, outside - 20, outside + 20) - level(hum, rate, outside - 20, outside + 20)
        assert loss > 20, outside
    assert np.abs(voice).max() <= 1
    assert len(np.unique(voice)) <= 255  # 8 bits


def test_silence_stays_silence_by_telephone():
    quiet, _ = degrade(np.zeros(1600, np.float32), RATE, "telephone", "a")
    assert not quiet.any()


def test_names():
    assert conditions_of(["noise", "telephone"]) == ("noise20", "noise10", "noise0", "telephone")
    assert conditions_of([]) == ()
    with pytest.raises(EmodartsError, match=r"radio\]: radio is unknown; known are noise, telephone"):
        conditions_of(["noise", "radio"])


def test_copies_of_a_corpus_have_its_utterances_and_are_made_once(demo, tmp_path):
    corpus = demo[0]
    rows = corpus.utterances.slice(0, 6)
    table, root = degrade_corpus(rows, corpus.root, "noise0", tmp_path)
    assert table["utterance"].to_pylist() == rows["utterance"].to_pylist()
    clean, rate = decode(corpus.root / rows["path"][0].as_py())
    noisy, _ = decode(root / table["path"][0].as_py())
    assert len(noisy) == len(clean)
    assert frame_powers(noisy, rate).min() > 10 * frame_powers(clean, rate).min()
    times = {file.name: file.stat().st_mtime_ns for file in root.iterdir()}
    assert degrade_corpus(rows, corpus.root, "noise0", tmp_path) == (table, root)
    assert {file.name: file.stat().st_mtime_ns for file in root.iterdir()} == times
    assert degrade_corpus(rows, corpus.root, "noise10", tmp_path)[1] != root
    store = build_store(table, root, replace(FeatureSettings(n_mels=32), speeds=[1.0]), tmp_path)
    assert sorted(store.utterances.to_pylist()) == sorted(rows["utterance"].to_pylist())


def test_recordings_that_cannot_be_decoded_are_left_out(demo, tmp_path):
    corpus = demo[0]
    rows = corpus.utterances.slice(0, 2)
    (tmp_path / "half").mkdir()
    first = rows["path"][0].as_py()
    (tmp_path / "half" / first).write_bytes((corpus.root / first).read_bytes())
    table, _ = degrade_corpus(rows, tmp_path / "half", "telephone", tmp_path / "cache")
    assert table["utterance"].to_pylist() == [rows["utterance"][0].as_py()]
    with pytest.raises(EmodartsError, match=r"none of the 2 recordings of demo in .* could be decoded"):
        degrade_corpus(rows, tmp_path, "telephone", tmp_path / "cache")
