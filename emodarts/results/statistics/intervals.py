"""Intervals of figures over speakers, since utterances of one speaker are no independent draws."""

from collections.abc import Sequence
from dataclasses import dataclass

from emodarts.results.statistics.estimates import (
    LEVEL,
    RESAMPLES,
    Bootstrap,
    Estimate,
    SignedTallies,
    jackknife,
    same_speakers,
)
from emodarts.results.statistics.tallies import Metric, Tally


@dataclass(frozen=True)
class Interval:
    """A figure and its interval; `low` and `high` are NaN where there is only one speaker."""

    value: float
    low: float
    high: float


def interval(
    tallies: Sequence[Tally], metric: Metric = "uar", level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The pooled figure of each tally, their mean, and its interval over the speakers that all tallies share.

    The tallies are those of a system's seeds, each with all folds pooled; for role `cross` those of its fold models
    (and seeds), so that a foreign speaker is drawn with all models' predictions of its utterances. Under 30 speakers
    `value +- t(n - 1) * jackknife error`, from 30 on the percentile bootstrap (`estimates`).
    Raises EmodartsError where the tallies differ in their speakers, or there are none.
    """
    same_speakers(tallies)
    estimate = Estimate.of(metric, SignedTallies(tuple(tallies)))
    if estimate.few_speakers():
        half = jackknife(estimate).half(level)
        return Interval(estimate.value, estimate.value - half, estimate.value + half)
    return Interval(estimate.value, *Bootstrap.of(estimate, resamples, seed).limits(level))
