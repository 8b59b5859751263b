"""How sure a figure is: tallies of predictions, intervals over speakers, comparisons, baselines, selection.

docs/statistics.md says which formula stands behind what, and how to read it.
"""

from emodarts.results.statistics.comparisons import (
    MARGIN,
    Difference,
    dev_test_drop,
    difference,
    difference_over_seeds,
    holm,
    optimism,
)
from emodarts.results.statistics.intervals import Interval, interval
from emodarts.results.statistics.over_corpora import ENOUGH_CORPORA, CorporaMean, mean_over_corpora
from emodarts.results.statistics.selection import best, nested_choice, shared_choice
from emodarts.results.statistics.summaries import (
    Metrics,
    Spread,
    chance,
    compute_metrics,
    majority,
    mean_metrics,
    spread,
)
from emodarts.results.statistics.tallies import Metric, Tally, pooled
from emodarts.results.statistics.verdicts import ENOUGH_SEEDS, SIGNIFICANT, Verdict, compare_systems, judge

__all__ = [
    "ENOUGH_CORPORA",
    "ENOUGH_SEEDS",
    "MARGIN",
    "SIGNIFICANT",
    "CorporaMean",
    "Difference",
    "Interval",
    "Metric",
    "Metrics",
    "Spread",
    "Tally",
    "Verdict",
    "best",
    "chance",
    "compare_systems",
    "compute_metrics",
    "dev_test_drop",
    "difference",
    "difference_over_seeds",
    "holm",
    "interval",
    "judge",
    "majority",
    "mean_metrics",
    "mean_over_corpora",
    "nested_choice",
    "optimism",
    "pooled",
    "shared_choice",
    "spread",
]
