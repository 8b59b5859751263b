"""Weight averaging of the last quarter, and the published schedule, on small networks and features in memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.networks import baselines
from emodarts.networks.network import NetworkShape
from emodarts.networks.operations import RunningStatistics
from emodarts.training.prediction import dev_figures, predict
from emodarts.training.settings import TrainingSettings
from emodarts.training.train import TrainingState, TrainingTask, refit, train
from tests.support.checkpoints import checkpoints_at
from tests.support.toys import noise, part

SHAPE = NetworkShape(3, 1, 4, 1, 1, 4, 1, 1, 8, 4, (1, 1), dropout=0.3)
SETTINGS = TrainingSettings(epochs=8, batch_size=8, averaging="late", crop_seconds=0.05, drop_path=0.0)
FRAMES, LABELS = noise(48, frames=8)
TRAIN, DEV = part(FRAMES[:32], LABELS[:32]), part(FRAMES[32:], LABELS[32:])


def build(system="cnn_lstm_attention"):
    return lambda: baselines.build_network(system, SHAPE)


def task(**settings):
    return TrainingTask(TRAIN, replace(SETTINGS, **settings), FeatureSettings(), BatchSettings(), seed=3)


def weights_after_epochs(given, system="cnn_lstm_attention"):
    """The parameters after each epoch of the same training without averaging."""
    seen, state = [], TrainingState(build(system), replace(given, settings=replace(given.settings, averaging="none")))
    state.run(given.settings.epochs, lambda _: seen.append({n: p.clone() for n, p in state.network.named_parameters()}))
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("system", ["cnn", "lstm", "cnn_lstm_attention"])
def test_the_network_has_the_mean_of_the_late_epochs_weights(system):
    trained = train(build(system), task(), DEV)
    late = weights_after_epochs(task(), system)[6:]
    assert trained.epoch == 7
    for name, parameter in trained.network.named_parameters():
        torch.testing.assert_close(parameter, (late[0][name] + late[1][name]) / 2)
    assert any(not torch.equal(late[0][name], late[1][name]) for name in late[0])


@pytest.mark.slow
def test_the_record_of_the_last_epoch_is_of_the_mean():
    trained = train(build(), task(), DEV)
    figures, record = dev_figures(trained.network, DEV, 8), trained.epochs[trained.epoch]
    assert (record.dev_uar, record.dev_loss) == (figures.uar, figures.loss)
    plain = train(build(), task(averaging="none"), DEV).epochs
    assert [replace(e, seconds=0) for e in trained.epochs[:7]] == [replace(e, seconds=0) for e in plain[:7]]
    assert trained.epochs[7].train_loss == plain[7].train_loss
    assert trained.epochs[7].dev_loss != plain[7].dev_loss


def test_batch_statistics_are_those_of_the_mean_over_the_train_part():
    """With one batch of all of train: the first norm's statistics are those of its input there."""
    network = train(build("cnn"), task(batch_size=32), DEV).network
    norm, convolution = network.convolutions.stem.norms[0], network.convolutions.stem.layers[0]
    x = torch.tensor(np.stack([TRAIN.store.read(row) for row in TRAIN.rows]), dtype=torch.float32)
    values = convolution(x.transpose(1, 2)[:, None])
    torch.testing.assert_close(norm.running_mean, values.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(norm.running_var, values.var((0, 2, 3)), atol=1e-5, rtol=1e-4)
    assert {norm.momentum for norm in network.modules() if isinstance(norm, RunningStatistics)} == {0.1}


def test_dev_chooses_nothing():
    """Another dev part leaves every bit of the network as it is."""
    first = train(build(), task(), DEV).network.state_dict()
    other = train(build(), task(), part(FRAMES[32:40], LABELS[32:40])).network.state_dict()
    assert all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.slow
def test_a_refit_to_the_last_epoch_averages_as_well():
    refitted = refit(build(), task(), 8)
    assert np.array_equal(predict(refitted, DEV, 8), predict(train(build(), task(), DEV).network, DEV, 8))


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [3, 6, 7])
def test_a_training_that_was_stopped_goes_on_bit_for_bit(tmp_path, stop_at):
    def stop(record):
        if record.epoch == stop_at:
            raise KeyboardInterrupt

    whole = train(build(), task(), DEV)
    checkpoints = checkpoints_at(tmp_path / "training.safetensors", {"seed": 3})
    with pytest.raises(KeyboardInterrupt):
        train(build(), task(), DEV, stop, checkpoints)
    resumed = train(build(), task(), DEV, checkpoints=checkpoints)
    states = whole.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert [replace(e, seconds=0) for e in resumed.epochs] == [replace(e, seconds=0) for e in whole.epochs]


def test_the_published_schedule_is_sgd_on_a_cosine():
    settings = {"optimiser": "sgd", "schedule": "cosine", "learning_rate": 0.025, "final_learning_rate": 0.001}
    state = TrainingState(build(), task(averaging="none", weight_decay=3e-4, **settings))
    rates = [state.schedule.get_last_lr()[0]]
    state.run(8, lambda _: rates.append(state.schedule.get_last_lr()[0]))
    assert rates == pytest.approx([0.001 + 0.024 * (1 + np.cos(np.pi * epoch / 8)) / 2 for epoch in range(9)])
    (group,) = state.optimiser.param_groups
    assert (type(state.optimiser), group["momentum"], group["weight_decay"]) == (torch.optim.SGD, 0.9, 3e-4)


def test_one_cycle_with_sgd_leaves_the_momentum_alone():
    state = TrainingState(build(), task(optimiser="sgd", momentum=0.5))
    state.run(2, lambda _: None)
    assert state.optimiser.param_groups[0]["momentum"] == 0.5
