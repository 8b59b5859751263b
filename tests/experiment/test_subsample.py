"""The part of train that a search sees: seeded, stratified, named."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emodarts.errors import EmodartsError
from emodarts.experiment import stages
from emodarts.experiment.fold_settings import subsample_name
from emodarts.experiment.train_parts import split_train_part, subsample
from emodarts.experiment.unit import run_fold
from emodarts.search.settings import SearchSettings


def fold_of(counts, order=None):
    """A fold's train part with so many utterances of each class."""
    labels = {f"c/{name}{i:03d}": name for name, count in counts.items() for i in range(count)}
    ids = list(labels)
    if order is not None:
        ids = np.random.default_rng(order).permutation(ids).tolist()
    return SimpleNamespace(protocol="c/official", index=0, train=tuple(ids), labels=labels)


COUNTS = {"angry": 40, "happy": 30, "neutral": 120, "sad": 2}


def test_classes_keep_their_proportions_and_at_least_two():
    chosen = subsample(fold_of(COUNTS), 50)
    assert Counter(u[2:-3] for u in chosen.ids) == {"angry": 10, "happy": 8, "neutral": 30, "sad": 2}
    assert len(set(chosen.ids)) == 50


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(2, 60), min_size=1),
    st.integers(0, 400),
    st.integers(0, 3),
)
def test_any_size_is_met_exactly(counts, extra, seed):
    fold, size = fold_of(counts), 2 * len(counts) + extra
    chosen = subsample(fold, size, seed)
    found = Counter(u[2:-3] for u in chosen.ids)
    assert sum(found.values()) == len(set(chosen.ids)) == min(size, len(fold.train))
    assert set(chosen.ids) <= set(fold.train)
    assert set(found) == set(counts)
    assert min(found.values()) >= 2
    total = len(fold.train)
    for name, count in counts.items():  # one more or less, and what classes lifted to 2 took
        assert found[name] <= min(size, total) * count / total + 2


def test_the_draw_depends_on_ids_size_and_seed_alone():
    first = subsample(fold_of(COUNTS), 50, 1)
    assert subsample(fold_of(COUNTS, order=3), 50, 1) == first
    assert first.ids == tuple(sorted(first.ids))
    assert subsample(fold_of(COUNTS), 50, 2).ids != first.ids
    # kept: results name their subsample, and a later version must draw the same
    assert first.name == "50@1:9ba58bf0"


def test_all_of_train_has_no_name():
    fold = fold_of(COUNTS)
    for size in (192, 10_000):
        assert subsample(fold, size) == subsample(fold, 500)
        assert subsample(fold, size).ids == tuple(sorted(fold.train))
        assert subsample(fold, size).name is None
    assert subsample(fold, 191).name is not None


def test_too_small_ones_are_refused():
    with pytest.raises(EmodartsError, match=r"search.subsample=7: c/official fold 0 has 4 classes .* 8 or more"):
        subsample(fold_of(COUNTS), 7)
    with pytest.raises(EmodartsError, match=r"sad has not"):
        subsample(fold_of({**COUNTS, "sad": 1}), 50)
    with pytest.raises(EmodartsError, match=r"search.subsample=3 is out of range"):
        SearchSettings(subsample=3)


def test_a_small_one_still_gives_both_halves_every_class(demo):
    fold = demo[2][0]
    chosen = subsample(fold, 8)
    for half in split_train_part(replace(fold, train=chosen.ids), seed=0):
        assert {fold.labels[u] for u in half} == set(fold.classes)


@pytest.mark.slow
def test_the_search_sees_the_subsample_and_the_training_all(demo, demo_store, tiny, monkeypatch):
    fold = demo[2][0]
    settings = replace(tiny, search=replace(tiny.search, subsample=40, subsample_seed=7))
    searched, trained = [], []
    run_search, train = stages.run_search, stages.training.train

    def spy_search(task, *rest):
        searched.append(sorted({*task.weight_part.utterances, *task.alpha_part.utterances}))
        return run_search(task, *rest)

    def spy_train(build, task, *rest):
        trained.append(sorted(task.part.utterances))
        return train(build, task, *rest)

    monkeypatch.setattr(stages, "run_search", spy_search)
    monkeypatch.setattr(stages.training, "train", spy_train)
    run_fold(demo_store, fold, settings, seed=1)
    run_fold(demo_store, fold, settings, seed=2)
    chosen = subsample(fold, 40, 7)
    assert searched == [list(chosen.ids)] * 2  # whatever the trial's seed
    assert trained == [sorted(fold.train)] * 2
    assert subsample_name(fold, settings) == chosen.name
    assert subsample_name(fold, tiny) is None
