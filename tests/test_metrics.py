import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, recall_score

from emodarts import metrics


def test_a_class_that_is_only_predicted_does_not_count():
    # sklearn's macro recall gives .50 here; the declared class without an utterance is left out instead
    assert metrics.uar(np.array([0, 0, 1]), np.array([0, 2, 1]), 3) == pytest.approx(0.75)
    assert metrics.absent_classes(np.array([0, 0, 1]), 3) == (2,)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_against_scikit_learn(pairs):
    y, p = (np.array(x) for x in zip(*pairs, strict=True))
    present = sorted(set(y.tolist()))
    assert metrics.uar(y, p, 4) == pytest.approx(recall_score(y, p, labels=present, average="macro"))
    assert metrics.war(y, p) == pytest.approx(accuracy_score(y, p))
    expected = f1_score(y, p, labels=present, average="macro", zero_division=0)
    assert metrics.macro_f1(y, p, 4) == pytest.approx(expected)


def test_nothing_is_nan_and_unequal_lengths_are_refused():
    assert np.isnan(metrics.uar(np.array([], int), np.array([], int), 4))
    with pytest.raises(ValueError, match="labels but"):
        metrics.confusion_matrix(np.array([0]), np.array([0, 1]), 2)
