"""Whisper in the exported graph: frames as the store has them, and the same probabilities by torch and ONNX."""

from dataclasses import replace

import pytest
import torch

from emodarts.errors import EmodartsError
from emodarts.export.encoder_graph import WhisperGraph
from emodarts.export.graph import Classifier, features_graph
from emodarts.export.onnx import OnnxSession, check_parity, to_onnx
from emodarts.features.extractors.extractor import make_extractor
from emodarts.features.settings import FeatureSettings
from emodarts.networks.genotype import Edge, Genotype
from emodarts.networks.names import POOLING_NAMES
from emodarts.networks.network import DiscreteNetwork, NetworkShape
from tests.support.encoders import sounds
from tests.support.exported import SHAPE, genotype, member, padded
from tests.support.files import REPOSITORY
from tests.support.transformers_models import save_model

pytest.importorskip("transformers")
ENCODERS = REPOSITORY.parent / "shared" / "encoders"
LAYERS = {
    "middle": {},
    "input": {"layers": 0},
    "last": {"layers": [3]},
    "learned": {"layers": "learned", "frames_per_second": 25.0},
    "mean": {"layers": [0, 2], "layer_weighting": "mean", "frames_per_second": 12.5},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for family in ("whisper", "hubert"):
        save_model(root / family, family)
    return root


def settings_of(folder, **changes):
    return FeatureSettings(kind="encoder", model=str(folder), **changes)


def classifier_of(settings):
    graph = features_graph(settings)
    shape = NetworkShape(
        **{
            **SHAPE.__dict__,
            "bins": graph.bins,
            "input_channels": graph.channels,
            "layer_weighting": settings.learned_layers,
            "over_time": True,
        }
    )
    torch.manual_seed(1)
    members = [member(DiscreteNetwork(shape, genotype(sequence=n)), shape, s) for s, n in enumerate(("gru_1", "rnn_1"))]
    for one in members:
        if settings.learned_layers:
            torch.nn.init.normal_(one.network.layer_weighting.logits)
    return Classifier(members, graph)


@pytest.mark.parametrize("name", LAYERS)
def test_frames_on_a_padded_batch_are_the_extractor_s(folder, name):
    settings = settings_of(folder / "whisper", **LAYERS[name])
    batch = sounds(0.4, 2.0, 0.02, 1.013, 0.1)
    rows, lengths = padded(batch)
    frames, counts = WhisperGraph(settings)(rows, lengths)
    for own, count, expected in zip(frames, counts.tolist(), make_extractor(settings)(batch), strict=True):
        assert count == len(expected)
        mine = own.permute(2, 0, 1).flatten(1)
        torch.testing.assert_close(mine[:count], expected.half().float(), atol=2e-3, rtol=1e-3)  # float16's last digit
        assert float((mine[:count] - expected).abs().mean()) < 2e-4
        assert not mine[count:].any()


@pytest.mark.parametrize("pooling", POOLING_NAMES)
def test_a_network_whose_cells_read_layers_is_the_same_in_onnx(pooling):
    shape = replace(SHAPE, input_channels=3, frame_layers=3, sequence_shortcut=True, sequence_nodes=1)
    cells = [((Edge("skip_connect", 0), Edge(name, 1)),) for name in ("conv1d_3_d4", "conv1d_3", "bilstm_1")]
    torch.manual_seed(1)
    network = DiscreteNetwork(shape, Genotype(*cells, pooling, (2, None, 0)))
    torch.nn.init.normal_(network.layer_choices[1].logits)
    classifier = Classifier([member(network, shape)], None)
    model = to_onnx(classifier, shape.bins, shape.input_channels, ["a", "b", "c", "d"])
    assert check_parity(model, classifier, shape.bins, shape.input_channels, 50) < 1e-5


@pytest.mark.slow(seconds=3)
@pytest.mark.parametrize("name", ["middle", "learned", "mean"])
def test_from_samples_to_probabilities_in_onnx(folder, name):
    settings = settings_of(folder / "whisper", **LAYERS[name])
    classifier = classifier_of(settings)
    graph = classifier.spectra
    model = to_onnx(classifier, graph.bins, graph.channels, ["a", "b", "c", "d"])
    assert check_parity(model, classifier, graph.bins, graph.channels, 16000) < 1e-4
    batch = sounds(0.4, 2.0, 0.02, 1.013)
    assert check_parity(model, classifier, graph.bins, graph.channels, 16000, batch) < 1e-4
    (together,) = OnnxSession(model)(*(x.numpy() for x in padded(batch)))
    alone = [OnnxSession(model)(x[None], torch.tensor([len(x)]).numpy())[0][0] for x in batch]
    torch.testing.assert_close(
        torch.from_numpy(together), torch.stack([torch.from_numpy(x) for x in alone]), atol=1e-4, rtol=0
    )
    with torch.no_grad():
        classifier.mean0 += 100.0
    with pytest.raises(EmodartsError, match="the ONNX model differs from the network by"):
        check_parity(model, classifier, graph.bins, graph.channels, 16000, batch)


def test_thirty_seconds_fit(folder):
    (sound,) = sounds(30.0)
    frames, counts = WhisperGraph(settings_of(folder / "whisper"))(*padded([sound]))
    assert counts.tolist() == [1500]
    assert torch.isfinite(frames).all()


def test_other_models_are_refused_with_what_is_missing(folder):
    with pytest.raises(EmodartsError, match=r"graph can compute Whisper's; another model's normalisation"):
        features_graph(settings_of(folder / "hubert"))


@pytest.mark.slow
def test_the_real_whisper_in_onnx():
    if not ENCODERS.is_dir():
        pytest.skip("needs Whisper's weights in shared/encoders beside the repository")
    classifier = classifier_of(settings_of(ENCODERS / "whisper-tiny.en"))
    graph = classifier.spectra
    model = to_onnx(classifier, graph.bins, graph.channels, ["a", "b", "c", "d"])
    assert check_parity(model, classifier, graph.bins, graph.channels, 16000) < 1e-4
