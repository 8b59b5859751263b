"""eGeMAPS functionals as features."""

import importlib.metadata

import numpy as np
import pytest

from emodarts import corpora
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.features.extractors.extractor import extractor_identity, frame_shape, make_extractor
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.building import build_store

EGEMAPS = FeatureSettings(kind="egemaps", speeds=[1.0])


@pytest.mark.slow
def test_one_frame_of_88_values_an_utterance(small_corpus, tmp_path):
    opensmile = pytest.importorskip("opensmile")
    corpus = corpora.read(CorpusSettings(name="manifest", root=str(small_corpus), class_set="full"))
    store = build_store(corpus.utterances, corpus.root, EGEMAPS, tmp_path)
    assert (store.bins, store.channels) == frame_shape(EGEMAPS) == (88, 1)
    frames = store.frames("manifest/a/angry0")
    assert frames.shape == (1, 88)
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    high, low = (store.frames(f"manifest/a/{name}0")[0, 0] for name in ("angry", "sad"))
    assert smile.feature_names[0].startswith("F0semitone")
    assert high - low == pytest.approx(12, abs=0.5)  # 240 Hz against 120 Hz, in semitones


def test_the_same_alone_and_in_any_batch():
    pytest.importorskip("opensmile")
    rng = np.random.default_rng(0)
    sounds = [rng.normal(0, 0.1, n).astype(np.float32) for n in (8000, 16000)]
    made = make_extractor(EGEMAPS)
    for sound, together in zip(sounds, made(sounds), strict=True):
        assert made([sound])[0].equal(together)
        assert together.shape == (1, 88)


def test_without_opensmile_it_says_what_to_install(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(EmodartsError, match=r"pip install 'emodarts\[egemaps\]'"):
        extractor_identity(EGEMAPS)
