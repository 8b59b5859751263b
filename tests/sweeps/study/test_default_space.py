"""The default dimensions: none of them is dead, and searched networks and those designed by hand have as many."""

from dataclasses import replace

import pytest

from emodarts.corpora.protocols.folds import Fold
from emodarts.experiment.fold_data import FoldSettings
from emodarts.experiment.train_parts import subsample
from emodarts.experiment.unit import run_fold
from emodarts.features.settings import FeatureSettings
from emodarts.search.settings import SearchSettings
from emodarts.training.settings import TrainingSettings
from sweeps.settings import SweepSettings
from sweeps.study.search_space import SearchSpace
from tests.support.commands import settings

SYSTEMS = ("emodarts", "emodarts:fixed", "emodarts:random_search:joint", "cnn_lstm_attention", "lstm", "svm")
SHARED = {
    "training.width", "training.depth", "training.learning_rate", "training.weight_decay", "training.batch_size",
    "training.dropout", "training.label_smoothing", "training.mixup", "training.loss", "batches.time_masks",
    "batches.frequency_masks",
}  # fmt: skip


@pytest.fixture(scope="module")
def spaces():
    """Each system's space with every dimension of the default file free."""
    given = settings(f"system=[{','.join(SYSTEMS)}]")
    files = (given.sweep.space, given.sweep.bounds)
    names = [f"{group}.{name}" for groups in files for group, dims in groups.items() for name in dims]
    sweep = SweepSettings(dimensions=names, space=given.sweep.space, bounds=given.sweep.bounds)
    every = replace(given, sweep=sweep)
    return {name: SearchSpace.of(every, system) for name, system in every.systems.items()}


@pytest.fixture(scope="module")
def small_fold(demo):
    """Sixteen utterances of train, and about eight of dev."""
    fold: Fold = demo[2][0]
    return replace(fold, train=subsample(fold, 16).ids, dev=fold.dev[:: max(1, len(fold.dev) // 8)])


def other_value(distribution, present):
    """A value of the dimension that is not the present one."""
    if hasattr(distribution, "choices"):
        return next(choice for choice in distribution.choices if choice != present)
    return next(value for value in (distribution.high, distribution.low) if value != present)


def figures(records):
    """All that the settings of a unit may change, but seconds."""
    epochs = [replace(epoch, seconds=0.0) for epoch in records.epochs]
    return (
        epochs,
        [e.probabilities.tobytes() for e in records.evaluations],
        [g.genotype_json for g in records.genotypes],
    )


CHEAP = {"search.seqnn": "rnn", "search.epochs": 1, "search.cells": 3, "training.depth": 4}
TINY = FoldSettings(
    FeatureSettings(n_mels=32),
    SearchSettings(
        epochs=2, warmup_epochs=0, cells=2, nodes=2, channels=4, sequence_width=8, stem_channels=4, crop_seconds=0.3,
        sequence_operations=["none", "skip_connect", "lstm_1", "rnn_1"],
    ),
    TrainingSettings(epochs=1, batch_size=4, channels=4, sequence_width=8, crop_seconds=0.3),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("system", [name for name in SYSTEMS if "random_search" not in name])
def test_no_dimension_is_dead(spaces, demo_store, small_fold, system):
    """Another value of each, all else being equal, gives other figures on dev."""
    space = spaces[system if system in spaces else f"{system}:joint"]
    base = replace(
        TINY,
        system=space.settings.system,
        search=replace(TINY.search, method=space.settings.search.method, scope=space.settings.search.scope),
    )
    before = figures(run_fold(demo_store, small_fold, base, seed=1, tests=False))
    own, dead = replace(space, settings=base, fixed={}), []
    for path, distribution in space.free.items():
        choice = CHEAP.get(path) or other_value(distribution, base.value_of(path))
        after = figures(run_fold(demo_store, small_fold, own.apply({path: choice}), seed=1, tests=False))
        if after == before:
            dead.append(path)
    assert not dead


def test_systems_that_are_compared_have_the_same_dimensions(spaces):
    shared = SHARED | {"training.sequence_rate"}
    for name in ("emodarts", "emodarts:fixed:joint", "emodarts:random_search:joint", "cnn_lstm_attention"):
        assert shared <= set(spaces[name].free), name
    assert set(spaces["cnn_lstm_attention"].free) == shared
    assert set(spaces["lstm"].free) == SHARED  # no convolution reduces time
    assert set(spaces["svm"].free) == {"training.svm_penalty"}


def test_eight_dimensions_are_free_by_default():
    given = settings(f"system=[{','.join(SYSTEMS)}]")
    spaces = {name: SearchSpace.of(given, system) for name, system in given.systems.items()}
    for name in ("emodarts", "emodarts:fixed:joint", "emodarts:random_search:joint", "cnn_lstm_attention"):
        assert len(spaces[name].free) == 8, name
    assert len(spaces["lstm"].free) == 7
    preset = spaces["emodarts"].default_parameters()
    assert spaces["emodarts"].apply(preset) == replace(
        given.systems["emodarts"], training=replace(given.training, depth=given.search.cells)
    )


def layer_users(*given):
    """The systems whose studies have the encoder's layer as a dimension."""
    encoder = ["features=whisper", "features.model=an/encoder", "features.frames_per_second=25"]
    named = "sweep.dimensions=[training.width,training.layer,training.svm_penalty]"
    made = settings(f"system=[{','.join(SYSTEMS)},linear_probe]", named, *encoder, *given)
    spaces = {name: SearchSpace.of(made, system) for name, system in made.systems.items()}
    assert all(space.default_parameters().get("training.layer", None) is None for space in spaces.values())
    return {name for name, space in spaces.items() if "training.layer" in space.free}


def test_the_layer_of_an_encoder_is_a_dimension_of_every_system_that_would_weigh_them():
    every = {name if name != "emodarts:fixed" else "emodarts:fixed:joint" for name in (*SYSTEMS, "linear_probe")}
    assert layer_users("features.layers=learned") == every
    designed = {name for name in every if not name.startswith("emodarts")}
    assert layer_users("features.layers=learned", "search=frames") == designed, "the search itself chooses layers"
    assert not layer_users("features.layers=2")


def test_functionals_of_a_recording_have_no_dimensions_over_time():
    made = settings(f"system=[{','.join(SYSTEMS)}]", "features=egemaps")
    for name, system in made.systems.items():
        assert not {"training.sequence_rate", "batches.time_masks"} & set(SearchSpace.of(made, system).free), name
