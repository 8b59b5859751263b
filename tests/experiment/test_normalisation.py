"""A unit of work by each normalisation: what its rows say, and what may not enter its statistics."""

from dataclasses import replace

import numpy as np
import pytest

from emodarts.experiment.evaluations import final_evaluations
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.stages import Architecture, hand_designed, predict, predict_part, refit
from emodarts.experiment.training_corpus import CrossCorpusTest
from emodarts.experiment.unit import run_fold
from emodarts.features.normalisation import Standardiser
from emodarts.features.store.store import Store
from emodarts.training import svm

RULES = ("speaker", "utterance", "speaker@2")
SYSTEMS = ("linear_probe", "svm", "emodarts")


def settings_of(tiny, rule, system="linear_probe"):
    return replace(tiny, system=system, features=replace(tiny.features, normalisation=rule))


def dev_side(records):
    """Everything a search, an epoch choice or an optimiser could have seen."""
    return (
        [(g.genotype_json, g.derived_at) for g in records.genotypes],
        [replace(e, seconds=0.0) for e in records.epochs],
        [(e.stage, e.probabilities.tobytes()) for e in records.evaluations if e.role == "dev"],
    )


def with_noise(monkeypatch, store, utterances):
    """From now on the store gives noise as the frames of these utterances, of the same lengths."""
    noisy, original = set(store.positions(utterances).tolist()), Store.read

    def read(self, position, variant=0):
        frames = original(self, position, variant)
        if position not in noisy:
            return frames
        rng = np.random.default_rng(position)
        return rng.normal(3, 5, frames.shape).astype(np.float16)

    monkeypatch.setattr(Store, "read", read)


def in_two(fold):
    """The fold with two speakers in its test part, who share its utterances."""
    ids = fold.tests["demo/test"]
    return replace(fold, speakers={**fold.speakers, **{u: f"demo/{'xy'[n % 2]}" for n, u in enumerate(ids)}})


@pytest.fixture(scope="module")
def by_train(fold, demo_store, tiny):
    """Units under the default normalisation, by system."""
    return {s: run_fold(demo_store, fold, settings_of(tiny, "train", s), seed=3) for s in SYSTEMS}


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("rule", RULES)
def test_rows_say_the_normalisation_and_test_audio_and_labels_change_nothing(
    fold, demo_store, tiny, by_train, monkeypatch, rule, system
):
    settings = settings_of(tiny, rule, system)
    records = run_fold(demo_store, fold, settings, seed=3)
    assert {e.role for e in records.evaluations} == {"dev", "test"}
    assert {e.normalisation for e in records.evaluations} == {rule}
    assert dev_side(by_train[system])[2] != dev_side(records)[2]
    test = fold.tests["demo/test"]
    shuffled = np.random.default_rng(0).permutation([fold.labels[u] for u in test]).tolist()
    permuted = replace(fold, labels={**fold.labels, **dict(zip(test, shuffled, strict=True))})
    again = run_fold(demo_store, permuted, settings, seed=3)
    assert dev_side(again) == dev_side(records)
    assert again.evaluations[-1].probabilities.tobytes() == records.evaluations[-1].probabilities.tobytes()
    with_noise(monkeypatch, demo_store, test)
    noisy = run_fold(demo_store, fold, settings, seed=3)
    assert dev_side(noisy) == dev_side(records)
    assert noisy.evaluations[-1].probabilities.tobytes() != records.evaluations[-1].probabilities.tobytes()


@pytest.mark.parametrize("rule", RULES)
def test_other_speakers_recordings_change_nothing_in_a_speakers_rows(fold, demo_store, tiny, monkeypatch, rule):
    fold = in_two(fold)
    test = fold.tests["demo/test"]
    data = FoldData.of(demo_store, fold, settings_of(tiny, rule, "cnn"))
    network = hand_designed(data).build()
    before = predict(data, network, test)
    is_x = np.array([fold.speakers[u] == "demo/x" for u in test])
    with_noise(monkeypatch, demo_store, [u for u in test if fold.speakers[u] == "demo/y"])
    after = predict(FoldData.of(demo_store, fold, settings_of(tiny, rule, "cnn")), network, test)
    assert after[is_x].tobytes() == before[is_x].tobytes()
    assert not np.allclose(after[~is_x], before[~is_x], atol=1e-3)


