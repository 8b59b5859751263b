"""Differences of figures with interval and p-value, Holm's correction and selection, against scipy and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from emodarts.errors import EmodartsError
from emodarts.results.statistics import (
    MARGIN,
    Tally,
    best,
    chance,
    dev_test_drop,
    difference,
    difference_over_seeds,
    holm,
    interval,
    majority,
    nested_choice,
    optimism,
    shared_choice,
)
from emodarts.results.statistics.estimates import RESAMPLES, Bootstrap, Estimate, SignedTallies
from tests.support.methods import Methods
from tests.support.speakers import EMODB, Recognition
from tests.support.statistics import by_scikit_learn, predictions


def by_speaker(tally):
    """The WAR of each speaker."""
    return np.trace(tally.counts, axis1=1, axis2=2) / tally.counts.sum((1, 2))


def two_systems(seed, speakers=8, utterances=25, gained=0.2):
    rng = np.random.default_rng(seed)
    names, labels, predicted = predictions(rng, speakers=speakers, utterances=utterances, spread=0.3)
    better = np.where(rng.random(labels.size) < gained, labels, predicted)
    return Tally.of(names, labels, better, 3), Tally.of(names, labels, predicted, 3)


def test_a_difference_is_paired_and_averaged_over_seeds():
    ours, theirs = two_systems(2)
    found = difference([ours, theirs], [theirs])
    assert found.value == pytest.approx((ours.uar() - theirs.uar()) / 2)
    assert found.low > 0  # speakers differ by far more than the systems do: unpaired it would be lost
    apart = interval([ours])
    assert found.high - found.low < (apart.high - apart.low) / 2
    same = difference([ours], [ours])
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("speakers", [8, 40])
def test_equal_predictions_in_another_order_of_seeds_differ_by_nothing(speakers):
    first, second = two_systems(14, speakers=speakers)
    third = two_systems(14, speakers=speakers, gained=0.5)[0]
    for metric in ("uar", "war", "macro_f1"):
        found = difference([first, second, third], [third, first, second], metric)
        assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_difference_of_the_war_of_few_speakers_is_scipys_paired_t_test():
    ours, theirs = two_systems(3, gained=0.05)
    found = difference([ours], [theirs], "war")
    expected = stats.ttest_rel(by_speaker(ours), by_speaker(theirs))
    limits = expected.confidence_interval()
    assert (found.low, found.high, found.p) == pytest.approx((limits.low, limits.high, expected.pvalue))


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["uar", "macro_f1"])
def test_a_difference_of_many_speakers_is_scipys_percentile_bootstrap(metric):
    rng = np.random.default_rng(4)
    names, labels, theirs = predictions(rng, speakers=40, utterances=8)
    ours = np.where(rng.random(labels.size) < 0.05, labels, theirs)
    rows = [x.reshape(40, 8) for x in (labels, ours, theirs)]

    def figure(drawn):
        y, p, q = (x[drawn].ravel() for x in rows)
        return by_scikit_learn(metric, y, p) - by_scikit_learn(metric, y, q)

    expected = stats.bootstrap(
        (np.arange(40),), figure, vectorized=False, n_resamples=500, method="percentile", rng=np.random.default_rng(0)
    )
    found = difference([Tally.of(names, labels, ours, 3)], [Tally.of(names, labels, theirs, 3)], metric)
    limits = (expected.confidence_interval.low, expected.confidence_interval.high)
    assert (found.low, found.high) == pytest.approx(limits, abs=0.35 * expected.standard_error)


def test_the_bootstraps_p_value_counts_resamples_beyond_zero_and_agrees_with_its_interval():
    values = np.arange(-3, 96) / 100  # 99 resamples; four of them at most 0
    assert Bootstrap(values).p() == pytest.approx(2 * 5 / 100)
    assert Bootstrap(values).limits(0.9) == pytest.approx((0.01, 0.91))  # the 5th smallest and the 5th largest
    assert Bootstrap(values - 0.001).limits(0.9)[0] > 0
    assert Bootstrap(np.zeros(99)).p() == 1
    for shift in np.linspace(-1, 1, 41):
        found = Bootstrap(np.sort(np.random.default_rng(5).normal(shift, 0.3, 9_999)))
        low, high = found.limits(0.95)
        assert (found.p() <= 0.05) == (low > 0 or high < 0)


def test_a_baseline_is_a_system_to_compare_with():
    ours, _ = two_systems(6)
    found = difference([ours], [majority(ours)])
    assert found.value == pytest.approx(ours.uar() - 1 / 3)
    assert found.p < 0.01


@pytest.mark.parametrize("classes", range(2, 10))
def test_guessing_is_a_system_to_compare_with_whatever_the_number_of_classes(classes):
    labels = np.tile(np.arange(classes), 98)
    ours = Tally.of(np.repeat(["a", "b"], len(labels) // 2), labels, labels, classes)
    np.testing.assert_allclose(chance(ours).sizes, ours.sizes)
    assert difference([ours], [chance(ours)]).value == pytest.approx(1 - 1 / classes)


def test_other_speakers_or_utterances_are_refused():
    ours = Tally.of(["a", "b"], [0, 1], [0, 0], 2)
    with pytest.raises(EmodartsError, match="same speakers"):
        difference([ours], [Tally.of(["a", "c"], [0, 1], [0, 0], 2)])
    with pytest.raises(EmodartsError, match="same utterances"):
        difference([ours], [Tally.of(["a", "b"], [0, 0], [0, 0], 2)])
    with pytest.raises(EmodartsError, match="same utterances"):
        difference([ours], [Tally.of(["a", "b"], [0, 1], [0, 0], 3)])
    with pytest.raises(EmodartsError, match="needs predictions"):
        difference([ours], [])
    alone = difference([Tally.of(["a"], [0], [0], 2)], [Tally.of(["a"], [0], [1], 2)])
    assert alone.value == 1
    assert np.isnan([alone.low, alone.high, alone.p]).all()


def test_a_drop_between_roles_of_other_speakers_is_welchs_test():
    rng = np.random.default_rng(7)
    dev = Tally.of(*predictions(rng, speakers=5, skill=0.8), 3)
    dev = Tally(tuple(f"dev-{s}" for s in dev.speakers), dev.counts)
    test = Tally.of(*predictions(rng, speakers=12, skill=0.6, spread=0.05), 3)
    found = dev_test_drop([dev], [test], "war")
    expected = stats.ttest_ind(by_speaker(dev), by_speaker(test), equal_var=False)
    limits = expected.confidence_interval()
    assert found.value == pytest.approx(dev.value("war") - test.value("war"))
    assert (found.low, found.high, found.p) == pytest.approx((limits.low, limits.high, expected.pvalue))


def test_a_drop_between_roles_of_the_same_speakers_is_paired_whatever_their_utterances():
    dev = two_systems(8)[0]
    fewer = two_systems(9, utterances=10)[1]
    found = dev_test_drop([dev], [fewer], "war")
    expected = stats.ttest_rel(by_speaker(dev), by_speaker(fewer))
    assert found.p == pytest.approx(expected.pvalue)


def test_a_drop_of_many_speakers_in_each_role_takes_the_bootstrap_within_them():
    dev, test = (Tally.of(*predictions(np.random.default_rng(s), speakers=40, spread=0.1), 3) for s in (10, 11))
    dev = Tally(tuple(f"dev-{s}" for s in dev.speakers), dev.counts)
    found = dev_test_drop([dev], [test], "war")
    error = np.sqrt(sum(by_speaker(t).var() / 40 for t in (dev, test)))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_a_drop_with_few_speakers_in_one_role_is_welchs_test_however_many_the_other_has():
    dev, test = (Tally.of(*predictions(np.random.default_rng(s), speakers=n), 3) for s, n in ((15, 5), (16, 40)))
    dev = Tally(tuple(f"dev-{s}" for s in dev.speakers), dev.counts)
    found = dev_test_drop([dev], [test], "war")
    assert found.p == pytest.approx(stats.ttest_ind(by_speaker(dev), by_speaker(test), equal_var=False).pvalue)


def test_a_drop_needs_the_same_speakers_in_every_seed_of_a_role():
    one, other = Tally.of(["a", "b"], [0, 1], [0, 0], 2), Tally.of(["a", "c"], [0, 1], [0, 0], 2)
    for dev, test in (([one, other], [one]), ([one], [one, other])):
        with pytest.raises(EmodartsError, match="same speakers"):
            dev_test_drop(dev, test)


@pytest.mark.parametrize("compare", [difference, optimism, dev_test_drop])
def test_metric_level_number_of_resamples_and_seed_reach_the_bootstrap(compare):
    ours, theirs = two_systems(17, speakers=40)
    found = compare([ours], [theirs], "war", 0.8, 199, 3)
    estimate = Estimate.of("war", SignedTallies((ours,)), SignedTallies((theirs,), -1))
    bootstrap = Bootstrap.of(estimate, 199, 3)
    assert (found.value, found.low, found.high) == (estimate.value, *bootstrap.limits(0.8))
    assert found.p == bootstrap.p() == 2 / 200
    assert found != compare([ours], [theirs], "war", 0.8, 199, 4)
    assert difference([ours], [theirs], "uar", 0.8) == difference([ours], [theirs], level=0.8)
    assert difference([ours], [theirs], level=0.8) != difference([ours], [theirs])


def test_a_drop_with_one_speaker_in_a_role_has_no_interval():
    dev, test = Tally.of(["d"], [0], [0], 2), Tally.of(["a", "b"], [0, 0], [0, 1], 2)
    found = dev_test_drop([dev], [test])
    assert found.value == 0.5
    assert np.isnan(found.low)


def test_a_difference_over_seeds_holds_speakers_and_seeds():
    """The parts by leaving speakers out with scikit-learn's figures; the interval by the squares of both halves."""
    tallies = Recognition(EMODB, (2.3, 2.9, 2.1, 2.4, 2.2)).tallies(np.random.default_rng(12))
    methods = tallies[:3], tallies[3:]
    n = len(tallies[0].speakers)

    def without(tally, speaker):
        others = np.arange(n) != speaker
        return Tally(tuple(np.array(tally.speakers)[others]), tally.counts[others]).uar()

    def jackknife_variance(values):
        return (n - 1) ** 2 / n * np.var(values, ddof=1)

    left_out = [np.array([[without(t, i) for i in range(n)] for t in seeds]) for seeds in methods]
    between = [np.var([t.uar() for t in seeds], ddof=1) / len(seeds) for seeds in methods]
    shared = [np.mean([jackknife_variance(d) for d in x - x.mean(0)]) / (len(x) - 1) for x in left_out]
    speakers = jackknife_variance(left_out[0].mean(0) - left_out[1].mean(0))
    seeds = sum(between) - 0.75 * sum(shared)
    freedom = sum(between) ** 2 / (between[0] ** 2 / 2 + between[1] ** 2 / 1)
    found = difference_over_seeds(*methods)
    assert seeds > 0
    assert found.over_seeds
    assert found.value == difference(*methods).value
    assert found.error == pytest.approx(np.sqrt(speakers + seeds))
    half = np.hypot(*(stats.t.ppf(0.975, f) * np.sqrt(v) for f, v in ((n - 1, speakers), (freedom, seeds))))
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))
    assert np.isnan(difference_over_seeds(tallies[:1], methods[1]).p)


