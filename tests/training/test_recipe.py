"""Losses, mixup, and the sizes of the final network: what each setting of a training does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emodarts.features.batches import class_weights, training_batches, utterance_weights
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.networks import baselines
from emodarts.networks.costs import count_parameters
from emodarts.networks.network import NetworkShape
from emodarts.networks.sizes import time_stride
from emodarts.training.losses import TrainingLoss, mix_up
from emodarts.training.settings import TrainingSettings
from emodarts.training.train import TrainingState, TrainingTask, train
from tests.support.checkpoints import checkpoints_at
from tests.support.toys import noise, part

SHAPE = NetworkShape(3, 1, 16, 3, 1, 4, 1, 1, 8, 4, (1, 1), dropout=0.3)
FRAMES, _ = noise(24, frames=8, bins=16)
LABELS = np.repeat([0, 1, 2], [16, 6, 2])
TRAIN = part(FRAMES, LABELS)
LOGITS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])


def loss(**settings):
    return TrainingLoss(TrainingSettings(**settings), TRAIN, 3, "cpu")(LOGITS, TARGETS)


def test_cross_entropy_is_weighted_by_class():
    expected = F.cross_entropy(LOGITS, TARGETS, class_weights(TRAIN, 3), label_smoothing=0.1)
    assert torch.equal(loss(), expected)


def test_focal_loss_counts_less_what_is_right():
    torch.testing.assert_close(loss(loss="focal", focal_gamma=0.0), loss())
    p = LOGITS.softmax(1)[range(8), TARGETS]
    weights = class_weights(TRAIN, 3)[TARGETS]
    expected = (weights * (1 - p) ** 2 * -p.log()).sum() / weights.sum()
    torch.testing.assert_close(loss(loss="focal", label_smoothing=0.0), expected)


def test_logit_adjustment_adds_the_frequencies():
    """A network that predicts the classes' frequencies alone has logits that differ by nothing from zeros' loss."""
    log_priors = torch.tensor([16 / 24, 6 / 24, 2 / 24]).log()
    expected = F.cross_entropy(LOGITS + log_priors, TARGETS, label_smoothing=0.1)
    torch.testing.assert_close(loss(loss="logit_adjusted"), expected)


def test_mixtures_are_as_long_as_the_longer_and_depend_on_seed_and_step():
    lengths = torch.tensor([2, 5, 3, 4])
    inputs = torch.ones(4, 1, 2, 5) * (torch.arange(5) < lengths[:, None])[:, None, None]
    mixed, longer, others, first = mix_up(inputs, lengths, 0.4, 7, 3)
    assert 0 < first < 1
    assert longer.tolist() == torch.maximum(lengths, lengths[others]).tolist()
    torch.testing.assert_close(mixed, first * inputs + (1 - first) * inputs[others])
    assert (mixed.sum((1, 2)) > 0).sum(1).tolist() == longer.tolist()
    again, other = mix_up(inputs, lengths, 0.4, 7, 3), mix_up(inputs, lengths, 0.4, 7, 4)
    assert torch.equal(again[0], mixed)
    assert other[3] != first


def task(**settings):
    chosen = TrainingSettings(**{"epochs": 4, "batch_size": 8, "crop_seconds": 0.05, **settings})
    return TrainingTask(TRAIN, chosen, FeatureSettings(), BatchSettings(), seed=3)


def test_a_training_with_mixup_goes_on_bit_for_bit(tmp_path):
    def build():
        return baselines.build_network("linear_probe", SHAPE)

    whole = train(build, task(mixup=0.4), TRAIN)
    assert whole.epochs[0].train_loss != train(build, task(), TRAIN).epochs[0].train_loss
    checkpoints = checkpoints_at(tmp_path / "training.safetensors", {"seed": 3})

    def stop(record):
        if record.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(build, task(mixup=0.4), TRAIN, stop, checkpoints)
    resumed = train(build, task(mixup=0.4), TRAIN, checkpoints=checkpoints)
    assert [replace(e, seconds=0) for e in resumed.epochs] == [replace(e, seconds=0) for e in whole.epochs]


@pytest.mark.parametrize(("rate", "stride"), [(25, 2), (12.5, 4), (6.25, 8), (50, 1), (30, 2), (1, 8), (100, 1)])
def test_a_rate_is_the_nearest_stride(rate, stride):
    assert time_stride(50, rate) == stride


@pytest.mark.parametrize("system", ["cnn", "cnn_lstm", "cnn_lstm_attention"])
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_the_sequence_part_of_a_hand_designed_network_has_the_frames_of_the_rate(system, stride):
    for depth in (None, 1, 5):
        shape = replace(SHAPE, reductions=False, stem_strides=(8, stride), depth=depth)
        network = baselines.build_network(system, shape).eval()
        frames, lengths = network.convolutions(torch.randn(2, 1, 16, 64), torch.tensor([64, 64]))
        assert (frames.shape[1], lengths.tolist()) == (64 // stride, [64 // stride] * 2)


def test_depth_of_hand_designed_networks():
    def size(system, depth):
        return count_parameters(baselines.build_network(system, replace(SHAPE, depth=depth)))

    for system in ("cnn", "lstm", "cnn_lstm_attention"):
        assert size(system, None) == size(system, 3)
        assert size(system, 3) < size(system, 4) < size(system, 5)
    assert size("cnn", 1) < size("cnn", 2) < size("cnn", 3)
    assert len(baselines.build_network("cnn", replace(SHAPE, depth=5)).convolutions.blocks) == 5


def test_a_shape_keeps_its_form_where_nothing_is_new():
    assert '"depth"' not in SHAPE.to_json()
    assert '"reductions"' not in SHAPE.to_json()
    changed = replace(SHAPE, depth=4, reductions=False)
    assert NetworkShape.from_json(changed.to_json()) == changed
    assert changed.layout == "NNN"


def test_a_mixture_has_the_targets_of_both():
    made = task(mixup=0.4)
    state = TrainingState(lambda: baselines.build_network("linear_probe", replace(SHAPE, dropout=0.0)), made)
    batch = next(training_batches(TRAIN, 8, 8, np.random.default_rng(0), "cpu", BatchSettings()))
    mixed, lengths, others, first = mix_up(batch.inputs, batch.lengths, 0.4, made.seed, 0)
    logits = state.network(mixed, lengths)
    weights = class_weights(TRAIN, 3)
    own, partner = (
        F.cross_entropy(logits, t, weights, label_smoothing=0.1) for t in (batch.labels, batch.labels[others])
    )
    assert abs(float((own - partner).detach())) > 0.01, "their labels differ"
    torch.testing.assert_close(state.loss_of(batch), first * own + (1 - first) * partner)


@pytest.mark.parametrize("kind", ["focal", "logit_adjusted"])
def test_losses_with_a_weight_for_each_utterance(kind):
    """Where classes of corpora weigh the same, each loss keeps its own form."""
    batches = BatchSettings(loss_weights="class_and_corpus")
    positions = torch.tensor([0, 16, 22, 3, 17, 23, 1, 2])
    s = TrainingSettings(loss=kind, label_smoothing=0.0)
    found = TrainingLoss(s, TRAIN, 3, "cpu", batches)(LOGITS, TARGETS, positions)
    weights = torch.from_numpy(utterance_weights(TRAIN, batches).astype(np.float32))[positions]
    if kind == "focal":
        p = LOGITS.softmax(1)[range(8), TARGETS]
        expected = (weights * (1 - p) ** 2 * -p.log()).sum() / weights.sum()
    else:
        weights = weights / class_weights(TRAIN, 3)[TARGETS]
        log_priors = torch.tensor([16 / 24, 6 / 24, 2 / 24]).log()
        each = F.cross_entropy(LOGITS + log_priors, TARGETS, reduction="none")
        expected = (weights * each).sum() / weights.sum()
    torch.testing.assert_close(found, expected)