def test_own_recordings_do_change_a_speakers_rows(fold, demo_store, tiny, monkeypatch):
    """What would be missed if statistics were taken from anywhere else."""
    fold = in_two(fold)
    test = fold.tests["demo/test"]
    data = FoldData.of(demo_store, fold, settings_of(tiny, "speaker"))
    network = hand_designed(data).build()
    before = predict(data, network, test)
    with_noise(monkeypatch, demo_store, [test[0]])
    after = predict(FoldData.of(demo_store, fold, settings_of(tiny, "speaker")), network, test)
    changed = np.abs(after - before).max(1) > 1e-6
    assert changed.tolist() == [fold.speakers[u] == fold.speakers[test[0]] for u in test]


def test_a_search_on_a_part_of_train_has_the_whole_parts_statistics(fold, demo_store, tiny):
    settings = settings_of(tiny, "speaker", "emodarts")
    data = FoldData.of(demo_store, fold, replace(settings, search=replace(settings.search, subsample=20)))
    part, rows = data.part(data.search_fold.train), data.train.rows
    assert len(part.rows) == 20
    for position in part.rows[:5]:
        assert position in rows
        small, whole = (p.standardiser.statistics(np.array([position])) for p in (part, data.train))
        assert all(map(np.array_equal, small, whole))


def test_functionals_of_a_machine_are_of_standardised_frames(fold, demo_store, tiny):
    data = FoldData.of(demo_store, fold, settings_of(tiny, "utterance", "svm"))
    values = svm.functionals(data.dev)
    bins = demo_store.bins
    np.testing.assert_allclose(values[:, :bins], 0, atol=1e-5)
    assert np.isclose(values[:, bins:], 1, atol=1e-3).mean() > 0.99  # the others are at the floor
    assert values[:, bins:].max() < 1.001


@pytest.mark.parametrize("rule", ["speaker", "utterance", "speaker@2"])
def test_foreign_speakers_are_normalised_by_themselves_and_rows_of_test_stay(fold, demo_store, tiny, rule):
    ids = fold.tests["demo/test"]
    other = CrossCorpusTest("other/all", demo_store, ids, dict.fromkeys(ids, fold.classes[0]), fold.speakers)
    data = FoldData.of(demo_store, fold, settings_of(tiny, rule, "cnn"))
    network = hand_designed(data).build()

    def predictions(part):
        return predict_part(data, network, part)

    _, test, own, by_test = final_evaluations(data, predictions, True, [other])
    assert [(e.role, e.normalisation) for e in (test, own, by_test)] == [
        ("test", rule),
        ("cross", rule),
        ("cross", "test"),
    ]
    assert own.probabilities.tobytes() == test.probabilities.tobytes()
    assert own.probabilities.tobytes() != by_test.probabilities.tobytes()


def test_a_refit_takes_all_of_each_speaker(fold, demo_store, tiny, monkeypatch):
    data = FoldData.of(demo_store, fold, settings_of(tiny, "speaker"))
    everything, parts = (*fold.train, *fold.dev, *fold.test_ids), []
    monkeypatch.setattr("emodarts.training.train.refit", lambda build, task, *rest: parts.append(task.part) or build())
    _, standardiser = refit(data, Architecture(hand_designed(data).shape, None, "linear_probe"), everything, 1)
    (part,) = parts
    assert np.array_equal(standardiser.mean, Standardiser.fit(demo_store, everything).mean)
    speaker = fold.speakers[fold.test_ids[0]]
    own = Standardiser.fit(demo_store, [u for u in everything if fold.speakers[u] == speaker])
    mean, deviation = part.standardiser.statistics(demo_store.positions([fold.test_ids[0]]))
    assert np.array_equal(mean.reshape(-1), own.mean)
    np.testing.assert_allclose(deviation.reshape(-1), own.deviation, rtol=1e-6)