def test_where_speakers_are_alike_a_difference_over_seeds_is_welchs_test_of_the_seeds():
    ours, others = ([Tally(tuple("abcde"), np.tile([[[r, 20 - r]]], (5, 1, 1))) for r in right] for right in SEEDS)
    ours, others = ([Tally(t.speakers, np.pad(t.counts, ((0, 0), (0, 1), (0, 0)))) for t in x] for x in (ours, others))
    found = difference_over_seeds(ours, others)
    expected = stats.ttest_ind(*(np.array(right) / 20 for right in SEEDS), equal_var=False)
    limits = expected.confidence_interval()
    assert (found.low, found.high, found.p) == pytest.approx((limits.low, limits.high, expected.pvalue))


SEEDS = [12.0, 15.0, 14.0], [11.0, 11.5, 10.0, 11.0]


def test_trainings_without_luck_leave_the_interval_of_the_speakers():
    ours, others = two_systems(3)
    alone, over_seeds = difference([ours], [others]), difference_over_seeds([ours] * 3, [others] * 3)
    assert (over_seeds.low, over_seeds.high, over_seeds.p) == pytest.approx((alone.low, alone.high, alone.p))
    same = difference_over_seeds([ours] * 3, [ours] * 3)
    assert (same.value, same.low, same.high, same.p, same.p_equivalence) == (0, 0, 0, 1, 0)


