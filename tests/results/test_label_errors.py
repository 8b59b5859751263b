"""Confident learning: the joint by hand, and planted label errors."""

import numpy as np
import pytest

from emodarts.results.statistics.label_errors import confident_joint, find_label_errors

CLASSES = 4


def system(rng, n, spread):
    """True classes, and the probabilities from which they were drawn: a calibrated system, surer with more `spread`."""
    logits = spread * rng.normal(size=(n, CLASSES))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return (p.cumsum(1) > rng.random((n, 1))).argmax(1), p


def plant(rng, true, share):
    wrong = rng.random(len(true)) < share
    return np.where(wrong, (true + rng.integers(1, CLASSES, len(true))) % CLASSES, true), wrong


def test_joint_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1])
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8], [0.6, 0.4]])
    # mean p_0 of those labelled 0: .6; mean p_1 of those labelled 1: .633
    joint = confident_joint(labels, p)
    assert joint.tolist() == [[2, 1], [1, 2]]
    errors = find_label_errors(labels, p)
    assert [(e.row, e.suggested) for e in errors] == [(2, 1), (5, 0)]
    assert errors[0].margin == pytest.approx(0.8)


def test_rows_are_scaled_to_the_labels():
    rng = np.random.default_rng(0)
    true, p = system(rng, 500, 2)
    labels, _ = plant(rng, true, 0.1)
    assert np.allclose(confident_joint(labels, p).sum(1), np.bincount(labels))


def test_planted_errors_are_found():
    """docs/statistics.md states these figures: 5 % of 1,000 labels changed, calibrated systems."""
    for spread, accuracy, stated in ((8, 0.91, (0.63, 0.90, 0.97)), (4, 0.83, (0.37, 0.86, 0.79))):
        rng, figures, right = np.random.default_rng(1), [], []
        for _ in range(20):
            true, p = system(rng, 1000, spread)
            labels, wrong = plant(rng, true, 0.05)
            rows = [e.row for e in find_label_errors(labels, p)]
            figures.append((wrong[rows].mean(), wrong[rows].sum() / wrong.sum(), wrong[rows[:25]].mean()))
            right.append((p.argmax(1) == true).mean())
        assert np.mean(right) == pytest.approx(accuracy, abs=0.01)
        assert np.mean(figures, 0) == pytest.approx(stated, abs=0.01)


def test_clean_labels_and_a_sure_system_give_none():
    labels = np.repeat(np.arange(CLASSES), 10)
    assert find_label_errors(labels, np.eye(CLASSES)[labels] * 0.8 + 0.05) == ()
