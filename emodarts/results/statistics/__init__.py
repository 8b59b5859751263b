"""How sure a figure is: tallies of predictions, intervals over speakers, comparisons, baselines, selection.

docs/statistics.md says which formula stands behind what, and how to read it.
"""

from emodarts.results.statistics.comparisons import (
    Difference,
    dev_test_drop,
    difference,
    difference_over_seeds,
    holm,
    optimism,
)
from emodarts.results.statistics.intervals import Interval, interval
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

__all__ = [
    "Difference",
    "Interval",
    "Metric",
    "Metrics",
    "Spread",
    "Tally",
    "best",
    "chance",
    "compute_metrics",
    "dev_test_drop",
    "difference",
    "difference_over_seeds",
    "holm",
    "interval",
    "majority",
    "mean_metrics",
    "nested_choice",
    "optimism",
    "pooled",
    "shared_choice",
    "spread",
]