@pytest.mark.parametrize("seed", range(8))
def test_p_values_over_seeds_agree_with_their_intervals(seed):
    methods = Methods(EMODB, gain=0.02 * seed).comparisons(np.random.default_rng(seed), 1)
    ours, others = next(methods)
    found = difference_over_seeds(ours, others)
    until_zero = difference_over_seeds(ours, others, level=1 - found.p)
    assert min(abs(until_zero.low), abs(until_zero.high)) < 1e-6
    level = abs(1 - 2 * found.p_equivalence)
    until_margin = difference_over_seeds(ours, others, level=level)
    distances = [abs(abs(end) - MARGIN) for end in (until_margin.low, until_margin.high)]
    assert min(distances) < 1e-6


@pytest.mark.parametrize("gained", [0.0, 0.01, 0.05])
def test_equivalence_of_few_speakers_is_two_one_sided_t_tests(gained):
    ours, others = two_systems(3, gained=gained)
    apart = by_speaker(ours) - by_speaker(others)
    below = stats.ttest_1samp(apart, MARGIN, alternative="less").pvalue if gained else 0.0
    above = stats.ttest_1samp(apart, -MARGIN, alternative="greater").pvalue if gained else 0.0
    assert difference([ours], [others], "war").p_equivalence == pytest.approx(max(below, above))


