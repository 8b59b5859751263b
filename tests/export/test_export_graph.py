"""The exported graph against the torch pipeline: every operation, the features, several networks."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from emodarts.errors import EmodartsError
from emodarts.export import onnx, predict
from emodarts.export.graph import Classifier, SpectraGraph
from emodarts.features.audio import at_speed, decode, prepare
from emodarts.features.extractors.spectra import Spectra
from emodarts.features.settings import FeatureSettings
from emodarts.networks import baselines
from emodarts.networks.network import DiscreteNetwork, NetworkShape
from emodarts.networks.operations import CNN_OPERATIONS
from emodarts.networks.sequence import SEQUENCE_OPERATIONS
from tests.support.exported import SHAPE, genotype, member, padded


def difference(classifier, shape=SHAPE, per_second=50):
    model = onnx.to_onnx(classifier, shape.bins, shape.input_channels, ("a", "b", "c", "d"))
    return onnx.check_parity(model, classifier, shape.bins, shape.input_channels, per_second)


PAIRS = [  # every operation of both kinds, in as few networks as there can be
    (list(CNN_OPERATIONS)[n % len(CNN_OPERATIONS)], list(SEQUENCE_OPERATIONS)[n % len(SEQUENCE_OPERATIONS)])
    for n in range(max(len(CNN_OPERATIONS), len(SEQUENCE_OPERATIONS)))
]


@pytest.mark.slow
@pytest.mark.parametrize(("cnn", "sequence"), PAIRS)
def test_every_operation_is_the_same_in_onnx(cnn, sequence):
    torch.manual_seed(1)
    assert difference(Classifier([member(DiscreteNetwork(SHAPE, genotype(cnn, sequence)))], None)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"over_time": True, "sequence_shortcut": True}, {"frequency_pooling": "mean", "cells": 4}]
)
def test_every_shape_is_the_same_in_onnx(changes):
    shape = NetworkShape(**{**SHAPE.__dict__, **changes})
    for name in ("avg_pool_3x3", "skip_connect"):
        network = DiscreteNetwork(shape, genotype(cnn=name, sequence="bilstm_1"))
        assert difference(Classifier([member(network, shape)], None), shape) < 1e-5


@pytest.mark.parametrize("system", baselines.DESIGNS)
def test_a_hand_designed_network_is_the_same_in_onnx(system):
    torch.manual_seed(1)
    assert difference(Classifier([member(baselines.build_network(system, SHAPE))], None)) < 1e-5


def test_a_wrong_graph_is_found_out(monkeypatch):
    """Average pooling as it is: the exporter leaves out its divisor, and nobody else would say so."""
    from emodarts.export import graph

    torch.manual_seed(1)
    monkeypatch.setattr(graph, "_exportable", lambda network: network)
    network = DiscreteNetwork(SHAPE, genotype(cnn="avg_pool_3x3", sequence="skip_connect"))
    with pytest.raises(EmodartsError, match="differs from the network by"):
        difference(Classifier([member(network)], None))


SPECTRA = {
    "default": FeatureSettings(n_mels=32),
    "mfcc with deltas": FeatureSettings(kind="mfcc", n_mels=32, n_mfcc=20, deltas=True),
    "no gain, an odd window": FeatureSettings(
        n_mels=64, gain_normalisation=False, window_ms=25.0, hop_ms=10.0, sample_rate=22050
    ),
}


def sounds(seed=0):
    """Three lengths, one below a window, with a rise that makes quiet frames."""
    rng = np.random.default_rng(seed)
    return [(rng.normal(0, 0.1, n) * np.linspace(0, 1, n) ** 3).astype(np.float32) for n in (16000, 7001, 300)]


@pytest.mark.parametrize("name", SPECTRA)
def test_features_in_the_graph_are_those_of_the_store(name):
    settings = SPECTRA[name]
    graph, spectra = SpectraGraph(settings), Spectra(settings)
    frames, lengths = graph(*padded(sounds()))
    for found, count, expected in zip(frames, lengths.tolist(), spectra(sounds()), strict=True):
        assert count == len(expected)
        mine = found.permute(2, 0, 1).flatten(1)
        torch.testing.assert_close(mine[:count], expected.half().float(), atol=2e-4, rtol=1e-3)
        assert not mine[count:].any()
        assert float((mine[:count] == expected.half().float()).float().mean()) > 0.9  # float16 hides most rounding


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECTRA)
def test_from_samples_to_probabilities_in_onnx(name):
    spectra = SpectraGraph(SPECTRA[name])
    shape = NetworkShape(**{**SHAPE.__dict__, "bins": spectra.bins, "input_channels": spectra.channels})
    torch.manual_seed(1)
    members = [member(DiscreteNetwork(shape, genotype(sequence=n)), shape, s) for s, n in enumerate(("gru_1", "rnn_1"))]
    classifier = Classifier(members, spectra)
    assert difference(classifier, shape, SPECTRA[name].sample_rate) < 1e-4
    rows, lengths = padded(sounds())
    with torch.no_grad():
        together = classifier(rows, lengths)
        alone = [classifier(torch.from_numpy(x)[None], torch.tensor([len(x)]))[0] for x in sounds()]
        each = [Classifier([one], spectra)(rows, lengths) for one in members]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=0)
    torch.testing.assert_close(together, (each[0] + each[1]) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["speaker", "speaker@2", "utterance"])
@pytest.mark.parametrize("kind", ["frames", "default", "mfcc with deltas"])
def test_normalisation_is_the_same_in_onnx(rule, kind):
    settings = SPECTRA.get(kind)
    spectra = SpectraGraph(settings) if settings else None
    shape = replace(SHAPE, bins=spectra.bins, input_channels=spectra.channels) if spectra else SHAPE
    torch.manual_seed(1)
    members = [member(baselines.build_network("cnn_lstm_attention", shape), shape, seed) for seed in range(2)]
    classifier = Classifier(members, spectra, rule)
    assert difference(classifier, shape, settings.sample_rate if settings else 50) < 1e-4
    if spectra is None or rule != "utterance":
        return
    rows, lengths = padded(sounds())
    with torch.no_grad():
        together = classifier(rows, lengths)
        alone = [classifier(torch.from_numpy(x)[None], torch.tensor([len(x)]))[0] for x in sounds()]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (FeatureSettings(kind="pretrained"), "features.kind=pretrained cannot be exported"),
        (FeatureSettings(kind="egemaps"), "features.kind=egemaps cannot be exported"),
        (FeatureSettings(sample_rate=96000, window_ms=200.0), "the transform alone would take"),
    ],
)
def test_features_that_no_graph_can_compute_are_refused(settings, message):
    with pytest.raises(EmodartsError, match=message):
        SpectraGraph(settings)


@pytest.mark.slow
def test_recordings_by_predict_and_by_the_torch_pipeline(recordings):
    """From file to probabilities on EmoDB (16 kHz) and RAVDESS (48 kHz, resampled), with a decided network."""
    found = (sorted((recordings / corpus).rglob("*.flac")) for corpus in ("emodb", "ravdess"))
    files = [file for names in found for file in names[::90]]
    assert len(files) > 10
    features = FeatureSettings()
    shape = NetworkShape(**{**SHAPE.__dict__, "bins": features.n_mels, "channels": 8, "sequence_width": 16})
    torch.manual_seed(1)
    one = member(DiscreteNetwork(shape, genotype(sequence="lstm_attention_1")), shape)
    one.network.head[1].weight.data.mul_(8)
    content = onnx.to_onnx(Classifier([one], SpectraGraph(features)), features.n_mels, 1, ("a", "b", "c", "d"))
    session = onnxruntime.InferenceSession(content)
    model = predict.Model(session, ("a", "b", "c", "d"), features.sample_rate, features.trim_db, 100.0, 60.0)
    decided = []
    for file in files:
        samples, rate = decode(file)
        found = model.probabilities([model.prepare(samples, rate)])[0]
        sound = at_speed(prepare(samples, rate, features), rate, features.sample_rate, 1.0)
        frames = Spectra(features)([sound])[0].half().float()
        x = ((frames - one.standardiser.mean) / one.standardiser.deviation).T[None, None]
        with torch.no_grad():
            expected = one.network(x, torch.tensor([len(frames)])).softmax(1)[0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=file.name)
        decided.append(expected)
    assert np.std(decided, 0).max() > 0.005  # fifty times the tolerance: the recordings are told apart


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_resampling_is_that_of_the_training(rate):
    """No DC, silent ends cut, resampled: the same samples to the last bit or two."""
    features = FeatureSettings()
    model = predict.Model(None, ("a", "b"), features.sample_rate, features.trim_db, features.minimum_ms, 60.0)
    for samples in (rate, rate + 7):
        noise = np.full(samples, 0.01, np.float32)
        noise[rate // 4 : rate // 2] += (
            np.random.default_rng(0).normal(0, 0.1, rate // 2 - rate // 4).astype(np.float32)
        )
        prepared = model.prepare(noise, rate)
        expected = at_speed(prepare(noise, rate, features), rate, features.sample_rate, 1.0)
        assert prepared.dtype == np.float32
        assert 0.2 * 16000 < len(prepared) < 0.3 * 16000
        np.testing.assert_allclose(prepared, expected, rtol=0, atol=1e-6)
