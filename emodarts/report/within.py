"""Within a corpus: systems side by side, fold by fold, class by class, speaker by speaker."""

import json
from collections.abc import Sequence
from statistics import mean

import numpy as np

from emodarts import metrics
from emodarts.report import plots
from emodarts.report.conditions import Condition, Contender
from emodarts.report.figures import Figure
from emodarts.report.headline import Headline, headline_sheet, worth_sheet
from emodarts.report.sections import Collapsible, Paragraph, Part, Section
from emodarts.report.sheets import Cell, Column, Sheet, slug

_WINNERS = (
    Column("system"),
    Column("fold"),
    Column("trial", "count"),
    Column("of", "count"),
    Column("dev UAR", "figure"),
    Column("test UAR", "figure"),
    Column("parameters", "count"),
    Column("configuration"),
)
_OPEN = 4  # systems whose confusion matrices are shown at once


def systems_section(headlines: Sequence[Headline]) -> Section:
    """The headline tables, each with its figure."""
    parts: list[Part] = []
    for number, made in enumerate(headlines):
        sheet = headline_sheet(made)
        parts += [sheet, _forest(made, f"{sheet.name}-{number}")]
        if any(s.contender.entry.dev_tallies for s in made.standings):
            parts.append(Collapsible("Dev beside test, and how much seeds differ", (worth_sheet(made),)))
    if not headlines:
        parts.append(
            Paragraph("No test figures by the clean rules: nothing is finished, or the labels are not public.")
        )
    if len(headlines) > 1:
        told = (
            "Each table has one protocol, one set of folds (by hash), classes and rules. Figures of different tables "
            "must not be compared."
        )
        parts.insert(0, Paragraph(told, "warning"))
    return Section("Systems", tuple(parts))


def folds_section(conditions: Sequence[Condition]) -> Section:
    """Winners and figures of each fold."""
    return Section("Fold by fold", tuple(part for n, c in enumerate(conditions) for part in _folds(c, n)))


def classes_section(conditions: Sequence[Condition]) -> Section | None:
    """Confusion matrices, counted over all seeds and divided by their number; None without any."""
    if not conditions:
        return None
    parts: list[Part] = [Paragraph("Counts are means over seeds, all folds pooled. Rows are true classes.")]
    for number, condition in enumerate(conditions):
        drawn = [_confusion(condition, c, f"confusion-{number}-{i}") for i, c in enumerate(condition.contenders)]
        parts += [x for pair in drawn[:_OPEN] for x in pair]
        if drawn[_OPEN:]:
            rest = tuple(x for pair in drawn[_OPEN:] for x in pair)
            parts.append(Collapsible(f"The other systems: {condition.title}", rest))
    return Section("Class by class", tuple(parts))


def speakers_section(conditions: Sequence[Condition]) -> Section:
    """How much speakers differ, which is what the intervals are made of."""
    parts: list[Part] = []
    for number, condition in enumerate(conditions):
        rows = [(c, _by_speaker(c)) for c in condition.contenders]
        parts += [
            _strips(condition, rows, number),
            Collapsible("The values", (_speaker_sheet(condition, rows, number),)),
        ]
    return Section("Speaker by speaker", tuple(parts))


def _forest(made: Headline, name: str) -> Figure:
    names = [s.contender.name for s in made.standings]
    colours = [s.contender.colour for s in made.standings]
    values = [s.uar for s in made.standings]
    chance = 1 / len(made.condition.classes)
    told = "; ".join(f"{n} {v.value:.3f}" for n, v in zip(names, values, strict=True))
    return Figure(
        f"intervals-{name}",
        f"UAR with its interval: {made.condition.title}",
        told,
        lambda canvas: plots.forest(canvas, names, colours, values, chance),
        height=1.0 + 0.36 * len(names),
    )


