"""Encoders of transformers: small ones with random weights, and Whisper's own where `shared/encoders` is there."""

import json
import pickle
import shutil
import socket
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.experiment.unit import run_fold
from emodarts.features.extractors import layer_encoder, model_files
from emodarts.features.extractors.extractor import extractor_identity, frame_shape, make_extractor
from emodarts.features.extractors.layer_encoder import average_frames
from emodarts.features.extractors.transformer_encoders import TransformersEncoder
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.building import build_store
from emodarts.features.store.inventory import describe_settings
from emodarts.features.store.plan import ExtractionPlan
from tests.support.encoders import sounds
from tests.support.files import REPOSITORY
from tests.support.transformers_models import FAMILIES, save_model

pytest.importorskip("transformers")
ENCODERS = REPOSITORY.parent / "shared" / "encoders"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was tried"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a host was looked up"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Family -> folder."""
    root = tmp_path_factory.mktemp("encoders")
    for family in FAMILIES:
        save_model(root / family, family)
    return {family: root / family for family in FAMILIES}


@pytest.fixture(params=list(FAMILIES))
def family(request):
    return request.param


@pytest.fixture
def whisper(folders, tmp_path):
    """A copy of the small Whisper, to be changed."""
    shutil.copytree(folders["whisper"], tmp_path / "whisper")
    return tmp_path / "whisper"


@pytest.fixture
def in_batches(monkeypatch):
    """Batches on this CPU as on a GPU."""
    monkeypatch.setattr(TransformersEncoder, "alone_on", ())


def settings_of(folder, **changes):
    return FeatureSettings(kind="encoder", model=str(folder), **{"speeds": [1.0], **changes})


def library_layers(folder, sound, pad=False):
    """`hidden_states` of an utterance by the library's own forward pass; Whisper's positions cut, or padded to 30 s."""
    from transformers import AutoFeatureExtractor, AutoModel

    extractor, model = AutoFeatureExtractor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    padding = {"padding": "max_length" if pad else "longest"} if "whisper" in str(folder) else {}
    inputs = extractor(sound, sampling_rate=16000, return_tensors="pt", **padding)
    encoder = model.float()
    if padding:
        encoder = model.encoder
        frames = -(-inputs.input_features.shape[2] // 2)
        encoder.config.max_source_positions = frames
        encoder.embed_positions = nn.Embedding.from_pretrained(encoder.embed_positions.weight[:frames])
        inputs["input_features"] = inputs.input_features[:, :, : 2 * frames]
    with torch.no_grad():
        return [x[0] for x in encoder(**inputs, output_hidden_states=True).hidden_states]


def test_layers_are_those_of_the_library(folders, family):
    (sound,) = sounds(0.8)
    expected = library_layers(folders[family], sound)
    for layers in ([0], [1], [2, 0], [3, 1], "learned"):
        encoder = make_extractor(settings_of(folders[family], layers=layers))
        (frames,) = encoder([sound])
        chosen = [0, 1, 2, 3] if layers == "learned" else layers
        assert (
            (encoder.bins, encoder.channels)
            == (24, len(chosen))
            == frame_shape(settings_of(folders[family], layers=layers))
        )
        torch.testing.assert_close(frames, torch.cat([expected[i] for i in chosen], 1), atol=1e-4, rtol=1e-4)
    (mean,) = make_extractor(settings_of(folders[family], layers=[0, 2], layer_weighting="mean"))([sound])
    torch.testing.assert_close(mean, (expected[0] + expected[2]) / 2, atol=1e-4, rtol=1e-4)


def test_the_middle_layer_is_the_default(folders, family):
    (sound,) = sounds(0.4)
    default, explicit = (make_extractor(settings_of(folders[family], layers=n)) for n in (None, 1))
    assert torch.equal(default([sound])[0], explicit([sound])[0])


def test_frames_are_the_same_alone_and_in_any_batch(folders, family, in_batches):
    encoder = make_extractor(settings_of(folders[family], layers="learned"))
    batch = sounds(0.4, 3.0, 0.1, 1.1, 0.02)
    for sound, together in zip(batch, encoder(batch), strict=True):
        (alone,) = encoder([sound])
        assert len(alone) == encoder.frames(len(sound)) or family == "data2vec"
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["whisper", "wav2vec2 base", "wavlm large"])
def test_padding_would_show_without_the_mask(folders, family, monkeypatch, in_batches):
    encoder = make_extractor(settings_of(folders[family], layers=[2]))
    short, long = sounds(0.4, 3.0)
    alone = encoder([short])[0]
    monkeypatch.setattr("emodarts.features.extractors.transformer_encoders.padding_mask", lambda *_: None)
    assert not torch.allclose(encoder([short, long])[0], alone, atol=1e-3)


def test_whisper_equals_the_padded_one_where_both_see_the_same(folders):
    """Silence to 30 s: the same in the library; behind the convolutions every frame but the rim of the sound's end."""
    (sound,) = sounds(2.0)
    encoder = make_extractor(settings_of(folders["whisper"], layers="learned"))
    padded = np.pad(sound, (0, 480000 - len(sound)))
    expected = torch.cat(library_layers(folders["whisper"], sound, pad=True), 1)
    torch.testing.assert_close(encoder([padded])[0], expected, atol=1e-4, rtol=1e-4)
    own, same = (encoder._front(torch.from_numpy(x)) for x in (sound, padded))
    torch.testing.assert_close(own[:-2], same[: len(own) - 2], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(
        encoder([sound])[0][:, 24:48], expected[: len(own), 24:48], atol=1e-3
    )  # attention differs


@pytest.mark.parametrize("family", ["whisper", "hubert", "data2vec"])
def test_longer_sound_goes_through_in_windows(folders, family):
    encoder = make_extractor(settings_of(folders[family], layers=[2]))
    (sound,) = sounds(70.0)
    (frames,) = encoder([sound])
    size = -(-len(sound) // 3 // 1280) * 1280
    pieces = [sound[i : i + size] for i in range(0, len(sound), size)]
    assert len(pieces) == 3
    torch.testing.assert_close(frames, torch.cat([encoder([piece])[0] for piece in pieces]), atol=1e-4, rtol=1e-4)
    assert abs(len(frames) - 70 * 50) <= 3


@pytest.mark.parametrize(("rate", "count"), [(25, 2), (12.5, 4)])
def test_fewer_frames_a_second_are_means(folders, rate, count):
    (sound,) = sounds(1.1)
    settings = settings_of(folders["whisper"], frames_per_second=rate)
    (all_frames,), (fewer,) = (make_extractor(s)([sound]) for s in (settings_of(folders["whisper"]), settings))
    assert settings.frame_rate == rate
    for number, frame in enumerate(fewer):
        torch.testing.assert_close(frame, all_frames[number * count : (number + 1) * count].mean(0))
    assert len(fewer) == -(-len(all_frames) // count)
    assert torch.equal(average_frames(all_frames, 1), all_frames)


def test_bfloat16_is_near_and_another_store(folders, family, small_corpus, in_batches):
    exact, rough = settings_of(folders[family]), settings_of(folders[family], precision="bfloat16")
    batch = sounds(0.5, 1.1)
    for a, b in zip(*(make_extractor(settings)(batch) for settings in (exact, rough)), strict=True):
        assert b.dtype == torch.float32
        assert 1e-4 < float((a - b).abs().max()) < 0.5
    assert store_name(exact, small_corpus) != store_name(rough, small_corpus)


def store_name(settings, root):
    corpus = corpora.read(CorpusSettings(name="manifest", root=str(root), class_set="full"))
    return ExtractionPlan.of(corpus.utterances, corpus.root, settings).name


def test_the_key_has_what_decides_over_the_frames_and_not_where_it_lies(whisper, small_corpus, tmp_path):
    name = store_name(settings_of(whisper), small_corpus)
    assert store_name(settings_of(whisper, layers=[1]), small_corpus) == name  # the middle one, by its number
    moved = shutil.copytree(whisper, tmp_path / "moved")
    assert store_name(settings_of(moved, download=True), small_corpus) == name
    assert store_name(settings_of(whisper, layers=2), small_corpus) != name
    assert store_name(settings_of(whisper, frames_per_second=25), small_corpus) != name
    from safetensors.torch import load_file, save_file

    weights = load_file(moved / "model.safetensors")
    weights["encoder.conv1.bias"] += 1e-3
    save_file(weights, moved / "model.safetensors", {"format": "pt"})
    assert extractor_identity(settings_of(moved)) != extractor_identity(settings_of(whisper))
    assert store_name(settings_of(moved), small_corpus) != name
    mels = json.loads((whisper / "preprocessor_config.json").read_text())
    (whisper / "preprocessor_config.json").write_text(json.dumps({**mels, "hop_length": 161}))
    assert store_name(settings_of(whisper), small_corpus) != name


def test_a_bundle_s_key_is_what_it_was():
    content = FeatureSettings(kind="pretrained", layers=[9]).content
    assert set(content) == {
        "kind", "sample_rate", "trim_db", "minimum_ms", "bundle", "layers", "layer_weighting"
    }  # fmt: skip
    assert FeatureSettings(kind="pretrained").content["layers"] == [12]
    assert FeatureSettings(kind="pretrained", frames_per_second=25.0).content["frames_per_second"] == 25


def test_settings_that_do_not_go_together(folders):
    with pytest.raises(EmodartsError, match=r"features\.model is missing"):
        FeatureSettings(kind="encoder")
    with pytest.raises(EmodartsError, match=r"does nothing with features\.kind=pretrained: it is for encoder"):
        FeatureSettings(kind="pretrained", model="owner/name")
    with pytest.raises(EmodartsError, match=r"does nothing with features\.kind=encoder"):
        settings_of(folders["whisper"], bundle="HUBERT_BASE")
    with pytest.raises(EmodartsError, match=r"layers=\[4\] is out of range: .*whisper has layers 0 to 3"):
        frame_shape(settings_of(folders["whisper"], layers=[4]))


def test_nothing_is_downloaded_unasked(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(EmodartsError, match=r"nothing is downloaded unasked: say features\.download=true"):
        extractor_identity(settings_of("owner/name"))
    with pytest.raises(EmodartsError, match="there is no such folder"):
        extractor_identity(settings_of("./nowhere"))


def test_a_download_that_was_asked_for_takes_safetensors_alone(monkeypatch, whisper):
    calls = []

    def snapshot_download(name, **options):
        calls.append((name, options))
        return str(whisper)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    for download in (False, True):
        extractor_identity(settings_of("owner/name@v1", download=download))
    (name, unasked), (_, asked) = calls
    assert (name, unasked["revision"]) == ("owner/name", "v1")
    assert unasked["local_files_only"] is True
    assert asked["local_files_only"] is False
    assert not any("bin" in pattern or "py" in pattern or pattern == "*" for pattern in asked["allow_patterns"])


def test_a_name_in_the_library_s_cache(monkeypatch, whisper, tmp_path):
    cache = tmp_path / "hub"
    snapshot = cache / "models--owner--name" / "snapshots" / ("a" * 40)
    shutil.copytree(whisper, snapshot)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    (sound,) = sounds(0.5)
    by_name, by_folder = (make_extractor(settings_of(model)) for model in ("owner/name", whisper))
    assert torch.equal(by_name([sound])[0], by_folder([sound])[0])
    assert extractor_identity(settings_of("owner/name")) == extractor_identity(settings_of(whisper))


def test_code_of_a_model_is_never_run(whisper):
    config = json.loads((whisper / "config.json").read_text())
    own = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    (whisper / "own.py").write_text("raise SystemExit('code of the model was run')\n")
    (whisper / "config.json").write_text(json.dumps({**config, "auto_map": own, "model_type": "own"}))
    with pytest.raises(EmodartsError, match="cannot be read"):
        make_extractor(settings_of(whisper))
    (whisper / "config.json").write_text(json.dumps({**config, "auto_map": own}))  # a type that the library knows
    assert len(make_extractor(settings_of(whisper))(sounds(0.5))[0]) == 25


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("code of the file was run",))


def test_pickled_weights_are_read_as_tensors_alone(whisper):
    from safetensors.torch import load_file

    (sound,) = sounds(0.5)
    expected = make_extractor(settings_of(whisper))([sound])[0]
    torch.save(load_file(whisper / "model.safetensors"), whisper / "pytorch_model.bin")
    (whisper / "model.safetensors").unlink()
    assert torch.equal(make_extractor(settings_of(whisper))([sound])[0], expected)
    for content in ({"encoder.conv1.bias": Harmful()}, Harmful()):
        torch.save(content, whisper / "pytorch_model.bin")
        with pytest.raises(EmodartsError, match="cannot be read"):
            make_extractor(settings_of(whisper))
    (whisper / "pytorch_model.bin").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(EmodartsError, match="cannot be read"):
        make_extractor(settings_of(whisper))


def test_weights_that_are_missing_are_not_drawn_at_random(whisper):
    from safetensors.torch import load_file, save_file

    weights = load_file(whisper / "model.safetensors")
    without_decoder = {name: x for name, x in weights.items() if not name.startswith("decoder.")}
    save_file(without_decoder, whisper / "model.safetensors", {"format": "pt"})
    before = torch.get_rng_state()
    assert len(make_extractor(settings_of(whisper))(sounds(0.5))[0]) == 25
    assert torch.equal(torch.get_rng_state(), before)
    without_decoder.pop("encoder.layers.1.fc1.weight")
    save_file(without_decoder, whisper / "model.safetensors", {"format": "pt"})
    with pytest.raises(EmodartsError, match=r"lacks weights: encoder\.layers\.1\.fc1\.weight"):
        make_extractor(settings_of(whisper))


def test_folders_that_are_no_encoder(whisper):
    (whisper / "preprocessor_config.json").unlink()
    with pytest.raises(EmodartsError, match="cannot be read"):
        make_extractor(settings_of(whisper))
    (whisper / "model.safetensors").unlink()
    with pytest.raises(EmodartsError, match="no weights"):
        extractor_identity(settings_of(whisper))
    (whisper / "config.json").unlink()
    with pytest.raises(EmodartsError, match=r"no config\.json"):
        extractor_identity(settings_of(whisper))


def test_without_transformers_the_extra_is_named(monkeypatch, whisper):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(model_files.importlib, "import_module", missing)
    with pytest.raises(EmodartsError, match=r"pip install 'emodarts\[encoders\]'"):
        frame_shape(settings_of(whisper))


def test_an_encoder_of_another_rate_is_refused(folders, monkeypatch):
    monkeypatch.setattr(layer_encoder, "FRAME_SAMPLES", 640)
    with pytest.raises(EmodartsError, match="gives 25 frames of"):
        make_extractor(settings_of(folders["whisper"]))(sounds(0.5))


@pytest.mark.parametrize(("layers", "weighting", "channels"), [("learned", "stack", 4), ([0, 2], "stack", 2)])
def test_a_whole_unit_on_frames_of_a_model(folders, small_corpus, tiny, tmp_path, layers, weighting, channels):
    corpus_settings = CorpusSettings(name="manifest", root=str(small_corpus), class_set="full")
    corpus = corpora.read(corpus_settings)
    fold = make_folds(corpus_settings, corpus.utterances, label_utterances(corpus.utterances, corpus_settings))[0]
    settings = settings_of(folders["whisper"], layers=layers, layer_weighting=weighting, trim_db=None)
    store = build_store(corpus.utterances, corpus.root, settings, tmp_path / "cache", processes=2)
    assert (store.bins, store.channels) == (24, channels)
    for system in ("emodarts", "cnn_lstm_attention", "svm"):
        records = run_fold(store, fold, replace(tiny, features=settings, system=system))
        assert all(np.isfinite(e.probabilities).all() for e in records.evaluations)
        if system == "emodarts":
            assert json.loads(records.genotypes[0].network_json)["layer_weighting"] is (layers == "learned")


@pytest.mark.slow
def test_no_label_and_no_sound_of_the_test_part_reaches_the_dev_side(folders, demo, tiny, tmp_path):
    """With learned layer weights, on a CPU: bit for bit."""
    settings = settings_of(folders["whisper"], layers="learned", frames_per_second=25.0)
    configuration = replace(tiny, features=settings)
    corpus_settings = CorpusSettings(name="demo", root=str(tmp_path / "demo"))

    def run(permute=False):
        corpus = corpora.read(corpus_settings)
        store = build_store(corpus.utterances, corpus.root, settings, tmp_path / "cache", processes=1)
        fold = make_folds(corpus_settings, corpus.utterances, label_utterances(corpus.utterances, corpus_settings))[0]
        test = fold.tests["demo/test"]
        if permute:
            labels = np.random.default_rng(0).permutation([fold.labels[u] for u in test]).tolist()
            fold = replace(fold, labels={**fold.labels, **dict(zip(test, labels, strict=True))})
        records = run_fold(store, fold, configuration, seed=3)
        dev = [(e.stage, e.probabilities.tobytes()) for e in records.evaluations if e.role == "dev"]
        epochs = [replace(epoch, seconds=0.0) for epoch in records.epochs]
        return ([g.genotype_json for g in records.genotypes], epochs, dev), records.evaluations[-1], corpus, test

    undisturbed, before, corpus, test = run()
    permuted, other_labels, *_ = run(permute=True)
    assert permuted == undisturbed
    assert other_labels.labels != before.labels
    paths = dict(zip(*(corpus.utterances[name].to_pylist() for name in ("utterance", "path")), strict=True))
    rng = np.random.default_rng(0)
    for utterance in test:
        soundfile.write(corpus.root / paths[utterance], rng.normal(0, 0.1, 12000), 16000, subtype="PCM_16")
    noisy, after, *_ = run()
    assert noisy == undisturbed
    assert not np.array_equal(before.probabilities, after.probabilities)


def test_a_listing_names_the_model(folders):
    text = describe_settings(settings_of(folders["whisper"], layers=[0, 2], frames_per_second=12.5))
    assert text.startswith(f"{folders['whisper']} layers [0, 2] stack 12.5/s float32")


@pytest.mark.slow
def test_the_real_whisper_on_a_recording(recordings, in_batches):
    if not ENCODERS.is_dir():
        pytest.skip("needs Whisper's weights in shared/encoders beside the repository")
    files = sorted((recordings / "emodb").rglob("*.*"))
    audio = [soundfile.read(file, dtype="float32")[0] for file in files if file.suffix in (".wav", ".flac")][:3]
    audio = [sound[: len(sound) // 320 * 320] for sound in audio]  # the library wants two mel frames for each position
    encoder = make_extractor(settings_of(ENCODERS / "whisper-tiny.en", layers="learned"))
    for sound, frames in zip(audio, encoder(audio), strict=True):
        expected = torch.cat(library_layers(ENCODERS / "whisper-tiny.en", sound), 1)
        torch.testing.assert_close(frames, expected, atol=1e-4, rtol=1e-4)
