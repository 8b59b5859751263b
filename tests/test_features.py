from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch
from conftest import write_tone

from emodarts import corpora
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.features import store as features
from emodarts.features.audio import UnusableAudio, decode, prepare, trim
from emodarts.features.batches import Part, Standardiser, evaluation_batches, training_batches
from emodarts.features.settings import FeatureSettings
from emodarts.features.spectra import Spectra


@pytest.mark.parametrize("kind", ["log_mel", "mfcc"])
@pytest.mark.parametrize("deltas", [False, True])
def test_frames_are_the_same_alone_and_in_any_batch(kind, deltas):
    rng = np.random.default_rng(0)
    sounds = [rng.normal(0, 0.1, n).astype(np.float32) for n in (5000, 16000, 8123)]
    spectra = Spectra(FeatureSettings(kind=kind, deltas=deltas))
    for sound, together in zip(sounds, spectra(sounds), strict=True):
        alone = spectra([sound])[0]
        assert alone.shape == (spectra.frames(len(sound)), spectra.bins * spectra.channels)
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


def test_gain_does_not_change_normalised_frames():
    sound = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    spectra = Spectra(FeatureSettings(log_floor=1e-12))
    torch.testing.assert_close(spectra([sound])[0], spectra([sound * 0.1])[0], atol=1e-3, rtol=1e-3)


def test_silence_is_trimmed_and_dc_removed():
    sound = np.concatenate([np.zeros(8000), np.sin(np.arange(8000) * 0.1), np.zeros(8000)]).astype(np.float32)
    assert abs(len(trim(sound, 16000, 35)) - 8000) <= 640
    cleaned = prepare(sound + 0.2, 16000, FeatureSettings(trim_db=None))
    assert abs(cleaned.mean()) < 1e-6


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_formats_and_stereo(tmp_path, suffix):
    sound = 0.3 * np.sin(np.arange(22050) * 0.05)
    soundfile.write(tmp_path / f"x{suffix}", np.stack([sound, sound], 1), 22050)
    samples, rate = decode(tmp_path / f"x{suffix}")
    assert rate == 22050
    assert samples.ndim == 1
    assert abs(len(samples) - 22050) < 3000  # MP3 and OGG pad


def test_unusable_recordings(tmp_path):
    write_tone(tmp_path / "cut.flac")
    content = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) // 2])
    nan = np.zeros(16000, np.float32)
    nan[100] = np.nan
    soundfile.write(tmp_path / "nan.wav", nan, 16000, subtype="FLOAT")
    for name in ("cut.flac", "nan.wav"):
        with pytest.raises(UnusableAudio):
            decode(tmp_path / name)
    with pytest.raises(UnusableAudio, match="silent"):
        prepare(np.full(16000, 0.25, np.float32), 16000, FeatureSettings())
    with pytest.raises(UnusableAudio, match="too short"):
        prepare(np.random.default_rng(0).normal(0, 1, 500).astype(np.float32), 16000, FeatureSettings())


def _build(root, cache):
    corpus = corpora.read(CorpusSettings(name="manifest", root=str(root), class_set="full"))
    return features.build(corpus.utterances, corpus.root, FeatureSettings(bands=32), cache)


def test_bad_audio_is_dropped_and_the_rest_built(small_corpus, tmp_path):
    soundfile.write(small_corpus / "a" / "sad0.wav", np.zeros(16000), 16000)
    store = _build(small_corpus, tmp_path)
    assert [d.path for d in store.dropped] == ["a/sad0.wav"]
    assert len(store.utterances) == 31
    with pytest.raises(EmodartsError, match="no features of manifest/a/sad0"):
        store.frames("manifest/a/sad0")


def test_an_interrupted_build_resumes_to_the_same_bytes(small_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "SHARD", 8)
    whole = _build(small_corpus, tmp_path / "whole")
    written = []
    original = features._replace

    def fail_third(path, content):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        original(path, content)

    monkeypatch.setattr(features, "_replace", fail_third)
    with pytest.raises(KeyboardInterrupt):
        _build(small_corpus, tmp_path / "resumed")
    monkeypatch.setattr(features, "_replace", original)
    resumed = _build(small_corpus, tmp_path / "resumed")
    names = sorted(p.name for p in whole.folder.glob("shard-*.arrow"))
    assert len(names) == 4
    for name in (*names, "store.json"):
        assert (whole.folder / name).read_bytes() == (resumed.folder / name).read_bytes()


def test_two_builders_at_once(small_corpus, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        stores = list(pool.map(lambda _: _build(small_corpus, tmp_path), range(2)))
    assert stores[0].folder == stores[1].folder
    assert len(stores[0].utterances) == 32


def test_statistics_come_from_train_alone(demo, demo_store):
    fold = demo[2][0]
    fitted = Standardiser.fit(demo_store, fold.train)
    frames = np.concatenate([demo_store.frames(u).astype(np.float64) for u in fold.train])
    torch.testing.assert_close(fitted.mean, torch.tensor(frames.mean(0), dtype=torch.float32), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fitted.deviation, torch.tensor(frames.std(0), dtype=torch.float32), atol=1e-4, rtol=1e-4)


def test_batches_hold_each_utterance_once(demo, demo_store):
    fold = demo[2][0]
    part = Part.of(demo_store, Standardiser.fit(demo_store, fold.train), fold, fold.train)
    rng = np.random.default_rng(0)
    for batches in (training_batches(part, 10, 40, [0.9, 1.0], rng), evaluation_batches(part, 10)):
        drawn = list(batches)
        assert sorted(p for b in drawn for p in b.positions.tolist()) == list(range(len(fold.train)))
        for batch in drawn:
            for row, length in zip(batch.inputs, batch.lengths.tolist(), strict=True):
                assert row[..., length:].abs().sum() == 0
                assert row[..., length - 1].abs().sum() > 0
