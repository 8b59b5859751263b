"""Tallies and intervals over speakers, against scikit-learn, scipy, confidence-intervals and what they promise."""

import time

import numpy as np
import pyarrow as pa
import pytest
from confidence_intervals import evaluate_with_conf_int
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.metrics import confusion_matrix

from emodarts.errors import EmodartsError
from emodarts.results.statistics import (
    Tally,
    chance,
    compute_metrics,
    interval,
    majority,
    pooled,
    spread,
)
from emodarts.results.statistics.estimates import Bootstrap, Estimate, SignedTallies
from tests.support.statistics import METRICS, by_scikit_learn, predictions


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_a_tally_has_scikit_learns_figures_and_confusion_matrix(rows):
    speakers, labels, predicted = (np.array(column) for column in zip(*rows, strict=True))
    tally = Tally.of(speakers, labels, predicted, 4)
    np.testing.assert_array_equal(tally.confusion(), confusion_matrix(labels, predicted, labels=range(4)))
    for metric in METRICS:
        assert tally.value(metric) == pytest.approx(by_scikit_learn(metric, labels, predicted))
    assert [getattr(compute_metrics(tally.confusion()), m) for m in METRICS] == [tally.value(m) for m in METRICS]


@pytest.mark.parametrize("metric", METRICS)
def test_a_resample_is_scikit_learns_figure_of_speakers_counted_so_often(metric):
    rng = np.random.default_rng(7)
    names, labels, predicted = predictions(rng, speakers=5, utterances=9, classes=4)
    labels[names == "s003"] = 3  # one speaker with a single class; the other classes are missing for him
    weights = rng.multinomial(5, [0.2] * 5, size=30)
    found = Estimate.of(metric, SignedTallies((Tally.of(names, labels, predicted, 5),))).at(weights)
    rows = np.unique(names, return_inverse=True)[1]
    np.testing.assert_allclose(found, [by_scikit_learn(metric, labels, predicted, w[rows]) for w in weights])


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_of_few_speakers_is_the_jackknife_written_out(metric):
    names, labels, predicted = predictions(np.random.default_rng(0))
    found = interval([Tally.of(names, labels, predicted, 3)], metric)
    assert found.value == pytest.approx(by_scikit_learn(metric, labels, predicted))
    others = [names != s for s in sorted(set(names))]
    without = np.array([by_scikit_learn(metric, labels[o], predicted[o]) for o in others])
    error = np.sqrt(7 / 8 * np.sum((without - without.mean()) ** 2))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 7) * error)
    assert found.value - found.low == pytest.approx(found.high - found.value)


@pytest.mark.parametrize(("speakers", "level"), [(2, 0.95), (10, 0.8)])
def test_the_wars_interval_of_speakers_of_one_size_is_students(speakers, level):
    names, labels, predicted = predictions(np.random.default_rng(8), speakers=speakers)
    found = interval([Tally.of(names, labels, predicted, 3)], "war", level)
    expected = stats.ttest_1samp((labels == predicted).reshape(speakers, -1).mean(1), 0).confidence_interval(level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_of_many_speakers_is_scipys_percentile_bootstrap(metric):
    names, labels, predicted = predictions(np.random.default_rng(9), speakers=40, utterances=10)
    labels, predicted = labels.reshape(40, 10), predicted.reshape(40, 10)

    def figure(drawn):
        return by_scikit_learn(metric, labels[drawn].ravel(), predicted[drawn].ravel())

    expected = stats.bootstrap(
        (np.arange(40),), figure, vectorized=False, n_resamples=600, method="percentile", rng=np.random.default_rng(0)
    )
    found = interval([Tally.of(names, labels.ravel(), predicted.ravel(), 3)], metric)
    limits = (expected.confidence_interval.low, expected.confidence_interval.high)
    # Monte-Carlo error of a limit from 600 resamples: .11 standard errors
    assert (found.low, found.high) == pytest.approx(limits, abs=0.3 * expected.standard_error)


@pytest.mark.slow
def test_the_interval_of_many_speakers_is_that_of_confidence_intervals():
    names, labels, predicted = predictions(np.random.default_rng(10), speakers=60, utterances=10)
    by_speaker = np.stack([labels.reshape(60, 10), predicted.reshape(60, 10)], axis=1)

    def figure(drawn):
        return by_scikit_learn("uar", drawn[:, 0].ravel(), drawn[:, 1].ravel())

    value, (low, high) = evaluate_with_conf_int(by_speaker, figure, num_bootstraps=600)
    found = interval([Tally.of(names, labels, predicted, 3)])
    assert found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.3 * (high - low) / 4)


