"""Section "Trust": whether the probabilities mean what they say, and what is gained by leaving the unsure out."""

from collections.abc import Sequence

import numpy as np

from emodarts import metrics
from emodarts.report.elements import Element, Paragraph, Section
from emodarts.report.figures import Figure
from emodarts.report.panels import draw_trust
from emodarts.report.predictions import PredictedComparison, SystemPredictions
from emodarts.report.sections.systems import clip_to_range
from emodarts.report.tables import Cell, ReportTable, format_cell, head
from emodarts.results.statistics import Coverage, brier_score, coverage_curve, reliability

_FRACTIONS = tuple(x / 10 for x in range(10, 1, -1))  # of the utterances, from all of them on
_FAR = 0.02  # between mean confidence and accuracy
_NAMED = 0.7  # the fraction that the words speak of
_COLUMNS = head(
    "system | ECE: figure | ECE, temperature of dev: figure | Brier: figure | Brier, temperature of dev: figure | "
    "temperature: figure | UAR of all: figure | of the surest 90 %: figure | of the surest 70 %: figure | "
    "of the surest 50 %: figure | sure for 70 %: figure"
)
_TABLE_FRACTIONS = (0.9, _NAMED, 0.5)
_NOTES = (
    "ECE: how far the largest probability is from how often it is right (15 bins, all folds pooled). Brier: mean "
    "squared error of all probabilities, 0 to 2. Both are means over seeds; smaller is better.",
    "The temperature is fitted on each fold's dev part, for each seed, and applied to that fold's test part; above 1 "
    "the system was too sure of itself. It changes no answer.",
    "Of the surest: only so many utterances are answered, by the largest probability as the network gives it; "
    "intervals are over speakers. The last column is the least probability that is then answered, for `--reject` of "
    "an exported model's predict.py.",
)


def trust_section(predicted: Sequence[PredictedComparison]) -> Section | None:
    """Reliability, ECE, Brier and coverage of each comparison's systems; None without predictions."""
    elements: list[Element] = []
    for number, p in enumerate(predicted):
        tests = [(s.name, s.test) for s in p.systems]
        curves = {name: coverage_curve(t.speakers, t.labels, t.probabilities, _FRACTIONS) for name, t in tests}
        first = p.systems[0]
        elements += [Paragraph(_in_words(first, curves[first.name]), "lead"), _figure(p, curves, number)]
        rows = tuple(_row(s, curves[s.name]) for s in p.systems)
        elements.append(ReportTable(f"trust-{number}", p.comparison.title, _COLUMNS, rows, _NOTES))
    return Section("Trust", tuple(elements)) if elements else None


def mean_ece(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean over seeds of the ECE; `probabilities (seeds, rows, classes)`."""
    return float(np.mean([metrics.expected_calibration_error(labels, of_seed) for of_seed in probabilities]))


def _in_words(system: SystemPredictions, curve: Sequence[Coverage]) -> str:
    named = _at(curve, _NAMED)
    of_all, of_surest = (format_cell(clip_to_range(point.uar), "figure") for point in (curve[0], named))
    ece = mean_ece(system.test.labels, system.test.probabilities)
    right = system.test.probabilities.argmax(2) == system.test.labels
    gap = system.test.probabilities.max(2).mean() - right.mean()
    how = "too sure of itself" if gap > _FAR else "less sure than it may be" if gap < -_FAR else "as sure as it may be"
    return (
        f"{system.name} is {how}: its probabilities are {format_cell(ece, 'figure')} from how often it is right, on "
        f"average (ECE). Of the {100 * _NAMED:.0f} % it is surest of, UAR {of_surest}; of all, {of_all}. To have only "
        f"those answered: predict.py --reject {named.threshold:.2f}."
    )


def _row(system: SystemPredictions, curve: Sequence[Coverage]) -> tuple[Cell, ...]:
    test, scaled = system.test, system.calibrated
    figures: list[Cell] = []
    for score in (metrics.expected_calibration_error, brier_score):
        for probabilities in (test.probabilities, scaled):
            values = None if probabilities is None else [score(test.labels, of_seed) for of_seed in probabilities]
            figures.append(None if values is None else float(np.mean(values)))
    temperature = float(np.mean(list(system.temperatures.values()))) if scaled is not None else None
    parts = [clip_to_range(_at(curve, fraction).uar) for fraction in (1.0, *_TABLE_FRACTIONS)]
    return (system.name, *figures, temperature, *parts, _at(curve, _NAMED).threshold)


def _at(curve: Sequence[Coverage], fraction: float) -> Coverage:
    return next(point for point in curve if abs(point.fraction - fraction) < 1e-9)


def _figure(predicted: PredictedComparison, curves: dict[str, tuple[Coverage, ...]], number: int) -> Figure:
    first = predicted.systems[0]
    seeds = len(first.test.probabilities)
    labels = np.tile(first.test.labels, seeds)
    kinds = [(first.name, first.test.probabilities), (f"{first.name}, temperature of dev", first.calibrated)]
    bins = [(name, reliability(labels, p.reshape(len(labels), -1), 10)) for name, p in kinds if p is not None]
    lines = [(s.name, s.system.colour, curves[s.name]) for s in predicted.systems]
    return Figure(
        f"trust-{number}",
        f"How sure, how often right; and the UAR of the surest: {predicted.comparison.title}",
        "UAR of the surest 70 %: " + "; ".join(f"{s} {_at(c, _NAMED).uar.value:.3f}" for s, c in curves.items()),
        lambda canvas: draw_trust(canvas, bins, lines),
        height=3.2,
    )
