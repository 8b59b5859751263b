"""Verdicts on simulated systems whose truth is known: 200 simulations each, fixed seeds.

Nominal are 5 % of false verdicts; 200 simulations of that give 1.5 to 9 % (two and a half standard errors).
"""

from dataclasses import replace

import numpy as np
import pytest

from emodarts.metrics import uar_of
from emodarts.results.statistics import (
    Tally,
    dev_test_drop,
    difference,
    holm,
    interval,
    nested_choice,
    optimism,
    pooled,
    shared_choice,
)
from tests.support.speakers import CREMA_D, EMODB, Recognition

SIMULATIONS = 200
RESAMPLES = 999
TEN, FORTY = EMODB, replace(CREMA_D, speakers=40)  # jackknife, bootstrap


def rate(verdicts):
    return float(np.mean(list(verdicts)))


@pytest.mark.parametrize(("corpus", "gain"), [(TEN, 1.0), (FORTY, 0.5)])
@pytest.mark.parametrize("metric", ["uar", "macro_f1"])
def test_a_true_difference_is_found_and_its_sign_is_right(corpus, gain, metric):
    rng, systems = np.random.default_rng(0), Recognition(corpus, (2.3 + gain, 2.3))
    found = [difference([a], [b], metric, resamples=RESAMPLES) for a, b in draws(systems, rng)]
    assert rate(d.p <= 0.05 and d.value > 0 for d in found) >= 0.95
    assert rate(d.low > 0 for d in found) >= 0.95


@pytest.mark.parametrize("corpus", [TEN, FORTY])
@pytest.mark.parametrize("metric", ["uar", "war", "macro_f1"])
def test_systems_that_do_not_differ_are_told_apart_at_the_nominal_rate(corpus, metric):
    rng, systems = np.random.default_rng(1), Recognition(corpus, (2.3, 2.3))
    found = [difference([a], [b], metric, resamples=RESAMPLES) for a, b in draws(systems, rng)]
    assert 0.015 <= rate(d.p <= 0.05 for d in found) <= 0.09
    assert all((d.p <= 0.05) == (d.low > 0 or d.high < 0) for d in found)


@pytest.mark.slow
def test_holm_holds_the_rate_of_any_false_verdict_in_a_table():
    rng, systems = np.random.default_rng(2), Recognition(TEN, (2.3,) * 6)
    raw = [[difference([first], [t]).p for t in others] for first, *others in draws(systems, rng)]
    assert rate(min(p) <= 0.05 for p in raw) >= 0.12  # five uncorrected comparisons
    assert rate(min(holm(p)) <= 0.05 for p in raw) <= 0.09


@pytest.mark.slow
def test_under_holm_the_one_true_difference_is_found_and_the_others_are_not():
    rng, systems = np.random.default_rng(3), Recognition(FORTY, (2.3, 3.0, 2.3, 2.3))
    corrected = np.array(
        [
            holm([difference([t], [first], resamples=RESAMPLES).p for t in others])
            for first, *others in draws(systems, rng)
        ]
    )
    assert rate(corrected[:, 0] <= 0.05) >= 0.95
    assert rate((corrected[:, 1:] <= 0.05).any(1)) <= 0.09


def test_the_mean_over_fold_models_covers_its_truth():
    """Role `cross`: five models on the same foreign speakers."""
    rng, models = np.random.default_rng(4), Recognition(TEN, (2.0, 2.2, 2.3, 2.4, 2.6))
    truth = np.mean([t.uar() for t in models.truth])
    assert 0.91 <= rate(i.low <= truth <= i.high for i in map(interval, draws(models, rng))) <= 0.985


def test_a_planted_drop_from_dev_to_test_is_found_and_no_drop_is_not():
    rng, systems = np.random.default_rng(5), Recognition(TEN, (3.5, 2.3))
    found, none = [], []
    for high, test in draws(systems, rng):
        found.append(dev_test_drop([renamed(high)], [test]))  # other speakers, as in an official split
        none.append(dev_test_drop([renamed(systems.tallies(rng)[1])], [test]))
    assert rate(d.low > 0 for d in found) >= 0.9
    assert 0.015 <= rate(d.p <= 0.05 for d in none) <= 0.09


@pytest.mark.slow
def test_shared_selection_among_equal_configurations_is_optimistic_and_nested_selection_is_not():
    """40 configurations, equally good over all speakers; each speaker is dev of one fold and test of another."""
    rng, configurations = np.random.default_rng(6), Recognition(TEN, (2.3,) * 40)
    truth = Recognition(TEN, (2.3,)).truth[0].uar()
    shared, nested, gained = [], [], []
    for tallies in draws(configurations, rng):
        dev = np.array([uar_of(np.roll(t.counts, -1, axis=0)) for t in tallies])
        winner = tallies[shared_choice(dev, [1.0] * 40)]
        chosen = pooled([fold_of(tallies[c], f) for f, c in enumerate(nested_choice(dev, [1.0] * 40))])
        shared.append(winner.uar())
        nested.append(chosen.uar())
        gained.append(optimism([winner], [chosen]))
    assert np.mean(nested) == pytest.approx(truth, abs=0.01)
    assert 0.02 <= np.mean(shared) - truth <= 0.08
    assert np.mean([g.value for g in gained]) == pytest.approx(np.mean(shared) - np.mean(nested))
    assert rate(g.value > 0 for g in gained) >= 0.8


def draws(systems, rng):
    return (systems.tallies(rng) for _ in range(SIMULATIONS))


def renamed(tally):
    return Tally(tuple(f"dev-{s}" for s in tally.speakers), tally.counts)


def fold_of(tally, fold):
    return Tally(tally.speakers[fold : fold + 1], tally.counts[fold : fold + 1])
