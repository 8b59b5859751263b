"""Pre-trained encoders, on small models of the same classes with random weights: nothing is downloaded."""

import json
import socket
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torchaudio
from torchaudio.pipelines import Wav2Vec2Bundle

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.experiment.unit import run_fold
from emodarts.experiment.unit_spec import TransferredGenotype
from emodarts.features.extractors import layer_encoder
from emodarts.features.extractors.encoders import Encoder
from emodarts.features.extractors.extractor import extractor_identity, frame_shape, make_extractor
from emodarts.features.extractors.spectra import Spectra
from emodarts.features.settings import BUNDLES, Bundle, FeatureSettings
from emodarts.features.store.building import build_store
from emodarts.networks.baselines import build_network
from emodarts.networks.costs import count_parameters
from emodarts.networks.genotype import Genotype
from emodarts.networks.network import DiscreteNetwork, NetworkShape
from emodarts.networks.operations import CNN_OPERATIONS
from emodarts.networks.sizes import layer_at
from emodarts.networks.stem import LayerWeighting
from emodarts.networks.supernet import Supernet
from emodarts.training.svm import functionals
from tests.support.encoders import FAMILIES, small_model, sounds
from tests.support.toys import part


def reference(model, sound, normalise):
    """The outputs of all layers for one utterance alone, by torchaudio's own way."""
    wave = torch.from_numpy(sound)[None]
    if normalise:
        wave = torch.nn.functional.layer_norm(wave, wave.shape)
    with torch.no_grad():
        outputs, _ = model.extract_features(wave)
    return [x[0] for x in outputs]


@pytest.fixture(params=list(FAMILIES))
def family(request):
    return request.param


@pytest.fixture
def small_bundle(monkeypatch, tmp_path):
    """A bundle SMALL_BASE beside torchaudio's own, and its weights in a file."""
    kind, sizes, normalise = FAMILIES["wav2vec2 and HuBERT base"]
    monkeypatch.setitem(BUNDLES, "SMALL_BASE", Bundle(3, 24))
    bundle = Wav2Vec2Bundle("small_base.pth", {**sizes, "aux_num_out": 5}, 16000, normalise, kind)
    monkeypatch.setattr(torchaudio.pipelines, "SMALL_BASE", bundle, raising=False)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was tried"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a host was looked up"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "weights.pt"
    torch.save({**small_model("wav2vec2 and HuBERT base").state_dict(), "aux.weight": torch.zeros(5, 24)}, file)
    return file


def small_settings(**changes):
    return FeatureSettings(**{"kind": "pretrained", "bundle": "SMALL_BASE", "layers": [2], **changes})


