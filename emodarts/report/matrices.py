"""Matrices of corpora: trained on one and tested on another; genotypes searched on one and trained on another."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from emodarts.records import LATE_DEV
from emodarts.report import plots
from emodarts.report.conditions import Condition, Contender, features_of, label
from emodarts.report.figures import Figure
from emodarts.report.headline import over_speakers
from emodarts.report.report_data import Entry, ReportData
from emodarts.report.sections import Paragraph, Part, Section
from emodarts.report.sheets import Cell, Column, Sheet, shown, slug
from emodarts.results.statistics import Interval

_BY = {"train": "the training corpus", "test": "the test corpus"}
_HEAD = (
    Column("sweep"),
    Column("system"),
    Column("row"),
    Column("tested on"),
    Column("UAR [95 %]", "figure"),
    Column("chance", "figure"),
    Column("test utterances", "count"),
    Column("test speakers", "count"),
    Column("models", "count"),
)


@dataclass(frozen=True)
class Place:
    """One cell of a matrix; `own`: from the corpus itself, by its own folds."""

    sweep: str
    system: str
    row: str
    column: str
    uar: Interval
    utterances: int
    speakers: int
    models: int
    own: bool


def corpora_section(evidence: ReportData) -> Section | None:
    """Train x test matrices, by whose statistics the features were normalised; None without another corpus."""
    groups: dict[tuple[tuple[str, ...], str], list[Entry]] = defaultdict(list)
    for entry in evidence.entries:
        if entry.epoch_rule == LATE_DEV and entry.source is None and not entry.shared:
            groups[entry.classes, features_of(entry)].append(entry)
    parts: list[Part] = []
    for (classes, features), entries in sorted(groups.items()):
        for normalisation, whose in _BY.items():
            places = [place for entry in entries for place in _places(entry, normalisation)]
            title = f"Normalised by {whose} ({features}, {len(classes)} classes)"
            name = f"cross {features} {len(classes)} {normalisation}"
            parts += _matrix(name, title, "trained on", places, 1 / len(classes))
    told = (
        "A row is what was trained on, a column what was tested on. On another corpus every fold's model is tested on "
        "all of it: the UAR of each model, then their mean; intervals resample the foreign speakers with all models at "
        "once; utterances of unknown speakers count as those of one. Marked *: the training corpus itself, the pooled "
        "figure over its own folds."
    )
    return Section("Across corpora", (Paragraph(told), *parts)) if parts else None


def transfer_section(conditions: Sequence[Condition], evidence: ReportData) -> Section | None:
    """Genotypes searched on one corpus, trained and tested on another; None without any."""
    corpora = {e.sweep: label(e.train_corpora) for e in evidence.entries}
    sources = {e.source for e in evidence.entries if e.source is not None}
    groups: dict[tuple[str, ...], list[Place]] = defaultdict(list)
    for condition in conditions:
        came = any(x.entry.source is not None for x in condition.contenders)
        for x in condition.contenders:
            searched = x.entry.system.startswith("emodarts") and not condition.shared
            if searched and (came or x.entry.sweep in sources):
                source = x.entry.source
                row = label(condition.train_corpora) if source is None else corpora.get(source, source)
                groups[condition.classes].append(_own(x, row, source is None))
    parts: list[Part] = []
    for classes, found in sorted(groups.items()):
        taken = {place.system for place in found if not place.own}
        places = [place for place in found if place.system in taken]
        title = f"Searched here, trained there ({len(classes)} classes)"
        parts += _matrix(f"transfer {len(classes)}", title, "searched on", places, 1 / len(classes))
    told = (
        "A row is where the genotypes were searched, a column where their networks were trained and tested, by that "
        "corpus's own folds: fold i takes the winner of fold i mod k of the source. Marked *: searched on the same "
        "corpus, same fold."
    )
    return Section("Genotype transfer", (Paragraph(told), *parts)) if parts else None


def _places(entry: Entry, normalisation: str) -> list[Place]:
    row = label(entry.train_corpora)
    found = [_own(Contender(entry.system, 0, entry, part), row, True) for part in entry.parts("test")]
    for part in entry.parts("cross"):
        if part.normalisation == normalisation:
            models = entry.models(part)
            sizes = (round(float(models[0].counts.sum())), len(models[0].speakers))
            folds = len({fold for fold, _ in entry.tallies[part]})
            column = part.test_set.removesuffix("/all")
            found.append(Place(entry.sweep, entry.system, row, column, over_speakers(models), *sizes, folds, False))
    return found


def _own(x: Contender, row: str, own: bool) -> Place:
    tallies = x.tallies
    sizes = (round(float(tallies[0].counts.sum())), len(tallies[0].speakers))
    folds = len({fold for fold, _ in x.entry.tallies[x.part]})
    column = x.part.test_set.removesuffix("/test")
    return Place(x.entry.sweep, x.entry.system, row, column, over_speakers(tallies), *sizes, folds, own)


def _matrix(name: str, title: str, side: str, places: Sequence[Place], chance: float) -> list[Part]:
    """A heat map a system and the same as a table; nothing where no cell is off the diagonal."""
    if all(place.own for place in places):
        return []
    places = _told_apart(places)
    rows, columns = sorted({p.row for p in places}), sorted({p.column for p in places})
    systems = list(dict.fromkeys(p.system for p in sorted(places, key=lambda p: (p.system != "emodarts", p.system))))
    panels = [_panel([p for p in places if p.system == system], rows, columns) for system in systems]
    drawn = [plots.Matrix(system, *panel) for system, panel in zip(systems, panels, strict=True)]
    told = "; ".join(f"{p.system}, {p.row} to {p.column} {p.uar.value:.3f}" for p in places)
    wide = min(2, len(systems))
    figure = Figure(
        slug(name),
        f"UAR, {side} (rows), tested on (columns). {title}",
        told,
        lambda canvas: plots.heats(canvas, drawn, rows, columns, (side, "tested on"), (chance, 1.0)),
        width=1.4 + wide * (0.6 + 1.15 * len(columns)),
        height=-(-len(systems) // wide) * (0.85 + 0.55 * len(rows)),
    )
    head = tuple(Column(side) if column.title == "row" else column for column in _HEAD)
    ordered = sorted(places, key=lambda p: (systems.index(p.system), p.row, p.column))
    table: list[tuple[Cell, ...]] = [
        (p.sweep, p.system, p.row + "*" * p.own, p.column, p.uar, chance, p.utterances, p.speakers, p.models)
        for p in ordered
    ]
    return [figure, Sheet(f"{slug(name)}-values", title, head, tuple(table))]


def _told_apart(places: Sequence[Place]) -> list[Place]:
    """Systems that have several results in one cell become one of each sweep."""
    counts = Counter((p.system, p.row, p.column) for p in places)
    several = {system for (system, _, _), count in counts.items() if count > 1}
    return [replace(p, system=f"{p.system} ({p.sweep})") if p.system in several else p for p in places]


def _panel(
    places: Sequence[Place], rows: Sequence[str], columns: Sequence[str]
) -> tuple[plots.Floats, list[list[str]]]:
    """Values and texts."""
    values = np.full((len(rows), len(columns)), np.nan)
    texts = [[""] * len(columns) for _ in rows]
    for place in reversed(places):
        r, c = rows.index(place.row), columns.index(place.column)
        values[r, c] = place.uar.value
        limits = shown(place.uar, "figure").partition(" ")[2]
        texts[r][c] = f"{shown(place.uar.value, 'figure')}{'*' * place.own}\n{limits}"
    return values, texts