def test_equivalence_of_many_speakers_counts_resamples_beyond_the_margin():
    ours, others = two_systems(9, speakers=40, utterances=200, gained=0.01)
    found = difference([ours], [others], level=0.9)
    assert (found.p_equivalence <= 0.05) == (found.low > -MARGIN and found.high < MARGIN)
    values = Bootstrap.of(
        Estimate.of("uar", SignedTallies((ours,)), SignedTallies((others,), -1)), RESAMPLES, seed=0
    ).values
    assert found.p_equivalence == pytest.approx((1 + max((values >= MARGIN).sum(), (values <= -MARGIN).sum())) / 10_000)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.6, 0.7]) == (1, 1)
    assert holm([]) == ()
    corrected = holm([0.02, float("nan"), 0.01])
    assert corrected[::2] == pytest.approx((0.02, 0.02))
    assert np.isnan(corrected[1])
    for outside in (1.2, -0.2):
        with pytest.raises(ValueError, match="between 0 and 1"):
            holm([0.5, outside])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_holm_rejects_what_its_steps_reject(p_values, alpha):
    """Holm's own words: go up from the smallest, reject while p <= alpha / (hypotheses left)."""
    rejected = set()
    for left, number in zip(range(len(p_values), 0, -1), np.argsort(p_values, kind="stable"), strict=True):
        if left * p_values[number] > alpha:
            break
        rejected.add(number)
    assert {number for number, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_choices_go_by_dev_then_parameters_then_number():
    assert best([0.5, 0.6, 0.6, 0.6], [1, 9, 3, 3]) == 2
    assert best([float("nan"), 0.1], [1, 1]) == 1
    with pytest.raises(ValueError, match="no configuration"):
        best([float("nan")], [1])
    dev = np.array([[0.9, 0.1], [0.6, 0.6], [0.1, 0.8]])
    assert nested_choice(dev, [1, 1, 1]).tolist() == [0, 2]
    assert shared_choice(dev, [1, 1, 1]) == 1


def test_optimism_is_shared_minus_nested():
    shared, nested = two_systems(13)
    assert optimism([shared], [nested]) == difference([shared], [nested])