def test_layers_are_those_of_the_model_alone(family):
    model, normalise = small_model(family), FAMILIES[family][2]
    (sound,) = sounds(0.8)
    expected = reference(model, sound, normalise)
    stacked = Encoder(model, [3, 1], normalise=normalise)
    (frames,) = stacked([sound])
    assert (stacked.bins, stacked.channels) == (24, 2)
    assert frames.shape == (stacked.frames(len(sound)), 48)
    torch.testing.assert_close(frames[:, :24], expected[2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(frames[:, 24:], expected[0], atol=1e-4, rtol=1e-4)
    (mean,) = Encoder(model, [1, 2, 3], "mean", normalise)([sound])
    torch.testing.assert_close(mean, torch.stack(expected).mean(0), atol=1e-4, rtol=1e-4)


def test_frames_are_the_same_alone_and_in_any_batch(family):
    model, normalise = small_model(family), FAMILIES[family][2]
    encoder = Encoder(model, [1, 2, 3], normalise=normalise)
    batch = sounds(0.4, 3.0, 0.1, 1.1)
    for sound, together in zip(batch, encoder(batch), strict=True):
        alone = torch.cat(reference(model, sound, normalise), 1)
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_padding_would_show_without_the_masks(family):
    """What the test above can see: padding in statistics (waveform, group norm) and in the attention."""
    model, normalise = small_model(family), FAMILIES[family][2]
    encoder = Encoder(model, [1, 2, 3], normalise=normalise)
    short, long = (torch.from_numpy(x) for x in sounds(0.4, 3.0))
    padded = torch.nn.functional.pad(short, (0, len(long) - len(short)))
    with torch.no_grad():
        front = encoder._front(short)
        assert not torch.allclose(encoder._front(padded)[: len(front)], front, atol=1e-3)
        features = torch.nn.utils.rnn.pad_sequence([front, encoder._front(long)], batch_first=True)
        frames = features.shape[1]
        masked, unmasked = (encoder._hidden(features, torch.tensor([n, frames])) for n in (len(front), frames))
    assert not torch.allclose(unmasked[0][0, : len(front)], masked[0][0, : len(front)], atol=1e-3)


def test_large_batches_are_cut_and_keep_their_order(monkeypatch):
    encoder = Encoder(small_model("WavLM base"), [3])
    batch = sounds(0.5, 0.2, 0.9, 0.2, 0.4)
    whole = encoder(batch)
    sizes = []
    original = Encoder._transform
    monkeypatch.setattr(Encoder, "_transform", lambda self, front: sizes.append(len(front)) or original(self, front))
    monkeypatch.setattr(layer_encoder, "_FRAMES", 45)
    for one, other in zip(whole, encoder(batch), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert sizes == [2, 1, 1, 1]


@pytest.mark.parametrize("samples", [1, 399, 400, 719, 720, 16000, 48123])
def test_frames_of_so_many_samples(samples):
    encoder = Encoder(small_model("wav2vec2 and HuBERT base"), [1])
    (frames,) = encoder([np.ones(samples, np.float32)])
    assert len(frames) == encoder.frames(samples) == max(1, (samples - 400) // 320 + 1)
    assert torch.isfinite(frames).all()


def test_the_table_of_bundles_is_torchaudios():
    of_torchaudio = {
        name: Bundle(bundle._params["encoder_num_layers"], bundle._params["encoder_embed_dim"])
        for name, bundle in vars(torchaudio.pipelines).items()
        if isinstance(bundle, Wav2Vec2Bundle) and name != "MMS_FA"  # an aligner of its own kind
    }
    assert of_torchaudio == BUNDLES
    for name in BUNDLES:
        bundle = getattr(torchaudio.pipelines, name)
        strides = [stride for _, _, stride in bundle._params["extractor_conv_layer_config"]]
        settings = FeatureSettings(kind="pretrained", bundle=name)
        assert bundle.sample_rate / np.prod(strides) == settings.frame_rate == 50
        assert bundle.sample_rate == settings.sample_rate


def test_shapes_need_no_weights():
    assert frame_shape(FeatureSettings(n_mels=32, deltas=True)) == (32, 3)
    assert frame_shape(FeatureSettings(kind="mfcc", n_mfcc=20)) == (20, 1)
    two = {"kind": "pretrained", "bundle": "WAVLM_LARGE", "layers": [6, 24]}
    assert frame_shape(FeatureSettings(**two)) == (1024, 2)
    assert frame_shape(FeatureSettings(**two, layer_weighting="learned")) == (1024, 2)
    assert frame_shape(FeatureSettings(**two, layer_weighting="mean")) == (1024, 1)


def test_spectra_behind_the_same_interface():
    settings = FeatureSettings(n_mels=32)
    batch = sounds(0.3, 0.7)
    extractor = make_extractor(settings)
    assert extractor_identity(settings) == ""
    for frames, sound, expected in zip(extractor(batch), batch, Spectra(settings)(batch), strict=True):
        assert len(frames) == extractor.frames(len(sound))
        assert torch.equal(frames, expected)


def test_weights_from_a_file_and_from_the_cache(small_bundle, tmp_path):
    (sound,) = sounds(0.5)
    expected = reference(small_model("wav2vec2 and HuBERT base"), sound, False)[1]
    before = torch.get_rng_state()
    given = make_extractor(small_settings(checkpoint=str(small_bundle)))
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(given([sound])[0], expected, atol=1e-5, rtol=1e-5)
    cached = tmp_path / "hub" / "checkpoints" / "small_base.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(small_bundle.read_bytes())
    found = make_extractor(small_settings())
    assert torch.equal(found([sound])[0], given([sound])[0])
    named = extractor_identity(small_settings(checkpoint=str(small_bundle)))
    assert named == extractor_identity(small_settings()) != ""


def test_safetensors_hold_the_same_weights(small_bundle, tmp_path):
    library = pytest.importorskip("safetensors.torch")
    file = tmp_path / "weights.safetensors"
    library.save_file(torch.load(small_bundle, weights_only=True), file)
    (sound,) = sounds(0.5)
    one, other = (make_extractor(small_settings(checkpoint=str(path))) for path in (small_bundle, file))
    assert torch.equal(one([sound])[0], other([sound])[0])
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(EmodartsError, match="cannot be read"):
        make_extractor(small_settings(checkpoint=str(file)))


def test_missing_weights_say_which_file_to_put_where(small_bundle, tmp_path):
    with pytest.raises(EmodartsError, match=r"small_base\.pth into .*hub/checkpoints, or set features\.checkpoint"):
        make_extractor(small_settings())
    with pytest.raises(EmodartsError, match=r"nowhere\.pt: there is no such file"):
        extractor_identity(small_settings(checkpoint=str(tmp_path / "nowhere.pt")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("encoder.feature_projection.projection.bias"), "missing encoder.feature_projection"),
        (lambda w: w.update(another=torch.zeros(1)), "unexpected another"),
        (lambda w: w.update({"encoder.feature_projection.projection.bias": torch.zeros(7)}), "size mismatch"),
        (lambda w: w.clear(), "no state dictionary"),
        (lambda w: w.update(another="text"), "no state dictionary"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_by_name(small_bundle, change, message):
    weights = torch.load(small_bundle, weights_only=True)
    change(weights)
    torch.save(weights, small_bundle)
    with pytest.raises(EmodartsError, match=message) as caught:
        make_extractor(small_settings(checkpoint=str(small_bundle)))
    assert str(small_bundle) in str(caught.value)


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("code of the file was run",))


def test_files_that_are_no_weights_are_refused_and_never_run(small_bundle):
    settings = small_settings(checkpoint=str(small_bundle))
    torch.save({"x": Harmful()}, small_bundle)
    with pytest.raises(EmodartsError, match="cannot be read"):
        make_extractor(settings)
    for content in (b"", b"not a checkpoint", b"PK\x03\x04 cut"):
        small_bundle.write_bytes(content)
        with pytest.raises(EmodartsError, match="cannot be read"):
            make_extractor(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bundle": "WAV2VEC"}, "bundle=WAV2VEC is out of range: one of HUBERT_ASR_LARGE, .*WAVLM_LARGE"),
        ({"bundle": "HUBERT_BASE", "layers": [13]}, r"layers=\[13\] .* HUBERT_BASE has layers 0 to 12"),
        ({"layers": []}, "layers"),
        ({"layers": [-1]}, "layers"),
        ({"layers": True}, "layers"),
        ({"layers": "all"}, "learned"),
        ({"frames_per_second": 20}, r"50, 25 or 12\.5"),
        ({"precision": "float16"}, r"float32 \| bfloat16"),
        ({"layers": [3, 3]}, "none twice"),
        ({"layer_weighting": "sum"}, r"stack \| mean \| learned"),
        ({"sample_rate": 8000}, "16000 Hz"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(EmodartsError, match=message):
        FeatureSettings(kind="pretrained", **changes)
    if "sample_rate" not in changes:
        with pytest.raises(EmodartsError, match=r"does nothing with features\.kind=log_mel: it is for pretrained"):
            FeatureSettings(kind="log_mel", **changes)


def test_frames_per_second_come_from_one_place():
    assert FeatureSettings(hop_ms=10).frame_rate == 100
    assert FeatureSettings(kind="pretrained").frame_rate == 50
    assert FeatureSettings(sample_rate=11025, hop_ms=20).frame_rate == 11025 / 220


SHAPE = NetworkShape(4, 3, 16, 2, 1, 4, 1, 1, 8, 4, (2, 2))
OPERATIONS = ("none", "skip_connect", "lstm_1")


def supernet(shape):
    torch.manual_seed(0)
    return Supernet(shape, tuple(CNN_OPERATIONS), OPERATIONS)


def test_learned_layer_weights_are_weights_and_get_gradients():
    plain, weighing = supernet(SHAPE), supernet(replace(SHAPE, layer_weighting=True))
    logits = weighing.layer_weighting.logits
    assert any(p is logits for p in weighing.weight_parameters())
    assert all(p is not logits for p in weighing.architecture_parameters())
    kernels = [network.stem.layers[0].weight.numel() for network in (plain, weighing)]
    assert kernels[0] == 3 * kernels[1]  # one channel goes on
    assert count_parameters(weighing) - count_parameters(plain) == 3 - kernels[0] + kernels[1]
    x = torch.randn(2, 3, 16, 20)
    torch.nn.functional.cross_entropy(weighing(x, torch.tensor([20, 20])), torch.tensor([0, 1])).backward()
    assert logits.grad.abs().sum() > 0
    assert abs(logits.grad.sum()) < 1e-6  # of a softmax: what one layer gains the others lose


def test_layer_weights_are_a_softmax_and_keep_padding_zero():
    weighting = LayerWeighting(3)
    x = torch.randn(2, 3, 5, 7)
    x[..., 4:] = 0
    torch.testing.assert_close(weighting(x), x.mean(1, keepdim=True))
    with torch.no_grad():
        weighting.logits.copy_(torch.log(torch.tensor([0.5, 0.3, 0.2])))
    expected = 0.5 * x[:, 0] + 0.3 * x[:, 1] + 0.2 * x[:, 2]
    torch.testing.assert_close(weighting(x), expected[:, None])
    assert not weighting(x)[..., 4:].any()


def test_older_networks_stay_as_they_are():
    content = json.loads(json.dumps(asdict(SHAPE)))
    del content["layer_weighting"]
    assert NetworkShape(**{**content, "stem_strides": (2, 2)}) == SHAPE
    network = DiscreteNetwork(SHAPE, supernet(SHAPE).derive())
    assert not any("layer_weighting" in name for name in network.state_dict())


@pytest.mark.parametrize(("weighting", "channels"), [("learned", 2), ("stack", 2), ("mean", 1)])
def test_a_whole_unit_on_frames_of_an_encoder(small_bundle, small_corpus, tiny, tmp_path, weighting, channels):
    corpus_settings = CorpusSettings(name="manifest", root=str(small_corpus), class_set="full")
    corpus = corpora.read(corpus_settings)
    fold = make_folds(corpus_settings, corpus.utterances, label_utterances(corpus.utterances, corpus_settings))[0]
    settings = small_settings(
        layers=[1, 3], layer_weighting=weighting, checkpoint=str(small_bundle), speeds=[1.0], trim_db=None
    )
    store = build_store(corpus.utterances, corpus.root, settings, tmp_path / "cache", processes=1)
    assert (store.bins, store.channels) == (24, channels)
    assert set(store.lengths(range(32)).tolist()) == {(9600 - 400) // 320 + 1}
    records = run_fold(store, fold, replace(tiny, features=settings))
    assert json.loads(records.genotypes[0].network_json)["layer_weighting"] is (weighting == "learned")
    assert all(np.isfinite(e.probabilities).all() for e in records.evaluations)


@pytest.mark.slow
def test_a_whole_unit_of_the_space_for_frames_and_the_transfer_of_its_genotype(
    small_bundle, small_corpus, tiny, tmp_path
):
    """Each cell weighs stacked layers too; networks designed by hand stay what they are."""
    corpus_settings = CorpusSettings(name="manifest", root=str(small_corpus), class_set="full")
    corpus = corpora.read(corpus_settings)
    fold = make_folds(corpus_settings, corpus.utterances, label_utterances(corpus.utterances, corpus_settings))[0]
    features = small_settings(layers=[1, 3], checkpoint=str(small_bundle), speeds=[1.0], trim_db=None)
    store = build_store(corpus.utterances, corpus.root, features, tmp_path / "cache", processes=1)
    search = replace(tiny.search, space="frames", cnn_operations=None, sequence_operations=["none", "bigru_1"])
    frames = replace(tiny, features=features, search=search)
    (record,) = run_fold(store, fold, frames).genotypes
    network, genotype = NetworkShape.from_json(record.network_json), Genotype.from_json(record.genotype_json)
    assert (network.frame_layers, network.layer_weighting, network.stem_strides[1]) == (2, False, 2)
    assert (network.layout, len(genotype.layers)) == ("NN", 3)
    whole = replace(frames, training=replace(frames.training, depth=3))
    (again,) = run_fold(store, fold, whole, transferred=TransferredGenotype(genotype, 1)).genotypes
    assert again.genotype_json == record.genotype_json
    compact = replace(frames, search=replace(search, space="compact"))
    with pytest.raises(EmodartsError, match="does not fit features of 0 layers that cells read"):
        run_fold(store, fold, compact, transferred=TransferredGenotype(replace(genotype, layers=(1, 0, None)), 1))
    by_hand = [run_fold(store, fold, replace(s, system="cnn_lstm")) for s in (frames, compact)]
    probabilities = [[e.probabilities.tobytes() for e in records.evaluations] for records in by_hand]
    assert probabilities[0] == probabilities[1]
    with pytest.raises(EmodartsError, match=r"search.space=frames is over time alone.*egemaps has one frame"):
        replace(frames, features=FeatureSettings(kind="egemaps"))


@pytest.mark.parametrize("system", ["cnn_lstm_attention", "linear_probe", "emodarts"])
def test_one_layer_is_read_in_the_place_of_a_weighting(system):
    shape = replace(SHAPE, layer_weighting=True, layer=2, dropout=0.0)
    torch.manual_seed(0)
    genotype = supernet(shape).derive()
    network = DiscreteNetwork(shape, genotype) if system == "emodarts" else build_network(system, shape)
    network.eval()
    x, lengths = torch.randn(2, 3, 16, 20), torch.tensor([20, 20])
    others, own = x.clone(), x.clone()
    others[:, :2] += 1
    own[:, 2] += 1
    with torch.no_grad():
        assert torch.equal(network(others, lengths), network(x, lengths))
        assert not torch.equal(network(own, lengths), network(x, lengths))
    assert not any("logits" in name for name in network.state_dict())
    assert NetworkShape.from_json(shape.to_json()) == shape


def test_positions_are_layers_and_the_machine_reads_the_same_one():
    assert [layer_at(position, 5) for position in (None, 0.0, 0.25, 0.5, 0.75, 1.0)] == [None, 0, 1, 2, 3, 4]
    frames = np.random.default_rng(0).normal(size=(6, 8, 3, 4))
    layered = part(frames, np.array([0, 1] * 3))
    of_one = functionals(layered, slice(2, 3))
    np.testing.assert_allclose(of_one, functionals(part(frames[:, :, 2], layered.labels)))
    mean = frames.astype(np.float16).astype(np.float64).mean(2)
    np.testing.assert_allclose(functionals(layered, slice(None))[:, :4], mean.mean(1), atol=1e-6)
