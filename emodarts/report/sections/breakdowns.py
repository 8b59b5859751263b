"""Sections "Fold by fold", "Class by class" and "Speaker by speaker": the systems of each comparison, broken down."""

import json
from collections.abc import Sequence

import numpy as np

from emodarts import metrics
from emodarts.report import plots
from emodarts.report.comparisons import ComparedSystem, Comparison
from emodarts.report.elements import Collapsible, Element, Paragraph, Section
from emodarts.report.figures import Figure
from emodarts.report.tables import Cell, Column, ReportTable, head, slug

_WINNER_COLUMNS = head(
    "system | fold | trial: count | of: count | dev UAR: figure | test UAR: figure | parameters: count | configuration"
)
_OPEN = 4  # systems whose confusion matrices are shown at once


def folds_section(comparisons: Sequence[Comparison]) -> Section:
    """Winners and figures of each fold."""
    elements = [element for number, c in enumerate(comparisons) for element in _fold_tables(c, number)]
    return Section("Fold by fold", tuple(elements))


def classes_section(comparisons: Sequence[Comparison]) -> Section | None:
    """Confusion matrices, counted over all seeds and divided by their number; None without any."""
    if not comparisons:
        return None
    elements: list[Element] = [Paragraph("Counts are means over seeds, all folds pooled. Rows are true classes.")]
    for number, comparison in enumerate(comparisons):
        pairs = [_confusion(comparison, s, f"confusion-{number}-{i}") for i, s in enumerate(comparison.systems)]
        elements += [element for pair in pairs[:_OPEN] for element in pair]
        if pairs[_OPEN:]:
            rest = tuple(element for pair in pairs[_OPEN:] for element in pair)
            elements.append(Collapsible(f"The other systems: {comparison.title}", rest))
    return Section("Class by class", tuple(elements))


def speakers_section(comparisons: Sequence[Comparison]) -> Section:
    """How much speakers differ, which is what the intervals are made of."""
    elements: list[Element] = []
    for number, comparison in enumerate(comparisons):
        uars = [_uar_by_speaker(system) for system in comparison.systems]
        elements += [
            _speakers_figure(comparison, uars, number),
            Collapsible("The values", (_speakers_table(comparison, uars, number),)),
        ]
    return Section("Speaker by speaker", tuple(elements))


def _fold_tables(comparison: Comparison, number: int) -> list[Element]:
    """Test UAR fold by fold, and the winners with their dev figures."""
    first = comparison.systems[0]
    uars = [system.results.by_fold(system.part, "uar") for system in comparison.systems]
    rows: list[tuple[Cell, ...]] = []
    winners: list[tuple[Cell, ...]] = []
    for fold in comparison.folds:
        rows.append((str(fold), first.results.rows_of(first.part, fold)[0]["n"], *(uar[fold] for uar in uars)))
    for system in comparison.systems:
        for fold in comparison.folds:
            w, row = system.results.winners[fold], system.results.rows_of(system.part, fold)[0]
            is_ensemble = system.results.is_ensemble
            configuration = ", ".join(row["members"]) if is_ensemble else json.dumps(w.parameters, sort_keys=True)
            figures = (w.dev_uar, row["uar"], row["parameters"])
            winners.append((system.name, str(fold), None if is_ensemble else w.trial, w.of, *figures, configuration))
    columns = (*head("fold | n: count"), *(Column(s.name, "figure") for s in comparison.systems))
    name = slug(f"folds {number} {comparison.protocol} {comparison.test_set}")
    how = "by the mean over the dev parts of all folds" if comparison.shared else "on the fold's dev part alone"
    notes = (f"Chosen {how} among so many configurations. Test figures here are those of the first seed.",)
    title = f"Winners: {comparison.title}"
    winners_table = ReportTable(f"{name}-winners", title, _WINNER_COLUMNS, tuple(winners), notes)
    about = ("Test UAR of each fold's winner, mean over seeds.",)
    return [
        ReportTable(name, comparison.title, columns, tuple(rows), about),
        Collapsible("Winners and their dev figures", (winners_table,)),
    ]


def _confusion(comparison: Comparison, system: ComparedSystem, name: str) -> tuple[Figure, Collapsible]:
    counts = np.mean([tally.confusion() for tally in system.tallies], axis=0)
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(1, keepdims=True)
    classes = comparison.classes
    title = f"{system.name}: {comparison.title}"
    recalls = ", ".join(f"{c} {x:.2f}" for c, x in zip(classes, np.diag(shares), strict=True))
    figure = Figure(
        name,
        title,
        f"Recalls: {recalls}",
        lambda canvas: plots.draw_confusion(canvas, counts, shares, classes),
        width=7.2,
        height=1.3 + 0.42 * len(classes),
    )
    columns = (Column("true class"), *(Column(c, "count") for c in classes), Column("n", "count"))
    rows: list[tuple[Cell, ...]] = [
        (c, *(float(x) for x in row), float(row.sum())) for c, row in zip(classes, counts, strict=True)
    ]
    table = ReportTable(f"{name}-counts", title, columns, tuple(rows))
    return figure, Collapsible(f"The counts of {system.name}", (table,))


def _uar_by_speaker(system: ComparedSystem) -> dict[str, float]:
    """Mean over seeds of the UAR over those classes that a speaker has."""
    tallies = system.tallies
    uar = np.mean([metrics.uar_of(tally.counts) for tally in tallies], axis=0)
    return dict(zip(tallies[0].speakers, uar.tolist(), strict=True))


def _speakers_figure(comparison: Comparison, uars: Sequence[dict[str, float]], number: int) -> Figure:
    names, colours = [s.name for s in comparison.systems], [s.colour for s in comparison.systems]
    values = [list(by_speaker.values()) for by_speaker in uars]
    return Figure(
        f"speakers-{number}",
        comparison.title,
        f"UAR of each of {len(values[0])} test speakers, a row a system",
        lambda canvas: plots.draw_strips(canvas, names, colours, values),
        height=0.9 + 0.45 * len(names),
    )


def _speakers_table(comparison: Comparison, uars: Sequence[dict[str, float]], number: int) -> ReportTable:
    speakers = sorted({speaker for by_speaker in uars for speaker in by_speaker})
    columns = (Column("speaker"), *(Column(s.name, "figure") for s in comparison.systems))
    rows: list[tuple[Cell, ...]] = [(speaker, *(uar.get(speaker) for uar in uars)) for speaker in speakers]
    notes = ("The mean recall over the classes that the speaker has.",)
    return ReportTable(f"speakers-{number}", comparison.title, columns, tuple(rows), notes)
