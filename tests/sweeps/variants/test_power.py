"""The smallest difference that a sweep can show is found four times in five, and follows speakers, folds and seeds."""

import numpy as np
import pytest
from scipy import stats

from emodarts.corpora.protocols.folds import Fold
from sweeps.variants import power
from sweeps.variants.power import TestSize as Size
from sweeps.variants.power import describe_power, smallest_difference

EMODB = Size(10, (127, 81, 46, 69, 71, 79, 62), 10)


@pytest.mark.parametrize(("size", "seeds"), [(EMODB, 3), (EMODB, None), (Size(24, (96,) * 8, 6), 5)])
def test_it_is_found_four_times_in_five(size, seeds):
    """Drawn as supposed, judged as the report does: a t over speakers, and one over seeds."""
    rng, runs = np.random.default_rng(0), 4000
    truth = smallest_difference(size, seeds)
    by_utterances = power.DISAGREEMENT * sum(1 / n for n in size.by_class) / len(size.by_class) ** 2
    sd = np.sqrt(by_utterances * size.speakers + power.SPEAKER_SD**2)  # of a speaker's difference
    of_speakers = rng.normal(truth, sd, (runs, size.speakers))
    estimate = of_speakers.mean(1)
    squares = (stats.t.ppf(0.975, size.speakers - 1) * of_speakers.std(1, ddof=1)) ** 2 / size.speakers
    if seeds:
        luck = rng.normal(0, power.SEED_SD / np.sqrt(size.folds), (runs, 2, seeds))
        estimate = estimate + luck[:, 0].mean(1) - luck[:, 1].mean(1)
        variance = luck.var(2, ddof=1).sum(1) / seeds
        squares = squares + stats.t.ppf(0.975, 2 * (seeds - 1)) ** 2 * variance
    assert (estimate**2 > squares).mean() == pytest.approx(0.8, abs=0.04)


def test_more_speakers_folds_and_seeds_show_less():
    smallest = smallest_difference(EMODB, 3)
    assert smallest_difference(EMODB, None) < smallest_difference(EMODB, 9) < smallest
    assert smallest_difference(Size(40, EMODB.by_class, 10), 3) < smallest
    assert smallest_difference(Size(10, tuple(4 * n for n in EMODB.by_class), 10), 3) < smallest
    assert smallest < smallest_difference(Size(10, EMODB.by_class, 2), 3)
    assert smallest_difference(EMODB, 1) is None
    assert smallest_difference(Size(1, (9, 9), 1), 3) is None


def make_folds(speakers):
    folds = []
    for index, speaker in enumerate(speakers):
        ids = tuple(f"{speaker}{n}" for n in range(4))
        labels = dict(zip(ids, "abab", strict=True))
        who = dict.fromkeys(ids, speaker)
        folds.append(Fold("x/p", index, (), (), {"x/test": ids}, labels, ("a", "b"), who, {}, "h"))
    return folds


def test_a_forecast_says_what_can_be_shown():
    lines = describe_power(make_folds("stuv"), 1)
    assert "4 test speakers, 16 utterances, 4 folds" in lines[0]
    expected = smallest_difference(Size(4, (8, 8), 4), None)
    assert f"a difference of {expected:.3f} in UAR" in lines[0]
    assert lines[1].startswith("  between two methods with sweep.seeds=3: ")
    assert describe_power(make_folds("stuv"), 3)[1].startswith("  between two methods: ")
    assert describe_power(make_folds("s"), 3) == [
        "what it can show: nothing between systems: that takes two test speakers or more"
    ]
