"""Verdicts of a table in words, their rates on simulated methods, and means over corpora."""

import numpy as np
import pytest
from scipy import stats

from emodarts.results.statistics import (
    Difference,
    Tally,
    compare_systems,
    difference,
    difference_over_seeds,
    judge,
    mean_over_corpora,
)
from emodarts.results.statistics.estimates import Error
from tests.support.methods import Methods
from tests.support.speakers import CREMA_D, EMODB, RAVDESS, SAVEE

# Log risk ratios and their variances of 13 trials of the BCG vaccine (Colditz et al. 1994), as counts.
BCG = """4 119 11 128  6 300 29 274  3 228 11 209  62 13536 248 12619  33 5036 47 5761  180 1361 372 1079
8 2537 10 619  505 87886 499 87892  29 7470 45 7232  17 1699 65 1600  186 50448 141 27197  5 2493 3 2338
27 16886 29 17825"""


def apart(value, error, freedom=20, over_seeds=True):
    return Difference.by_t(value, Error(error, freedom), 0.95, over_seeds)


def test_a_verdict_is_words_about_methods_or_about_networks():
    table = [apart(0.1, 0.01), apart(-0.1, 0.01), apart(0.001, 0.002), apart(0.01, 0.001), apart(0.01, 0.05)]
    assert [str(v) for v in judge(table)] == [
        "method better",
        "method worse",
        "method as good, within .02",
        "method better, but within .02",
        "no difference shown",
    ]
    assert str(judge([apart(0.1, 0.01, over_seeds=False)])[0]) == "these networks better"
    assert str(judge([apart(0.1, float("nan"))])[0]) == "cannot be told"


def test_verdicts_are_corrected_for_all_comparisons_of_the_table():
    """Both questions: what one comparison shows is not shown by one of five."""
    for question in (apart(0.023, 0.01), apart(0.0, 0.0105)):
        assert str(judge([question])[0]) != "no difference shown"
        corrected = judge([question, *[apart(0.01, 0.05)] * 4])
        assert str(corrected[0]) == "no difference shown"
        assert corrected[0].p == pytest.approx(min(1, 5 * question.p))
        assert corrected[0].p_equivalence == pytest.approx(min(1, 5 * question.p_equivalence))


def test_a_verdict_about_methods_takes_three_seeds_of_both_systems():
    ours, others = next(Methods(EMODB).comparisons(np.random.default_rng(0), 1))
    assert compare_systems(ours, others) == difference_over_seeds(ours, others)
    assert compare_systems(ours[:2], others) == difference(ours[:2], others)
    assert compare_systems(ours, others[:2]) == difference(ours, others[:2])


@pytest.mark.slow
def test_equal_methods_are_told_apart_at_the_nominal_rate_whatever_the_luck_of_seeds():
    """tests/benchmarks/verdicts.py in short."""
    rng, alone, verdicts = np.random.default_rng(3), [], []
    for corpus, ratio in ((SAVEE, 2.0), (EMODB, 0.5), (RAVDESS, 2.0), (CREMA_D, 0.5)):
        for pair in Methods(corpus, ratio).comparisons(rng, 100):
            alone += [difference(*pair).p <= 0.05] if corpus is RAVDESS else []
            verdicts.append(compare_systems(*pair).p <= 0.05)
    assert np.mean(verdicts) <= 0.065
    assert max(np.mean(np.reshape(verdicts, (4, 100)), 1)) <= 0.11
    assert np.mean(alone) >= 0.3  # speakers alone do not hold it


def test_a_difference_of_methods_is_found_where_seeds_say_little_and_speakers_are_many():
    pairs = Methods(CREMA_D, 0.0, 0.03).comparisons(np.random.default_rng(4), 50)
    assert np.mean([d.p <= 0.05 and d.value > 0 for d in (compare_systems(*pair) for pair in pairs)]) >= 0.75


def test_the_mean_over_corpora_is_that_of_paule_and_mandel_with_a_t_interval():
    """The expected figures are statsmodels': `combine_effects(method_re="iterated", use_t=True)`."""
    a, b, c, d = np.array(BCG.split(), float).reshape(-1, 4).T
    values, variances = np.log(a / (a + b) / (c / (c + d))), 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)
    trials = {str(i): [apart(y, v**0.5)] for i, (y, v) in enumerate(zip(values, variances, strict=True))}
    mean = mean_over_corpora(trials)
    assert (mean.difference.value, mean.deviation**2) == pytest.approx((-0.714968153, 0.318068452), abs=1e-6)
    assert (mean.difference.low, mean.difference.high) == pytest.approx((-1.10909838, -0.32083793), abs=1e-6)
    assert mean.corpora == 13


def test_corpora_of_equal_errors_have_the_t_test_of_their_differences():
    values = [0.05, -0.03, 0.12, 0.08, 0.01]
    mean = mean_over_corpora({str(v): [apart(v, 0.01)] for v in values}).difference
    expected = stats.ttest_1samp(values, 0)
    limits = expected.confidence_interval()
    assert (mean.value, mean.low, mean.high, mean.p) == pytest.approx(
        (np.mean(values), limits.low, limits.high, expected.pvalue), abs=1e-9
    )


def test_corpora_that_agree_by_luck_have_the_interval_of_their_errors():
    mean = mean_over_corpora({name: [apart(0.03, 0.02)] for name in "abcd"})
    assert mean.deviation == 0
    assert mean.difference.high - 0.03 == pytest.approx(stats.t.ppf(0.975, 3) * 0.02 / 2)


def test_each_corpus_has_one_vote_and_four_make_a_mean():
    four = {name: [apart(value, 0.01)] for name, value in zip("abcd", (0.02, 0.05, -0.01, 0.04), strict=True)}
    twice = {**four, "a": [apart(0.01, 0.005), apart(0.03, 0.015)]}
    assert mean_over_corpora(twice).difference.value == pytest.approx(mean_over_corpora(four).difference.value)
    assert mean_over_corpora({**four, "e": [apart(0.5, float("nan"))]}) == mean_over_corpora(four)
    assert mean_over_corpora({name: four[name] for name in "abc"}) is None
    assert mean_over_corpora({}) is None
    assert mean_over_corpora(four).difference.over_seeds
    few_seeds = {**four, "d": [apart(0.04, 0.01, over_seeds=False)]}
    assert not mean_over_corpora(few_seeds).difference.over_seeds


def test_equal_predictions_on_a_corpus_do_not_break_the_mean():
    same = [Tally.of(["a", "b"], [0, 1], [0, 0], 2)] * 3
    equal = {name: [compare_systems(same, same)] for name in "abcd"}
    mean = mean_over_corpora(equal).difference
    assert (mean.value, mean.p) == (0, 1)
