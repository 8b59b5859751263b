"""Whether groups of speakers or of utterances are served alike: UAR by group, differences, and what chance does.

A fair model of the same size is simulated by dealing the groups anew: among whole speakers where a group is a property
of speakers (gender), else among the utterances of each speaker and class (duration).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emodarts import metrics
from emodarts.results.statistics.comparisons import Difference, difference_of_parts
from emodarts.results.statistics.estimates import LEVEL
from emodarts.results.statistics.intervals import Interval, interval
from emodarts.results.statistics.tallies import Floats, Names, Tally

SIMULATIONS = 999
_RESAMPLES = 1_999


@dataclass(frozen=True)
class GroupFigures:
    """A group: `uar` over its classes; `from_others` is its UAR minus that of all others, over the classes that both
    have. Limits are NaN where a side has a single speaker.
    """

    name: str
    utterances: int
    speakers: int
    absent: tuple[int, ...]  # classes without labels in the group
    uar: Interval
    from_others: Difference


@dataclass(frozen=True)
class GroupComparison:
    """The groups of an attribute. `threshold`: the largest difference of a group from the others stays below it in 95 %
    of the simulated fair models of the same size; `p`: the share of them in which it is at least as large as here.
    """

    groups: tuple[GroupFigures, ...]
    threshold: float
    p: float
    by_speaker: bool


def compare_groups(
    speakers: Names,
    labels: NDArray[np.integer],
    predicted: NDArray[np.integer],
    groups: Names,
    n_classes: int,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> GroupComparison:
    """UAR by group, of predictions `predicted (seeds, utterances)`; all figures are means over seeds.

    Raises ValueError for fewer than two groups.
    """
    names, of_utterance = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"groups are compared with each other, and there is {len(names)}")
    who = np.unique(np.asarray(speakers, np.str_), return_inverse=True)[1]
    by_speaker = bool(np.all(_spread_of(who, of_utterance) == 0))
    figures = tuple(
        _figures(str(name), np.asarray(speakers), labels, predicted, np.equal(of_utterance, number), n_classes)
        for number, name in enumerate(names)
    )
    right = np.asarray((predicted == labels).mean(0), np.float64)
    rng = np.random.default_rng(seed)
    if by_speaker:
        largest = _deal_speakers(who, labels, right, of_utterance, n_classes, simulations, rng)
    else:
        largest = _deal_utterances(who, labels, right, of_utterance, n_classes, simulations, rng)
    observed, simulated = largest[0], np.sort(largest[1:])
    threshold = float(np.quantile(simulated, LEVEL, method="higher"))
    p = (1 + int((simulated >= observed - 1e-9).sum())) / (simulations + 1)
    return GroupComparison(figures, threshold, p, by_speaker)


def largest_gap(right: Floats, sizes: Floats) -> Floats:
    """The largest difference of a group's UAR from that of all others, over the classes that both have, in size.

    `right`, `sizes (..., groups, classes)`: utterances that are recognised, and all; `(...)`, 0 where none compares.
    """
    others_right, others = (x.sum(-2, keepdims=True) - x for x in (right, sizes))
    both = (sizes > 0) & (others > 0)
    gaps = np.where(both, right / np.maximum(sizes, 1) - others_right / np.maximum(others, 1), 0)
    return np.asarray(np.abs(gaps.sum(-1) / np.maximum(both.sum(-1), 1)).max(-1))


def _figures(
    name: str,
    speakers: NDArray[np.str_],
    labels: NDArray[np.integer],
    predicted: NDArray[np.integer],
    inside: NDArray[np.bool_],
    n_classes: int,
) -> GroupFigures:
    def tallies(part: NDArray[np.bool_]) -> list[Tally]:
        return [Tally.of(speakers[part], labels[part], answers[part], n_classes) for answers in predicted]

    own, others = tallies(inside), tallies(~inside)
    both = np.minimum(*(t[0].sizes.sum(0) for t in (own, others))) > 0
    compared = [[Tally(t.speakers, t.counts * np.reshape(both, (-1, 1))) for t in part] for part in (own, others)]
    return GroupFigures(
        name,
        int(inside.sum()),
        len(own[0].speakers),
        metrics.absent_classes(labels[inside], n_classes),
        interval(own, resamples=_RESAMPLES),
        difference_of_parts(compared[0], compared[1], resamples=_RESAMPLES),
    )


def _spread_of(who: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many groups each speaker has, minus one."""
    pairs = np.unique(np.stack([who, groups]), axis=1)
    return np.asarray(np.bincount(pairs[0], minlength=int(who.max()) + 1) - 1)


def _deal_speakers(
    who: NDArray[np.int64],
    labels: NDArray[np.integer],
    right: Floats,
    groups: NDArray[np.int64],
    n_classes: int,
    simulations: int,
    rng: np.random.Generator,
) -> Floats:
    """The largest gap as it is, then with the speakers' groups dealt anew `(1 + simulations,)`."""
    n_speakers, n_groups = int(who.max()) + 1, int(groups.max()) + 1
    cells = who * n_classes + labels
    of_speaker = [
        np.bincount(cells, weights, n_speakers * n_classes).reshape(n_speakers, n_classes)
        for weights in (right, np.ones(len(who)))
    ]
    own = np.zeros(n_speakers, np.int64)
    own[who] = groups
    dealt = np.vstack([own, rng.permuted(np.tile(own, (simulations, 1)), axis=1)])
    sums = np.zeros((2, len(dealt), n_groups, n_classes))
    for group in range(n_groups):
        members = (dealt == group).astype(np.float64)
        for kind, values in enumerate(of_speaker):
            sums[kind, :, group] = members @ values
    return largest_gap(*sums)


def _deal_utterances(
    who: NDArray[np.int64],
    labels: NDArray[np.integer],
    right: Floats,
    groups: NDArray[np.int64],
    n_classes: int,
    simulations: int,
    rng: np.random.Generator,
) -> Floats:
    """The same with the groups dealt anew among the utterances of each speaker and class."""
    n_groups = int(groups.max()) + 1
    strata = who * n_classes + labels
    order = np.argsort(strata, kind="stable")
    strata, right, own, classes = strata[order], right[order], groups[order], labels[order]
    largest = np.empty(simulations + 1)
    for number in range(simulations + 1):
        dealt = own[np.argsort(strata + rng.random(len(strata)))] if number else own
        cells = dealt * n_classes + classes
        sums = [np.bincount(cells, weights, n_groups * n_classes) for weights in (right, np.ones(len(cells)))]
        recognised, sizes = (np.asarray(x, np.float64).reshape(n_groups, n_classes) for x in sums)
        largest[number] = largest_gap(recognised, sizes)
    return largest


def served_differently(comparisons: Sequence[GroupComparison], p_values: Sequence[float]) -> list[list[str]]:
    """A verdict a group, by the corrected `p_values` of the attributes: served worse or better, or within chance."""
    verdicts = []
    for comparison, p in zip(comparisons, p_values, strict=True):
        gaps = [group.from_others.value for group in comparison.groups]
        unlike = [p <= 1 - LEVEL + 1e-12 and abs(gap) >= comparison.threshold for gap in gaps]
        words = ["served worse" if gap < 0 else "served better" for gap in gaps]
        verdicts.append([word if u else "within chance" for word, u in zip(words, unlike, strict=True)])
    return verdicts
