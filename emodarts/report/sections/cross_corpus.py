"""Sections "Across corpora" (trained on one, tested on another) and "Genotype transfer" (searched on one, trained on
another): matrices of corpora.
"""

import textwrap
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from emodarts.records import LATE_DEV
from emodarts.report import plots
from emodarts.report.comparisons import Comparison, features_name
from emodarts.report.elements import Element, Paragraph, Section
from emodarts.report.figures import Figure
from emodarts.report.report_data import EvaluationPart, ReportData, SystemResults, facts_of
from emodarts.report.sections.systems import over_speakers
from emodarts.report.tables import Cell, ReportTable, format_cell, head, slug
from emodarts.results.statistics import Interval, Tally

_NORMALISED_BY = {
    "train": "the training corpus",
    "test": "the test corpus",
    "speaker": "each speaker",
    "utterance": "each recording",
}


@dataclass(frozen=True)
class MatrixCell:
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

    @classmethod
    def of(
        cls, system: SystemResults, part: EvaluationPart, tallies: Sequence[Tally], row: str, own: bool
    ) -> "MatrixCell":
        """That of a system's predictions of a part, the column; a tally a seed or a model."""
        utterances, speakers = round(float(tallies[0].counts.sum())), len(tallies[0].speakers)
        column, uar = part.test_set.removesuffix("/test").removesuffix("/all"), over_speakers(tallies)
        return cls(system.sweep, system.system, row, column, uar, utterances, speakers, len(system.folds_of(part)), own)


def cross_corpus_section(data: ReportData) -> Section | None:
    """Train x test matrices, by whose statistics the features were normalised; None without another corpus."""
    groups: dict[tuple[tuple[str, ...], str], list[SystemResults]] = defaultdict(list)
    for system in data.systems:
        if system.epoch_rule == LATE_DEV and system.source is None and not system.shared:
            groups[system.classes, features_name(system)].append(system)
    elements: list[Element] = []
    for (classes, features), systems in sorted(groups.items()):
        present = {part.normalisation for system in systems for part in system.parts("cross")}
        for normalisation in sorted(present, key=lambda name: (name == "test", name)):
            cells = [cell for system in systems for cell in _cells(system, normalisation)]
            whose = _NORMALISED_BY.get(normalisation, normalisation)
            title = f"Normalised by {whose} ({features}, {len(classes)} classes)"
            name = f"cross {features} {len(classes)} {normalisation}"
            elements += _matrix(name, title, "trained on", _by_language(cells, data), 1 / len(classes))
    text = (
        "A row is what was trained on, a column what was tested on. On another corpus every fold's model is tested on "
        "all of it: the UAR of each model, then their mean; intervals resample the foreign speakers with all models at "
        "once; utterances of unknown speakers count as those of one. Marked *: the training corpus itself, the pooled "
        "figure over its own folds."
    )
    return Section("Across corpora", (Paragraph(text), *elements)) if elements else None


def transfer_section(comparisons: Sequence[Comparison], data: ReportData) -> Section | None:
    """Genotypes searched on one corpus, trained and tested on another; None without any."""
    corpora = {system.sweep: system.corpora_name for system in data.systems}
    sources = {system.source for system in data.systems if system.source is not None}
    groups: dict[tuple[str, ...], list[MatrixCell]] = defaultdict(list)
    for comparison in comparisons:
        has_transfer = any(s.results.source is not None for s in comparison.systems)
        for compared in comparison.systems:
            system, source = compared.results, compared.results.source
            is_searched = system.system.startswith("emodarts") and not comparison.shared
            if is_searched and (has_transfer or system.sweep in sources):
                row = system.corpora_name if source is None else corpora.get(source, source)
                cell = MatrixCell.of(system, compared.part, compared.tallies, row, source is None)
                groups[comparison.classes].append(cell)
    elements: list[Element] = []
    for classes, cells in sorted(groups.items()):
        transferred = {cell.system for cell in cells if not cell.own}
        cells = [cell for cell in cells if cell.system in transferred]
        title = f"Searched here, trained there ({len(classes)} classes)"
        elements += _matrix(f"transfer {len(classes)}", title, "searched on", cells, 1 / len(classes))
    text = (
        "A row is where the genotypes were searched, a column where their networks were trained and tested, by that "
        "corpus's own folds: fold i takes the winner of fold i mod k of the source. Marked *: searched on the same "
        "corpus, same fold."
    )
    return Section("Genotype transfer", (Paragraph(text), *elements)) if elements else None