def test_bootstrap_draws_as_many_speakers_as_there_are_in_parts_of_any_size(monkeypatch):
    tally = Tally.of(*predictions(np.random.default_rng(11), speakers=40, utterances=6), 3)
    estimate = Estimate.of("war", SignedTallies((tally,)))
    values = Bootstrap.of(estimate, 20_000, 0).values
    hits = np.trace(tally.counts, axis1=1, axis2=2) / 6
    assert values.mean() == pytest.approx(hits.mean(), abs=0.001)
    assert values.std() == pytest.approx(hits.std() / np.sqrt(40), rel=0.03)
    monkeypatch.setattr("emodarts.results.statistics.estimates._AT_ONCE", 700)
    assert Bootstrap.of(estimate, 33, 0).values.shape == (33,)
    np.testing.assert_array_equal(Bootstrap.of(estimate, 33, 4).values, Bootstrap.of(estimate, 33, 4).values)
    assert not np.array_equal(Bootstrap.of(estimate, 33, 4).values, Bootstrap.of(estimate, 33, 5).values)
    assert (np.diff(values) >= 0).all()


def test_twenty_nine_speakers_take_the_jackknife_and_thirty_the_bootstrap():
    for speakers, symmetric in ((29, True), (30, False)):
        tally = Tally.of(*predictions(np.random.default_rng(15), speakers=speakers), 3)
        found = interval([tally])
        assert (found.high - found.value == pytest.approx(found.value - found.low, rel=1e-9)) is symmetric


def test_level_number_of_resamples_and_seed_reach_the_bootstrap():
    tally = Tally.of(*predictions(np.random.default_rng(16), speakers=40), 3)
    estimate = Estimate.of("war", SignedTallies((tally,)))
    found = interval([tally], "war", 0.8, 199, 3)
    assert (found.low, found.high) == Bootstrap.of(estimate, 199, 3).limits(0.8)
    assert interval([tally], "uar", 0.8) == interval([tally], level=0.8) != interval([tally])


