"""What a sweep will take, told from a few epochs."""

import os
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from rich.console import Console

from emodarts.corpora.protocols.folds import check_fold
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.experiment.training_corpus import TrainingCorpus
from emodarts.search.settings import SearchSettings
from sweeps.data.sweep_data import SweepData
from sweeps.settings import Settings, SweepSettings
from sweeps.study.search_space import SearchSpace
from sweeps.variants import forecast

SPACE = {
    "search": {"channels": {"choices": [4, 8]}, "epochs": {"low": 2, "high": 12}},
    "training": {"width": {"low": 0.5, "high": 8.0}, "depth": {"low": 2, "high": 5}},
}


@pytest.fixture(scope="module")
def foretold(demo, demo_store, tiny, tmp_path_factory):
    """A function of the number of trials and of settings of the search, in a folder of its own.

    What was measured once for some settings is not measured again, whatever number of trials asks for it.
    """
    corpus, labels, folds = demo
    measures, measure = {}, forecast.measure

    def measure_once(settings, *given):
        if repr(settings) not in measures:
            measures[repr(settings)] = measure(settings, *given)
        return measures[repr(settings)]

    trained = TrainingCorpus(CorpusSettings(name="demo"), corpus, labels, folds, demo_store)
    data = SweepData((trained,), dict(enumerate(folds)), folds)

    @cache
    def measured(trials=4, seeds=1, system="emodarts", inner=0, group="search", **search):
        settings = Settings(
            corpus=CorpusSettings(name="demo"),
            features=tiny.features,
            search=SearchSettings(**{**tiny.search.__dict__, **search}),
            training=tiny.training,
            sweep=SweepSettings(trials=trials, seeds=seeds, space={group: SPACE[group]}, inner=inner),
            system=system,
        )
        (made,) = settings.systems.values()
        return forecast.forecast_units(settings, SearchSpace.of(settings, made), data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast, "measure", measure_once)
        patch.setattr(time, "perf_counter", time.process_time)  # other work on the machine takes none of it
        patch.setattr(forecast, "_SAMPLE_SIZE", 16)
        patch.chdir(tmp_path_factory.mktemp("forecast"))
        yield measured


@pytest.mark.slow
def test_hours_follow_units_and_slots(foretold):
    few, many = foretold(trials=4), foretold(trials=16, seeds=2)
    assert len(few.seconds) == 16
    assert len(many.seconds) == 16 * 4 + 4
    split = foretold(trials=16, seeds=2, inner=3)
    assert len(split.seconds) == 4 * (16 * 3 + 5 + 1), "trials on splits, five members on the folds' own parts, a seed"
    assert (few.seconds > 0).all()
    assert len(set(few.seconds.round(6))) > 4, "units of many epochs take longer than those of few"
    assert few.hours(1) > few.hours(2) > few.hours(8) >= few.hours(64)
    assert few.hours(1) * 3600 == pytest.approx(few.seconds.sum() + 10)
    assert few.hours(64) * 3600 == pytest.approx(few.seconds.max() + 10)
    console = Console(record=True, width=200)
    forecast.print_forecast("emodarts", many, console)
    told = console.export_text()
    assert "emodarts: 68 units" in told
    assert "this machine's CPU" in told


@pytest.mark.slow
def test_what_is_not_searched_is_foretold_too(foretold):
    searched, by_hand, machine = (foretold(system=s).seconds.mean() for s in ("emodarts", "cnn", "svm"))
    assert searched > by_hand > machine > 0
    assert searched > foretold(method="random_architecture").seconds.mean() > machine


@pytest.mark.slow
@pytest.mark.parametrize("system", ["cnn_lstm_attention", "emodarts:fixed"])
def test_larger_networks_are_foretold_to_take_longer(foretold, system):
    """Of 16 configurations that differ in width and depth alone, the dearest and the cheapest are measured."""
    seconds = foretold(system=system, group="training").seconds
    assert len(set(seconds.round(6))) > 4 or seconds.std() < 0.02 * seconds.mean()
    assert seconds.max() > 1.2 * seconds.min()


@pytest.mark.parametrize("system", ["emodarts", "emodarts:fixed", "cnn", "svm"])
def test_the_final_network_is_counted(demo, demo_store, tiny, system):
    """Its width and depth move its own multiply-accumulates, and not those of the supernet."""
    _, _, folds = demo
    data = forecast.NodeData(demo_store, dict(enumerate(folds)))
    given = Settings(features=tiny.features, search=tiny.search, training=tiny.training, system=system)
    (made,) = given.systems.values()
    plain, wide, deep = (
        forecast.macs_of(replace(made, training=replace(made.training, **change)), data)
        for change in ({}, {"width": 4.0}, {"depth": 4})
    )
    assert plain.supernet == wide.supernet == deep.supernet
    assert (plain.supernet > 0) == (system in ("emodarts", "emodarts:fixed"))
    if system == "svm":
        assert plain == wide == deep == forecast.Macs(0.0, 0.0)
    else:
        assert wide.network > 2 * plain.network > 0
        assert deep.network > plain.network


@pytest.mark.slow
def test_a_dearer_search_is_foretold_to_be_dearer(foretold):
    cheap, dear = foretold(optimisation="bilevel"), foretold(optimisation="bilevel", unrolled=True, nodes=2)
    assert dear.seconds.mean() > 1.5 * cheap.seconds.mean()


def test_two_levels_pass_half_of_train_for_each():
    """One model may foretell both, where a sweep chooses between them."""
    a_second_a_mac = forecast.Measured(search=((0.0, 0.0), (3.0, 3.0)), training=(3.0, 0.0), selection=0.0)
    model = forecast._TimeModel([a_second_a_mac])

    def seconds(**search):
        return model.seconds(
            FoldSettings(search=SearchSettings(epochs=10, warmup_epochs=4, **search)), forecast.Macs(2.0, 2.0)
        )

    assert seconds(optimisation="single") == 2 * 10
    assert seconds(optimisation="bilevel") == 2 * (4 / 2 + 6)
    assert seconds(optimisation="bilevel", unrolled=True) == 2 * (4 / 2 + 6 * 5 / 2)


def test_lines_have_no_negative_part():
    assert forecast._fit_line([(1.0, 3.0), (3.0, 7.0)]) == pytest.approx((1.0, 2.0))
    assert forecast._fit_line([(1.0, 1.0), (3.0, 9.0)])[0] == 0
    assert forecast._fit_line([(1.0, 3.0), (3.0, 1.0)]) == pytest.approx((2.0, 0.0))
    assert forecast._fit_line([(0.0, 2.0), (0.0, 4.0)]) == pytest.approx((3.0, 0.0))


def test_a_large_fold_is_measured_on_a_part_of_it(demo, monkeypatch):
    monkeypatch.setattr(forecast, "_MAX_UTTERANCES", 40)
    fold = demo[2][0]
    part = forecast.part_of(fold)
    check_fold(part)
    assert len(part.train) == 40
    assert set(part.train) < set(fold.train)
    assert set(part.dev) < set(fold.dev)
    assert len(part.dev) / len(fold.dev) == pytest.approx(40 / len(fold.train), abs=0.05)
    assert {part.labels[u] for u in part.train} == set(fold.classes)


def test_methods_without_a_supernet_are_refused(foretold):
    with pytest.raises(EmodartsError, match="has no supernet of alphas to measure"):
        foretold(method="random_search")


@pytest.mark.slow
def test_nothing_is_written(foretold):
    assert np.isfinite(foretold().memory_mb)
    assert not os.listdir()
