"""What needs a CUDA device: `pytest -m gpu`."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emodarts.experiment.unit import run_fold
from emodarts.features.batches import FoldPart, evaluation_batches, training_batches
from emodarts.features.extractors.encoders import Encoder
from emodarts.features.normalisation import Normaliser, Standardiser
from emodarts.features.resident import keep_on_device
from emodarts.features.settings import BatchSettings
from emodarts.networks.network import DiscreteNetwork
from emodarts.networks.operations import CNN_OPERATIONS
from emodarts.networks.supernet import Supernet
from emodarts.processors import choose_device

pytestmark = pytest.mark.gpu
DEVICE = "cuda"


def test_a_whole_unit_on_the_gpu(demo, demo_store, tiny):
    assert choose_device("auto") == "cuda"
    records = run_fold(demo_store, demo[2][0], tiny, device="cuda")
    assert [e.role for e in records.evaluations] == ["dev", "dev", "test"]
    assert all(np.isfinite(e.probabilities).all() for e in records.evaluations)


@pytest.mark.parametrize(
    "search", [{"method": "spos", "candidates": 2}, {"epochs": 6, "proposals": 2, "proposal_epochs": 1}]
)
def test_paths_and_proposals_on_the_gpu(demo, demo_store, tiny, search):
    settings = replace(tiny, search=replace(tiny.search, **search))
    records = run_fold(demo_store, demo[2][0], settings, device="cuda", tests=False)
    assert {e.phase for e in records.epochs} >= {"search", "train", "ranking" if "method" in search else "proposal"}


def test_the_same_network_predicts_the_same_on_both_devices():
    from tests.support.networks import LENGTHS, SHAPE, inputs

    torch.manual_seed(0)
    supernet = Supernet(SHAPE, tuple(CNN_OPERATIONS), ("none", "skip_connect", "lstm_1"))
    network = DiscreteNetwork(SHAPE, supernet.derive())
    network(inputs(seed=1), LENGTHS)
    network.eval()
    with torch.no_grad():
        on_cpu = network(inputs(), LENGTHS)
        on_gpu = network.cuda()(inputs().cuda(), LENGTHS.cuda()).cpu()
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("rule", ["train", "speaker"])
def test_a_folds_features_on_the_gpu_give_the_same_batches(demo, demo_store, rule):
    fold = demo[2][0]
    train, dev = demo_store.positions(fold.train), demo_store.positions(fold.dev)
    assert keep_on_device(demo_store, train, dev, "cuda", 1e-9) is None
    kept = keep_on_device(demo_store, train, dev, "cuda", 0.25)
    assert kept is not None
    roles, by_train = {"train": fold.train, "dev": fold.dev}, Standardiser.fit(demo_store, fold.train)
    normaliser = Normaliser(demo_store, rule, roles, fold.speakers, by_train)
    settings = BatchSettings(pad="repeat", time_masks=1, frequency_masks=1)
    for ids in (fold.train, fold.dev):
        standardiser = normaliser.standardiser(ids)
        mapped, resident = (FoldPart.of(demo_store, standardiser, fold, ids, x) for x in (None, kept))
        pairs = [(evaluation_batches(part, 16, "cuda") for part in (mapped, resident))]
        if ids is fold.train:
            rngs = (np.random.default_rng(0), np.random.default_rng(0))
            drawn = zip((mapped, resident), rngs, strict=True)
            pairs.append(training_batches(part, 16, 40, rng, "cuda", settings) for part, rng in drawn)
        for one, other in pairs:
            for a, b in zip(one, other, strict=True):
                assert a.inputs.device.type == b.inputs.device.type == "cuda"
                assert torch.equal(a.inputs, b.inputs)
                assert torch.equal(a.lengths, b.lengths)
                assert torch.equal(a.positions, b.positions)


def test_a_unit_is_the_same_with_and_without_features_on_the_gpu(demo, demo_store, tiny):
    units = [
        run_fold(
            demo_store, demo[2][0], replace(tiny, batches=BatchSettings(device_memory_fraction=share)), device="cuda"
        )
        for share in (0.0, 0.25)
    ]
    losses = [[epoch.train_loss for epoch in unit.epochs] for unit in units]
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-3)


@pytest.mark.parametrize("name", ["wav2vec2 and HuBERT base", "wav2vec2 and HuBERT large", "WavLM base", "WavLM large"])
def test_an_encoder_gives_the_same_frames_on_both_devices_and_in_any_batch(name):
    from tests.support.encoders import FAMILIES, small_model, sounds

    encoder = Encoder(small_model(name), [1, 2, 3], normalise=FAMILIES[name][2])
    batch = sounds(0.4, 3.0, 0.1, 1.1)
    on_cpu = encoder(batch)
    for sound, frames, expected in zip(batch, encoder(batch, "cuda"), on_cpu, strict=True):
        torch.testing.assert_close(frames, encoder([sound], "cuda")[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(frames, expected, atol=1e-3, rtol=1e-3)


def test_the_fast_cells_give_the_outputs_and_gradients_of_the_plain_ones():
    from tests.support.networks import LENGTHS, SHAPE, inputs
    from tests.support.plain import plain_twin

    torch.manual_seed(0)
    sequence = ("none", "skip_connect", "lstm_1", "lstm_2", "gru_1", "rnn_attention_1", "self_attention_4")
    fast = Supernet(replace(SHAPE, dropout=0.0), tuple(CNN_OPERATIONS), sequence).double().to(DEVICE)
    plain = plain_twin(fast)
    x, lengths = inputs().double().to(DEVICE), LENGTHS.to(DEVICE)
    found = []
    for network in (fast, plain):
        loss = network(x, lengths).square().sum()
        alphas = [alpha for kind, alpha in network.alphas.items() if kind in network.shape.layout + "S"]
        stem = list(network.stem.parameters())
        found.append([loss, *torch.autograd.grad(loss, [*alphas, *stem])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("phase", ["search", "train"])
def test_a_stopped_unit_goes_on(demo, demo_store, tiny, tmp_path, phase):
    """No promise of equal bits on a GPU: two runs there differ by rounding. What was done before the stop is kept."""

    class Stopped(Exception):
        pass

    before = []

    def stop(record):
        before.append(record)
        if (record.phase, record.epoch) == (phase, 0):
            raise Stopped

    arguments = (demo_store, demo[2][0], tiny, 3, DEVICE)
    with pytest.raises(Stopped):
        run_fold(*arguments, on_epoch_end=stop, checkpoints=tmp_path)
    records = run_fold(*arguments, checkpoints=tmp_path)
    assert [(e.phase, e.epoch) for e in records.epochs] == [(p, e) for p in ("search", "train") for e in (0, 1)]
    assert list(records.epochs[: len(before)]) == before
    assert all(np.isfinite(e.probabilities).all() for e in records.evaluations)


@pytest.mark.parametrize("system", ["emodarts", "cnn_lstm_attention"])
@pytest.mark.parametrize(
    "speed",
    [{"precision": "bfloat16"}, {"compile": "default"}, {"compile": "reduce-overhead", "precision": "bfloat16"}],
)
def test_bfloat16_and_compiled_steps_train_alike(demo, demo_store, tiny, system, speed):
    """Losses near those of the plain float32 steps; evaluation does not change its precision."""
    plain = replace(tiny, system=system, batches=BatchSettings(pad="repeat"))
    fast = replace(plain, search=replace(plain.search, **speed), training=replace(plain.training, **speed))
    units = [run_fold(demo_store, demo[2][0], settings, 3, DEVICE) for settings in (plain, fast)]
    for one, other in zip(*(unit.epochs for unit in units), strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, rel=0.1)
    assert all(e.probabilities.dtype == np.float32 for e in units[1].evaluations)
