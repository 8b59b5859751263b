"""Across corpora: the matrix of training and test corpora, genotypes taken elsewhere, the published habit."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np

from emodarts.report import plots
from emodarts.report.conditions import Condition, Contender, features_of, label
from emodarts.report.evidence import LATE_DEV, Entry, Evidence
from emodarts.report.figures import Figure
from emodarts.report.sections import Part, Section, Words
from emodarts.report.sheets import Cell, Column, Sheet, shown, slug
from emodarts.results.statistics import Interval, Tally, difference, interval

_BY = {"train": "the training corpus", "test": "the test corpus"}


@dataclass(frozen=True)
class Place:
    """One cell of a matrix: where it was trained, where tested, its figure, and how it was counted."""

    row: str
    column: str
    uar: Interval
    n: int
    speakers: int
    models: int
    own: bool  # speakers of the training corpus, by its folds


def corpora_section(evidence: Evidence) -> Section | None:
    """Train x test matrices of each system, by whose statistics the features were normalised; None without any."""
    parts: list[Part] = []
    clean = [e for e in evidence.entries if e.epoch_rule == LATE_DEV and e.source is None and not e.shared]
    groups: dict[tuple[str, tuple[str, ...], str], list[Entry]] = defaultdict(list)
    for entry in clean:
        groups[entry.system, entry.classes, features_of(entry)].append(entry)
    for (system, classes, features), entries in sorted(groups.items()):
        for normalisation, whose in _BY.items():
            cells = _cells(entries, normalisation)
            if any(not c.own for c in cells):
                title = f"{system}, {features}, {len(classes)} classes, normalised by {whose}"
                parts += _matrix(
                    f"cross {system} {features} {len(classes)} {normalisation}", title, cells, 1 / len(classes)
                )
    if not parts:
        return None
    told = (
        "A row is what was trained on, a column what was tested on. On another corpus every fold's model is tested on "
        "all of it: the UAR of each model, then their mean; intervals resample the foreign speakers with all models at "
        "once. Cells of the training corpus itself (marked *) are the pooled figure over its own folds."
    )
    return Section("Across corpora", (Words(told), *parts))


def transfer_section(conditions: Sequence[Condition], evidence: Evidence) -> Section | None:
    """Genotypes searched on one corpus, trained and tested on another; None without any."""
    corpora = {e.sweep: label(e.train_corpora) for e in evidence.entries}
    wanted = {(c.protocol, c.hashes) for c in conditions for x in c.contenders if x.entry.source is not None}
    groups: dict[tuple[str, tuple[str, ...]], list[Place]] = defaultdict(list)
    for condition in conditions:
        for x in condition.contenders:
            source = x.entry.source
            searched = (
                x.entry.system.startswith("emodarts") and condition.epoch_rule == LATE_DEV and not condition.shared
            )
            if searched and (source is not None or _has_partner(condition, x, conditions, wanted)):
                found = corpora.get(source, source) if source is not None else label(condition.train_corpora)
                groups[x.entry.system, condition.classes].append(
                    _own_cell(x, str(found), condition.test_set, source is None)
                )
    parts: list[Part] = []
    for (system, classes), cells in sorted(groups.items()):
        if any(not c.own for c in cells):
            parts += _matrix(
                f"transfer {system} {len(classes)}", f"{system}, {len(classes)} classes", cells, 1 / len(classes)
            )
    if not parts:
        return None
    told = (
        "A row is where the genotypes were searched, a column where their networks were trained and tested, by that "
        "corpus's own folds: fold i takes the winner of fold i mod k of the source. Marked *: searched on the same "
        "corpus, same fold."
    )
    return Section("Genotype transfer", (Words(told), *parts))


def published_section(evidence: Evidence) -> Section | None:
    """What it is worth to pick the epoch on the test fold; None where nobody did."""
    rows: list[tuple[Cell, ...]] = []
    for entry in evidence.entries:
        if entry.epoch_rule == "best_test":
            rows += _habit(entry, evidence)
    if not rows:
        return None
    columns = (
        Column("protocol"),
        Column("system"),
        Column("epoch"),
        Column("UAR [95 %]", "figure"),
        Column("WAR", "figure"),
        Column("above the last epoch [95 %]", "difference"),
        Column("may be quoted"),
    )
    notes = (
        "Rows of the published protocol have no dev part and one fixed configuration. Picking the epoch on the test fold "
        "is shown for comparison with published figures alone. Other protocols have other utterances: differences between "
        "them are no effect of the rules alone.",
    )
    return Section(
        "The published habit",
        (Sheet("published-habit", "The published protocol beside the clean one", columns, tuple(rows), notes),),
    )


def _habit(entry: Entry, evidence: Evidence) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    last = next((e for e in evidence.entries if _same_but_epoch(e, entry)), None)
    for part in entry.parts("test"):
        best = Contender(entry.system, entry, part)
        if last is not None and part in last.tallies:
            honest = Contender(last.system, last, part)
            rows.append(
                (last.protocol, last.system, "last", interval(honest.tallies), _war(honest), None, "with its protocol")
            )
            rows.append(
                (
                    entry.protocol,
                    entry.system,
                    "best on test",
                    interval(best.tallies),
                    _war(best),
                    difference(best.tallies, honest.tallies),
                    "no",
                )
            )
        else:
            rows.append((entry.protocol, entry.system, "best on test", interval(best.tallies), _war(best), None, "no"))
    for clean in evidence.entries:
        same = clean.train_corpora == entry.train_corpora and clean.epoch_rule == LATE_DEV and not clean.shared
        for part in clean.parts("test") if same else ():
            c = Contender(clean.system, clean, part)
            rows.append(
                (
                    f"{clean.protocol}, {part.test_set}",
                    clean.system,
                    "late, on dev",
                    interval(c.tallies),
                    _war(c),
                    None,
                    "yes",
                )
            )
    return rows


def _same_but_epoch(one: Entry, other: Entry) -> bool:
    alike = (one.sweep, one.system, one.protocol, one.classes) == (
        other.sweep,
        other.system,
        other.protocol,
        other.classes,
    )
    return alike and one.epoch_rule == "last"


def _war(contender: Contender) -> float:
    return mean(t.value("war") for t in contender.tallies)


def _has_partner(condition: Condition, x: Contender, conditions: Sequence[Condition], wanted: set[Any]) -> bool:
    """Whether an ordinary result belongs into the matrix: where genotypes came to, or where they came from."""
    sources = {y.entry.source for c in conditions for y in c.contenders if y.entry.source is not None}
    return (condition.protocol, condition.hashes) in wanted or x.entry.sweep in sources


def _cells(entries: Sequence[Entry], normalisation: str) -> list[Place]:
    found = []
    for entry in entries:
        row = label(entry.train_corpora)
        found += [_own_cell(Contender("", entry, part), row, part.test_set, True) for part in entry.parts("test")]
        for part in entry.parts("cross"):
            if part.normalisation == normalisation:
                models = entry.models(part)
                folds = len({fold for fold, _ in entry.tallies[part]})
                column = part.test_set.removesuffix("/all")
                found.append(Place(row, column, interval(models), _n(models), len(models[0].speakers), folds, False))
    return found


def _own_cell(x: Contender, row: str, test_set: str, own: bool) -> Place:
    tallies = x.tallies
    corpus, _, rest = test_set.partition("/")
    column = corpus if rest in ("", "test", "all") else test_set
    folds = len({fold for fold, _ in x.entry.tallies[x.part]})
    return Place(row, column, interval(tallies), _n(tallies), len(tallies[0].speakers), folds, own)


def _n(tallies: Sequence[Tally]) -> int:
    return round(float(tallies[0].counts.sum()))


def _matrix(name: str, title: str, cells: Sequence[Place], chance: float) -> list[Part]:
    """A heat map and the same as a table; the first cell of a place counts, the others stand in the table alone."""
    rows, columns = (sorted({getattr(c, side) for c in cells}) for side in ("row", "column"))
    values = np.full((len(rows), len(columns)), np.nan)
    texts = [[""] * len(columns) for _ in rows]
    for cell in reversed(cells):
        r, c = rows.index(cell.row), columns.index(cell.column)
        values[r, c] = cell.uar.value
        limits = f"\n{shown(cell.uar, 'figure').partition(' ')[2]}"
        texts[r][c] = shown(cell.uar.value, "figure") + ("*" if cell.own else "") + limits
    told = "; ".join(f"{c.row} to {c.column} {c.uar.value:.3f}" for c in cells)
    figure = Figure(
        slug(name),
        f"UAR by training (rows) and test corpus (columns), {title}. {told}",
        lambda canvas: plots.heat(canvas, values, texts, rows, columns, ("trained on", "tested on"), (chance, 1.0)),
        width=2.2 + 1.25 * len(columns),
        height=1.0 + 0.62 * len(rows),
    )
    head = ("trained on", "tested on", "UAR [95 %]", "chance", "test utterances", "test speakers", "models")
    kinds = ("text", "text", "figure", "figure", "count", "count", "count")
    table: list[tuple[Cell, ...]] = [
        (c.row + ("*" if c.own else ""), c.column, c.uar, chance, c.n, c.speakers, c.models)
        for c in sorted(cells, key=lambda c: (c.row, c.column))
    ]
    columns_ = tuple(Column(t, k) for t, k in zip(head, kinds, strict=True))  # type: ignore[arg-type]
    return [figure, Sheet(f"{slug(name)}-values", title, columns_, tuple(table))]