def _cells(system: SystemResults, normalisation: str) -> list[MatrixCell]:
    row, cross = system.corpora_name, [p for p in system.parts("cross") if p.normalisation == normalisation]
    own_parts = [p for p in system.parts("test") if normalisation in (p.normalisation, "test")]
    own = [MatrixCell.of(system, part, system.pooled(part), row, True) for part in own_parts]
    return [*own, *(MatrixCell.of(system, part, system.models(part), row, False) for part in cross)]


def _matrix(name: str, title: str, side: str, cells: Sequence[MatrixCell], chance: float) -> list[Element]:
    """A heat map a system and the same as a table; nothing where no cell is off the diagonal."""
    if all(cell.own for cell in cells):
        return []
    cells = _with_unique_systems(cells)
    rows, columns = sorted({c.row for c in cells}), sorted({c.column for c in cells})
    systems = list(dict.fromkeys(c.system for c in sorted(cells, key=lambda c: (c.system != "emodarts", c.system))))
    heat_maps = [_heat_map(name, [c for c in cells if c.system == name], rows, columns) for name in systems]
    wide, lines = min(2, len(systems)), [_label_lines(name) for name in rows]
    labels_width = 0.09 * max(len(line) for label in lines for line in label)
    down, across = (["\n".join(_label_lines(name)) for name in names] for names in (rows, columns))
    figure = Figure(
        slug(name),
        f"UAR, {side} (rows), tested on (columns). {title}",
        "; ".join(f"{c.system}, {c.row} to {c.column} {c.uar.value:.3f}" for c in cells),
        lambda canvas: plots.draw_heat_maps(canvas, heat_maps, down, across, (side, "tested on"), (chance, 1.0)),
        width=0.5 + labels_width + wide * (0.3 + 1.15 * len(columns)),
        height=-(-len(systems) // wide) * (0.7 + 0.15 * max(map(len, lines)) + 0.55 * len(rows)),
    )
    table: list[tuple[Cell, ...]] = [
        (c.sweep, c.system, c.row + "*" * c.own, c.column, c.uar, chance, c.utterances, c.speakers, c.models)
        for c in sorted(cells, key=lambda c: (systems.index(c.system), c.row, c.column))
    ]
    titles = head(
        f"sweep | system | {side} | tested on | UAR [95 %]: figure | chance: figure | test utterances: count | "
        "test speakers: count | models: count"
    )
    return [figure, ReportTable(f"{slug(name)}-values", title, titles, tuple(table))]


def _label_lines(label: str) -> list[str]:
    """What `_by_language` names a corpus, for a figure: the corpus, and its language below."""
    language, _, corpora = label.rpartition(": ")
    return [corpora, *textwrap.wrap(language, 16)]


def _by_language(cells: Sequence[MatrixCell], data: ReportData) -> list[MatrixCell]:
    """The cells with the languages of their corpora before the names, so that corpora of one language lie together."""
    languages = {row["corpus"]: facts_of(row)[0] for record in data.sweeps for row in record.corpora}

    def label(corpora: str) -> str:
        spoken = [language for name in corpora.split("+") if (language := languages.get(name.partition("/")[0]))]
        return f"{' + '.join(dict.fromkeys(spoken))}: {corpora}" if spoken else corpora

    return [replace(cell, row=label(cell.row), column=label(cell.column)) for cell in cells]


def _with_unique_systems(cells: Sequence[MatrixCell]) -> list[MatrixCell]:
    """Systems that have several results in one cell become one of each sweep."""
    counts = Counter((c.system, c.row, c.column) for c in cells)
    several = {system for (system, _, _), count in counts.items() if count > 1}
    return [replace(c, system=f"{c.system} ({c.sweep})") if c.system in several else c for c in cells]


def _heat_map(title: str, cells: Sequence[MatrixCell], rows: Sequence[str], columns: Sequence[str]) -> plots.HeatMap:
    values = np.full((len(rows), len(columns)), np.nan)
    texts = [[""] * len(columns) for _ in rows]
    for cell in reversed(cells):
        r, c = rows.index(cell.row), columns.index(cell.column)
        values[r, c] = cell.uar.value
        limits = format_cell(cell.uar, "figure").partition(" ")[2]
        texts[r][c] = f"{format_cell(cell.uar.value, 'figure')}{'*' * cell.own}\n{limits}"
    return plots.HeatMap(title, values, texts)
