"""Where a network looks: the weights of its attentive pooling, and where they lie in a recording."""

import json

import numpy as np
import pytest
import torch

from emodarts.errors import EmodartsError
from emodarts.export.graph import Member
from emodarts.features.audio import prepare
from emodarts.features.extractors.spectra import Spectra
from emodarts.features.normalisation import Standardiser
from emodarts.features.settings import FeatureSettings
from emodarts.networks import baselines
from emodarts.networks.network import NetworkShape
from emodarts.networks.pooling import AttentiveStatistics
from emodarts.report.attention import AttentionReader, attention_weights
from emodarts.report.recordings import _attention_path

RATE = 16000
FEATURES = FeatureSettings(n_mels=32)


@pytest.fixture(scope="module")
def member():
    torch.manual_seed(0)
    shape = NetworkShape(
        bins=32,
        input_channels=1,
        classes=4,
        cells=2,
        nodes=1,
        channels=4,
        sequence_cells=1,
        sequence_nodes=1,
        sequence_width=8,
        stem_channels=4,
        stem_strides=(4, 2),
    )
    network = baselines.build_network("cnn_lstm_attention", shape).eval()
    return Member(network, Standardiser(torch.zeros(32), torch.ones(32)))


def test_weights_are_those_that_pool(member):
    inputs = torch.randn(1, 1, 32, 100)
    pool = next(m for m in member.network.modules() if isinstance(m, AttentiveStatistics))
    seen = []
    hook = pool.register_forward_hook(lambda module, arguments, output: seen.append((arguments[0], output)))
    weights = torch.from_numpy(attention_weights(member, inputs))
    hook.remove()
    ((x, output),) = seen
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    mean = (weights[None, :, None] * x).sum(1)
    assert torch.allclose(mean, output[:, : x.shape[2]], atol=1e-5)


def test_they_lie_where_the_sound_is(member):
    """Silence at both ends is cut before the network hears anything."""
    voice = np.sin(np.arange(RATE) * 0.2) * np.hanning(RATE) ** 0.1
    sound = np.concatenate([np.zeros(RATE), voice, np.zeros(RATE // 2)]).astype(np.float32)
    sound += np.random.default_rng(0).normal(0, 1e-5, len(sound)).astype(np.float32)
    reader = AttentionReader("s", "emodarts", {3: member}, Spectra(FEATURES))
    start, end, weights = reader.over_time(sound, RATE, 3)
    assert start == pytest.approx(1, abs=0.06)
    assert end == pytest.approx(2, abs=0.06)
    assert round((end - start) * RATE) == len(prepare(sound, RATE, FEATURES))
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert reader.over_time(sound, RATE, 0) is None
    assert reader.over_time(np.zeros(RATE, np.float32), RATE, 3) is None
    path = _attention_path(start, end, weights, 2.5)
    assert path.startswith(f"M{240 * start / 2.5:.1f} 1L")
    assert " -1.00" in path  # the largest weight is at the top


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"normalisation": "speaker"},
            "by the train part alone, and this export has log_mel, normalised by speaker",
        ),
        ({"kind": "refit"}, "a network of all data was tested on none; export an ensemble"),
        ({"members": [{"fold": 0}, {"fold": 0}]}, r"several networks a fold \(--top\)"),
    ],
)
def test_exports_that_do_not_tell_are_refused(member, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr("emodarts.report.attention.load_export", lambda folder: [member])
    about = {"features": FEATURES.content, "normalisation": "train", "kind": "fold", "members": [{"fold": 0}]}
    (tmp_path / "model.json").write_text(json.dumps(about | changes))
    with pytest.raises(EmodartsError, match=message):
        AttentionReader.open(tmp_path)


def test_a_folder_without_an_export_is_refused(tmp_path):
    with pytest.raises(EmodartsError, match="holds no whole export"):
        AttentionReader.open(tmp_path)
