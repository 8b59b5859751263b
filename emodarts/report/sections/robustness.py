"""Section "Robustness": the same networks on their test recordings with noise, or by telephone. It chose nothing."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from emodarts.report.comparisons import ComparedSystem, Comparison
from emodarts.report.elements import Element, Paragraph, Section
from emodarts.report.figures import Figure, colour
from emodarts.report.report_data import EvaluatedUnit, ReportData, count_predictions
from emodarts.report.sections.systems import over_speakers
from emodarts.report.tables import Cell, ReportTable, format_cell, head
from emodarts.results.statistics import Interval, Tally, compare_systems

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

ORDER = ("noise20", "noise10", "noise0", "telephone")
TITLES = {"noise20": "noise, 20 dB", "noise10": "noise, 10 dB", "noise0": "noise, 0 dB", "telephone": "telephone"}
_COLUMNS = head("system | condition | UAR [95 %]: figure | from clean [95 %]: difference | left of it: figure")


def robustness_section(data: ReportData, comparisons: Sequence[Comparison]) -> Section | None:
    """A table and a curve each comparison; None where no sweep tested other conditions (`robustness`)."""
    elements: list[Element] = []
    for number, comparison in enumerate(comparisons):
        rows: list[tuple[Cell, ...]] = []
        lines: list[tuple[str, int, list[tuple[str, Interval]]]] = []
        for system in (s for s in comparison.systems if not s.results.is_ensemble):
            degraded = _tallies(data, system)
            if not degraded:
                continue
            clean = over_speakers(system.tallies)
            points = [("clean", clean)]
            rows.append((system.name, "clean", clean, None, None))
            for condition in sorted(degraded, key=lambda name: (*ORDER, name).index(name)):
                uar, drop = over_speakers(degraded[condition]), compare_systems(degraded[condition], system.tallies)
                chance = 1 / len(comparison.classes)
                left = (uar.value - chance) / (clean.value - chance) if clean.value > chance else None
                rows.append((system.name, TITLES.get(condition, condition), uar, drop, left))
                points.append((TITLES.get(condition, condition), uar))
            lines.append((system.name, system.colour, points))
        if rows:
            elements += [Paragraph(_in_words(lines[0]), "lead"), _figure(lines, comparison, number)]
            notes = (
                "Noise: white or pink, so far below the active speech. Telephone: 8 kHz, 300 to 3,400 Hz, mu-law. Left "
                "of it: the part of the distance from chance to the clean figure. Differences are paired by speaker.",
            )
            table = ReportTable(f"robustness-{number}", comparison.title, _COLUMNS, tuple(rows), notes)
            elements.append(table)
    return Section("Robustness", tuple(elements)) if elements else None


def _tallies(data: ReportData, system: ComparedSystem) -> dict[str, list[Tally]]:
    """Condition -> a tally a seed, all folds pooled."""
    results, part = system.results, system.part
    record = data.sweep_record(results.sweep)
    if not record.settings.get("robustness"):
        return {}
    (sweep,) = (tables for tables in data.results.parts if tables.name == results.sweep)
    trials = {winner.key for winner in results.winners.values()}
    classes = {EvaluatedUnit.of(row): results.classes for row in results.rows}
    by_condition: dict[str, list[Tally]] = defaultdict(list)
    for condition in ORDER:
        counted = count_predictions(sweep, trials, classes, condition)
        units = {(unit.fold, unit.seed): tallies[part] for unit, tallies in counted.items() if part in tallies}
        for seed in results.seeds(part):
            of_folds = [units.get((fold, seed)) for fold in results.folds_of(part)]
            if all(tally is not None for tally in of_folds):
                by_condition[condition].append(results.pool([tally for tally in of_folds if tally is not None]))
    return dict(by_condition)


def _in_words(line: tuple[str, int, list[tuple[str, Interval]]]) -> str:
    name, _, points = line
    (_, clean), *others = points
    worst, uar = min(others, key=lambda point: point[1].value)
    return (
        f"{name} falls from UAR {format_cell(clean.value, 'figure')} to {format_cell(uar.value, 'figure')} under the "
        f"worst condition, {worst}. Nothing was chosen, and nothing trained, on these recordings."
    )


def _figure(
    lines: Sequence[tuple[str, int, list[tuple[str, Interval]]]], comparison: Comparison, number: int
) -> Figure:
    chance = 1 / len(comparison.classes)
    return Figure(
        f"robustness-{number}",
        f"UAR under other conditions: {comparison.title}",
        "; ".join(f"{s}: " + ", ".join(f"{title} {uar.value:.3f}" for title, uar in points) for s, _, points in lines),
        lambda canvas: draw_conditions(canvas, lines, chance),
    )


def draw_conditions(
    canvas: "Canvas", lines: Sequence[tuple[str, int, list[tuple[str, Interval]]]], chance: float
) -> None:
    """A line a system over the conditions, with intervals; chance as a dashed line."""
    axes = canvas.subplots()
    for place, (name, number, points) in enumerate(lines):
        x = [i + 0.06 * (place - (len(lines) - 1) / 2) for i in range(len(points))]
        axes.plot(x, [uar.value for _, uar in points], "-o", color=colour(number), markersize=4, label=name)
        axes.vlines(x, [u.low for _, u in points], [u.high for _, u in points], color=colour(number), alpha=0.5)
    axes.axhline(chance, linestyle=(0, (4, 3)), linewidth=0.8, color=colour(6))
    titles = max((points for *_, points in lines), key=len)
    axes.set_xticks(range(len(titles)), [title for title, _ in titles])
    axes.set_ylabel("UAR")
    axes.legend(fontsize=7.5)