def _folds(condition: Condition, number: int) -> list[Part]:
    """Test UAR fold by fold, and the winners with their dev figures."""
    folds = sorted({fold for fold, _ in condition.hashes})
    first = condition.contenders[0]
    test = [
        (fold, *(mean(r["uar"] for r in c.entry.rows_of(c.part, fold)) for c in condition.contenders)) for fold in folds
    ]
    columns = (Column("fold"), Column("n", "count"), *(Column(c.name, "figure") for c in condition.contenders))
    rows: list[tuple[Cell, ...]] = [
        (str(fold), first.entry.rows_of(first.part, fold)[0]["n"], *figures) for fold, *figures in test
    ]
    name = slug(f"folds {number} {condition.protocol} {condition.test_set}")
    notes = ("Test UAR of each fold's winner, mean over seeds.",)
    won: list[tuple[Cell, ...]] = []
    for c in condition.contenders:
        for fold in folds:
            w, row = c.entry.winners[fold], c.entry.rows_of(c.part, fold)[0]
            parameters = json.dumps(w.parameters, sort_keys=True)
            won.append((c.name, str(fold), w.trial, w.of, w.dev_uar, row["uar"], row["parameters"], parameters))
    how = "by the mean over the dev parts of all folds" if condition.shared else "on the fold's dev part alone"
    about = (f"Chosen {how} among so many configurations. Test figures here are those of the first seed.",)
    winners = Sheet(f"{name}-winners", f"Winners: {condition.title}", _WINNERS, tuple(won), about)
    return [
        Sheet(name, condition.title, columns, tuple(rows), notes),
        Collapsible("Winners and their dev figures", (winners,)),
    ]


def _confusion(condition: Condition, contender: Contender, name: str) -> tuple[Figure, Collapsible]:
    counts = np.mean([t.confusion() for t in contender.tallies], axis=0)
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(1, keepdims=True)
    classes = condition.classes
    title = f"{contender.name}: {condition.title}"
    recalls = ", ".join(f"{c} {x:.2f}" for c, x in zip(classes, np.diag(shares), strict=True))
    figure = Figure(
        name,
        title,
        f"Recalls: {recalls}",
        lambda canvas: plots.confusions(canvas, counts, shares, classes),
        width=7.2,
        height=1.3 + 0.42 * len(classes),
    )
    columns = (Column("true class"), *(Column(c, "count") for c in classes), Column("n", "count"))
    rows: list[tuple[Cell, ...]] = [
        (c, *(float(x) for x in row), float(row.sum())) for c, row in zip(classes, counts, strict=True)
    ]
    return figure, Collapsible(
        f"The counts of {contender.name}", (Sheet(f"{name}-counts", title, columns, tuple(rows)),)
    )


def _by_speaker(contender: Contender) -> dict[str, float]:
    """Mean over seeds of the UAR over those classes that a speaker has."""
    each = [metrics.uar_of(t.counts) for t in contender.tallies]
    return dict(zip(contender.tallies[0].speakers, np.mean(each, axis=0).tolist(), strict=True))


def _strips(condition: Condition, rows: list[tuple[Contender, dict[str, float]]], number: int) -> Figure:
    names, colours = [c.name for c, _ in rows], [c.colour for c, _ in rows]
    values = [list(found.values()) for _, found in rows]
    return Figure(
        f"speakers-{number}",
        condition.title,
        f"UAR of each of {len(values[0])} test speakers, a row a system",
        lambda canvas: plots.strips(canvas, names, colours, values),
        height=0.9 + 0.45 * len(names),
    )


def _speaker_sheet(condition: Condition, rows: list[tuple[Contender, dict[str, float]]], number: int) -> Sheet:
    speakers = sorted({s for _, found in rows for s in found})
    columns = (Column("speaker"), *(Column(c.name, "figure") for c, _ in rows))
    values: list[tuple[Cell, ...]] = [(s, *(found.get(s) for _, found in rows)) for s in speakers]
    notes = ("The mean recall over the classes that the speaker has.",)
    return Sheet(f"speakers-{number}", condition.title, columns, tuple(values), notes)
