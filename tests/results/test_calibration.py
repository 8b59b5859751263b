"""Calibration, computed again with scikit-learn, scipy and plain loops."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss, recall_score

from emodarts import metrics
from emodarts.results.statistics import brier_score, coverage_curve, fit_temperature, reliability, with_temperature

CLASSES, N = 4, 600


def softmax(logits):
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def data():
    """Labels drawn from probabilities, then shown by a system that is twice as sure as it may be."""
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(N, CLASSES)) * 1.2
    labels = np.array([rng.choice(CLASSES, p=p) for p in softmax(logits)])
    return labels, softmax(2 * logits), rng.integers(8, size=N).astype(str)


def test_bins_are_those_of_scikit_learn_and_give_the_ece(data):
    labels, probabilities, _ = data
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = reliability(labels, probabilities, 10)
    accuracy, mean = calibration_curve(right, confidence, n_bins=10)
    assert np.allclose([b.accuracy for b in bins], accuracy)
    assert np.allclose([b.confidence for b in bins], mean)
    assert sum(b.n for b in bins) == N
    ece = sum(b.n / N * abs(b.accuracy - b.confidence) for b in bins)
    assert ece == pytest.approx(metrics.expected_calibration_error(labels, probabilities, 10))


def test_brier_score_is_that_of_scikit_learn(data):
    labels, probabilities, _ = data
    assert brier_score(labels, probabilities) == pytest.approx(
        brier_score_loss(labels, probabilities, labels=range(CLASSES), scale_by_half=False)
    )
    assert np.isnan(brier_score(labels[:0], probabilities[:0]))


def test_temperature_is_the_one_with_the_least_log_loss(data):
    labels, probabilities, _ = data
    found = fit_temperature(labels, probabilities)
    other = minimize(lambda t: log_loss(labels, softmax(np.log(probabilities) / t[0])), [1.0], method="Nelder-Mead")
    assert found == pytest.approx(other.x[0], abs=1e-3)
    assert found == pytest.approx(2, abs=0.25)
    scaled = with_temperature(probabilities, found)
    assert np.allclose(scaled, softmax(np.log(probabilities) / found))
    assert metrics.expected_calibration_error(labels, scaled) < metrics.expected_calibration_error(
        labels, probabilities
    )


def test_temperature_has_an_end_where_dev_is_all_right():
    labels = np.array([0, 1, 1, 0])
    probabilities = np.eye(2)[labels] * 0.8 + 0.1
    assert fit_temperature(labels, probabilities) == pytest.approx(0.2, abs=1e-3)
    assert fit_temperature(labels[:0], probabilities[:0]) == 1


def test_coverage_by_hand(data):
    labels, probabilities, speakers = data
    seeds = np.stack([probabilities, probabilities[:, ::-1]])
    for point in coverage_curve(speakers, labels, seeds, (0.25, 0.7, 1.0)):
        uars, thresholds = [], []
        for of_seed in seeds:
            sure = np.argsort(-of_seed.max(1), kind="stable")[: round(point.fraction * N)]
            uars.append(recall_score(labels[sure], of_seed[sure].argmax(1), average="macro"))
            thresholds.append(of_seed.max(1)[sure].min())
        assert point.uar.value == pytest.approx(np.mean(uars))
        assert point.threshold == pytest.approx(np.mean(thresholds))
        assert point.uar.low < point.uar.value < point.uar.high


def test_the_surest_are_recognised_better(data):
    labels, probabilities, speakers = data
    few, half, every = coverage_curve(speakers, labels, probabilities[None], (0.2, 0.5, 1.0))
    assert few.uar.value > half.uar.value > every.uar.value


def test_one_speaker_has_no_interval(data):
    labels, probabilities, _ = data
    (point,) = coverage_curve(["only"] * N, labels, probabilities[None], (0.5,))
    assert np.isnan(point.uar.low)
    assert point.uar.value > 0