def test_intervals_of_ten_speakers_cover_what_they_promise():
    """Nominal .95; 400 draws of 10 speakers: two standard errors are .022."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        found = interval([Tally.of(*predictions(rng, speakers=10, skill=0.6, spread=0.1), 3)])
        inside += found.low <= 0.6 <= found.high
    assert 0.92 <= inside / 400 <= 0.98


def test_a_cross_figure_is_the_mean_over_fold_models_that_are_left_out_together():
    rng = np.random.default_rng(12)
    names, labels, first = predictions(rng)
    models = [first, np.where(rng.random(labels.size) < 0.3, labels, first)]
    found = interval([Tally.of(names, labels, p, 3) for p in models])
    assert found.value == pytest.approx(np.mean([by_scikit_learn("uar", labels, p) for p in models]))
    others = [names != s for s in sorted(set(names))]
    without = np.array([np.mean([by_scikit_learn("uar", labels[o], p[o]) for p in models]) for o in others])
    error = np.sqrt(7 / 8 * np.sum((without - without.mean()) ** 2))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 7) * error)


def test_a_class_that_only_one_speaker_has_is_left_out_with_him():
    tally = Tally.of(["a", "a", "b", "b"], [0, 1, 0, 0], [0, 0, 0, 1], 3)
    assert tally.uar() == pytest.approx((2 / 3 + 0) / 2)
    without_each = Estimate.of("uar", SignedTallies((tally,))).at(1 - np.eye(2))
    np.testing.assert_allclose(without_each, [0.5, 0.5])


def test_one_speaker_has_no_interval_and_two_have_one():
    one = interval([Tally.of(["a", "a"], [0, 1], [0, 0], 2)])
    assert one.value == 0.5
    assert np.isnan([one.low, one.high]).all()
    two = interval([Tally.of(["a", "a", "b", "b"], [0, 1, 0, 1], [0, 0, 0, 1], 2)])
    assert (two.value, two.high) == pytest.approx((0.75, 0.75 + stats.t.ppf(0.975, 1) * 0.25))


def test_other_speakers_other_classes_and_nothing_are_refused():
    one = Tally.of(["a"], [0], [0], 2)
    for tallies, told in (
        ([one, Tally.of(["b"], [0], [0], 2)], "same speakers"),
        ([one, Tally.of(["a"], [0], [0], 3)], "number of classes"),
        ([], "needs predictions"),
        ([Tally.of([], [], [], 2)], "needs predictions"),
    ):
        with pytest.raises(EmodartsError, match=told):
            interval(tallies)
    for label, predicted in ((2, 0), (-1, 0), (0, 2), (0, -1)):
        with pytest.raises(ValueError, match="class index"):
            Tally.of(["a"], [label], [predicted], 2)
    with pytest.raises(ValueError, match="2 speakers, 1 labels"):
        Tally.of(["a", "b"], [1], [0], 2)


def test_rows_of_the_predictions_table_are_counted_and_wrong_ones_named():
    columns = {"speaker": ["b", "a", "b"], "label": ["sad", None, "happy"], "predicted": ["sad", "sad", "sad"]}
    tally = Tally.of_table(pa.table(columns), ["happy", "sad"])
    assert tally.speakers == ("b",)  # the labels of the other's utterance are not public
    np.testing.assert_array_equal(tally.counts, [[[0, 1], [0, 1]]])
    with pytest.raises(EmodartsError, match="label happy is none of the classes angry, sad"):
        Tally.of_table(pa.table(columns), ["angry", "sad"])
    unlabelled = pa.table({"speaker": ["b", None], "label": ["sad", None], "predicted": ["sad", "sad"]})
    assert Tally.of_table(unlabelled, ["happy", "sad"]).speakers == ("b",)
    nameless = pa.table({"speaker": [None], "label": ["sad"], "predicted": ["sad"]})
    with pytest.raises(EmodartsError, match="without a speaker"):
        Tally.of_table(nameless, ["happy", "sad"])


def test_folds_are_pooled_by_speaker():
    folds = [Tally.of(["b", "c"], [0, 1], [0, 1], 2), Tally.of(["a", "b"], [1, 1], [0, 1], 2)]
    together = Tally.of(["b", "c", "a", "b"], [0, 1, 1, 1], [0, 1, 0, 1], 2)
    assert pooled(folds).speakers == together.speakers
    np.testing.assert_array_equal(pooled(folds).counts, together.counts)
    with pytest.raises(ValueError, match="nothing to pool"):
        pooled([])


def test_a_thousand_resamples_of_a_hundred_thousand_predictions_take_less_than_two_seconds():
    rng = np.random.default_rng(13)
    names, labels, predicted = predictions(rng, speakers=1_000, utterances=100, classes=8)
    begin = time.perf_counter()
    interval([Tally.of(names, labels, predicted, 8)], resamples=1_000)
    assert time.perf_counter() - begin < 2


def test_the_majority_baseline_is_scikit_learns():
    labels = np.array([0, 1, 1, 2, 2, 2])
    tally = Tally.of(["a", "a", "b", "b", "b", "b"], labels, labels, 4)
    for training in (None, [5, 9, 9, 0]):
        seen = labels if training is None else np.repeat(np.arange(4), training)
        guessed = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(seen), 1)), seen).predict(labels[:, None])
        for metric in METRICS:
            assert majority(tally, training).value(metric) == pytest.approx(by_scikit_learn(metric, labels, guessed))
    with pytest.raises(ValueError, match="3 class sizes for 4 classes"):
        majority(tally, [1, 2, 3])


def test_chance_is_what_guessing_comes_to():
    labels = np.repeat([0, 1, 2], [600, 300, 2_100])
    tally = Tally.of(["a"] * 3_000, labels, labels, 4)
    guesses = np.random.default_rng(14).integers(4, size=(50, 3_000))
    for metric in METRICS:
        expected = np.mean([by_scikit_learn(metric, labels, g) for g in guesses])
        assert chance(tally).value(metric) == pytest.approx(expected, abs=0.005)
    assert (chance(tally).uar(), chance(tally).value("war")) == pytest.approx((0.25, 0.25))


def test_spread_is_mean_and_sample_deviation():
    found = spread([0.5, 0.6, 0.8])
    assert (found.mean, found.deviation, found.n) == pytest.approx((19 / 30, np.sqrt(7 / 300), 3))
    assert spread([0.5, 0.6]).deviation == pytest.approx(np.sqrt(0.005))
    assert np.isnan(spread([0.5]).deviation)
    with pytest.raises(ValueError, match="nothing"):
        spread([])
