"""Intervals over speakers, against scikit-learn and against what they promise."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import recall_score

from emodarts.errors import EmodartsError
from emodarts.results.statistics import Tally, uar_difference, uar_interval


def predictions(rng, speakers=8, utterances=25, classes=3, skill=0.6, spread=0.15):
    """A system that is right with a probability of each speaker's own, on the same utterances for one seed."""
    names = np.repeat([f"s{i}" for i in range(speakers)], utterances)
    labels = np.tile(rng.integers(classes, size=utterances), speakers)
    right = rng.random(labels.size) < np.repeat(np.clip(rng.normal(skill, spread, speakers), 0, 1), utterances)
    return names, labels, np.where(right, labels, (labels + 1) % classes)


def uar(labels, predicted):
    return recall_score(labels, predicted, average="macro")


def test_the_interval_is_the_jackknife_written_out():
    names, labels, predicted = predictions(np.random.default_rng(0))
    found = uar_interval([Tally.of(names, labels, predicted, 3)])
    assert found.value == pytest.approx(uar(labels, predicted))
    without = [uar(labels[names != s], predicted[names != s]) for s in sorted(set(names))]
    error = np.sqrt(7 / 8 * np.sum((np.array(without) - np.mean(without)) ** 2))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 7) * error)
    assert found.value - found.low == pytest.approx(found.high - found.value)


def test_a_class_that_only_one_speaker_has_is_left_out_with_him():
    tally = Tally.of(["a", "a", "b", "b"], [0, 1, 0, 0], [0, 0, 0, 1], 3)
    np.testing.assert_allclose(tally.uar_without_each(), [0.5, 0.5])
    assert tally.uar() == pytest.approx((2 / 3 + 0) / 2)


def test_intervals_of_ten_speakers_cover_what_they_promise():
    """Nominal .95; 400 draws of 10 speakers: two standard errors are .022."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        found = uar_interval([Tally.of(*predictions(rng, speakers=10, skill=0.6, spread=0.1), 3)])
        inside += found.low <= 0.6 <= found.high
    assert 0.92 <= inside / 400 <= 0.98


def test_a_difference_is_paired_and_averaged_over_seeds():
    rng = np.random.default_rng(2)
    names, labels, predicted = predictions(rng, spread=0.3)
    better = np.where(rng.random(labels.size) < 0.2, labels, predicted)
    ours, theirs = Tally.of(names, labels, better, 3), Tally.of(names, labels, predicted, 3)
    found = uar_difference([ours, theirs], [theirs])
    assert found.value == pytest.approx((uar(labels, better) - uar(labels, predicted)) / 2)
    assert found.low > 0  # speakers differ by far more than the systems do: unpaired it would be lost
    apart = uar_interval([ours])
    assert found.high - found.low < (apart.high - apart.low) / 2
    same = uar_difference([ours], [ours])
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_other_speakers_are_refused_and_one_speaker_has_no_interval():
    one, other = Tally.of(["a"], [0], [0], 2), Tally.of(["b"], [0], [0], 2)
    with pytest.raises(EmodartsError, match="same speakers"):
        uar_difference([one], [other])
    assert np.isnan(uar_interval([one]).low)
