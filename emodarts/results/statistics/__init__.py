"""How sure a figure is: tallies of predictions, intervals over speakers, comparisons, baselines, selection.

docs/statistics.md says which formula stands behind what, and how to read it.
"""

from emodarts.results.statistics.calibration import (
    Coverage,
    ReliabilityBin,
    brier_score,
    coverage_curve,
    fit_temperature,
    reliability,
    with_temperature,
)
from emodarts.results.statistics.comparisons import (
    MARGIN,
    Difference,
    dev_test_drop,
    difference,
    difference_of_parts,
    difference_over_seeds,
    holm,
    optimism,
)
from emodarts.results.statistics.groups import GroupComparison, GroupFigures, compare_groups, served_differently
from emodarts.results.statistics.intervals import Interval, interval
from emodarts.results.statistics.label_errors import DoubtfulLabel, find_label_errors
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
    "Coverage",
    "Difference",
    "DoubtfulLabel",
    "GroupComparison",
    "GroupFigures",
    "Interval",
    "Metric",
    "Metrics",
    "ReliabilityBin",
    "Spread",
    "Tally",
    "Verdict",
    "best",
    "brier_score",
    "chance",
    "compare_groups",
    "compare_systems",
    "compute_metrics",
    "coverage_curve",
    "dev_test_drop",
    "difference",
    "difference_of_parts",
    "difference_over_seeds",
    "find_label_errors",
    "fit_temperature",
    "holm",
    "interval",
    "judge",
    "majority",
    "mean_metrics",
    "mean_over_corpora",
    "nested_choice",
    "optimism",
    "pooled",
    "reliability",
    "served_differently",
    "shared_choice",
    "spread",
    "with_temperature",
]
