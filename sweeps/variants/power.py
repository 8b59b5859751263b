"""What a sweep can show: the smallest difference in UAR that its speakers, folds and seeds tell apart at a power of .8.

By the report's own comparison (`difference_over_seeds`), before anything has run. How far systems disagree and how much
seeds matter has to be supposed then: `DISAGREEMENT` and the two deviations are round figures, of which `SEED_SD` alone
was looked at (on dev parts of EmoDB and RAVDESS, .02 to .09).
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from scipy import stats

from emodarts.corpora.protocols.folds import Fold

POWER, LEVEL = 0.8, 0.95
DISAGREEMENT = 0.2  # of the utterances are recognised by one of two systems alone
SPEAKER_SD = 0.03  # of the true difference between two systems, from speaker to speaker
SEED_SD = 0.045  # of a fold's UAR, from seed to seed (.02 to .09)
_SEEDS_FOR_METHODS = 3  # with fewer, a difference is one of networks


@dataclass(frozen=True)
class TestSize:
    """What a difference is measured on: `speakers` and the utterances of each class in all test parts, and `folds`."""

    speakers: int
    by_class: tuple[int, ...]
    folds: int

    @classmethod
    def of(cls, folds: Iterable[Fold]) -> "TestSize":
        """That of some folds."""
        folds = list(folds)
        tested = [(fold, utterance) for fold in folds for utterance in fold.test_ids]
        labels = Counter(fold.labels[utterance] for fold, utterance in tested if utterance in fold.labels)
        speakers = {fold.speakers[utterance] for fold, utterance in tested} - {None}
        return cls(len(speakers), tuple(labels[name] for name in folds[0].classes if labels[name]), len(folds))


def smallest_difference(size: TestSize, seeds: int | None) -> float | None:
    """The difference in UAR between two methods of so many seeds each that is told apart with `POWER`.

    Between two networks as they are, where `seeds` is None. None where there is no interval: one speaker, or one seed.
    """
    if size.speakers < 2 or seeds == 1:
        return None
    by_utterances = DISAGREEMENT * sum(1 / count for count in size.by_class) / len(size.by_class) ** 2
    errors = [(math.sqrt(by_utterances + SPEAKER_SD**2 / size.speakers), size.speakers - 1)]
    if seeds is not None:
        errors.append((SEED_SD * math.sqrt(2 / (seeds * size.folds)), 2 * (seeds - 1)))
    half = math.hypot(*(stats.t.ppf(0.5 + LEVEL / 2, freedom) * error for error, freedom in errors))
    return float(half + stats.norm.ppf(POWER) * math.hypot(*(error for error, _ in errors)))


def describe_power(folds: Iterable[Fold], seeds: int) -> list[str]:
    """What the sweep can show, in lines: between networks, between methods, and what more seeds would bring."""
    size = TestSize.of(folds)
    between_networks = smallest_difference(size, None)
    if between_networks is None or not size.by_class:
        return ["what it can show: nothing between systems: that takes two test speakers or more"]
    about = f"{size.speakers} test speakers, {sum(size.by_class)} utterances, {size.folds} folds"
    lines = [
        f"what it can show ({about}; power {POWER:g} at {1 - LEVEL:.2g}, one comparison): between two systems' "
        f"networks a difference of {between_networks:.3f} in UAR"
    ]
    for count in dict.fromkeys((seeds, _SEEDS_FOR_METHODS, 2 * max(seeds, _SEEDS_FOR_METHODS))):
        difference = smallest_difference(size, count)
        if count >= _SEEDS_FOR_METHODS and difference is not None:
            by_seeds = "" if count == seeds else f" with sweep.seeds={count}"
            lines.append(f"  between two methods{by_seeds}: {difference:.3f}")
    lines.append(
        f"  supposed: two systems disagree on {DISAGREEMENT:.0%} of the utterances, their difference varies by "
        f"{SPEAKER_SD:g} from speaker to speaker, a fold's UAR by {SEED_SD:g} from seed to seed"
    )
    return lines
