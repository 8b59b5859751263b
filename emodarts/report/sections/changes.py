"""Section "What changed": settings, packages and revisions in which sweeps differ, and what that did to a system."""

import json
from collections import defaultdict
from collections.abc import Sequence

from emodarts.report.comparisons import ComparedSystem, Comparison
from emodarts.report.elements import Element, Paragraph, Section
from emodarts.report.report_data import ReportData
from emodarts.report.sections.systems import over_speakers
from emodarts.report.tables import Cell, Column, ReportTable, head
from emodarts.results.statistics import compare_systems, judge

_COLUMNS = head(
    "system | tested on | of | UAR [95 %]: figure | against | UAR [95 %]: figure | difference [95 %]: difference | "
    "p (Holm): p | verdict"
)
_MISSING = "–"


def changes_section(data: ReportData, comparisons: Sequence[Comparison]) -> Section | None:
    """What differs between sweeps, and what that did to systems that were run in several; None for a single sweep."""
    if len(data.sweeps) < 2:
        return None
    names = [record.sweep for record in data.sweeps]
    values: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for record in data.sweeps:
        for setting, value in record.settings.items():
            values["setting", setting][record.sweep] = json.dumps(value)
    for system in data.systems:
        for row in system.rows:
            for package, version in json.loads(row["packages"]).items():
                values["package", package][system.sweep] = str(version)
            values["code", "git revision"][system.sweep] = str(row["git_revision"])[:12]
    rows: list[tuple[Cell, ...]] = []
    for (kind, name), by_sweep in sorted(values.items()):
        of_sweeps = [by_sweep.get(sweep, _MISSING) for sweep in names]
        if len(set(of_sweeps)) > 1:
            rows.append((kind, name, *of_sweeps))
    elements: list[Element] = []
    if rows:
        columns = (Column("what"), Column("name"), *map(Column, names))
        title = f"In what the {len(names)} sweeps differ"
        elements.append(ReportTable("changes", title, columns, tuple(rows)))
    else:
        elements.append(Paragraph("The sweeps have the same settings, packages and revision."))
    return Section("What changed", (*_paired(comparisons), *elements))


def _paired(comparisons: Sequence[Comparison]) -> list[Element]:
    """Each system that several sweeps have on the same utterances: its difference from the first of them."""
    pairs: list[tuple[Comparison, ComparedSystem, ComparedSystem]] = []
    for comparison in comparisons:
        by_system: dict[str, list[ComparedSystem]] = defaultdict(list)
        for system in comparison.systems:
            by_system[system.results.system].append(system)
        for first, *others in by_system.values():
            pairs += [(comparison, first, other) for other in others if other.results.sweep != first.results.sweep]
    if not pairs:
        text = "No system was run by several of the sweeps on the same folds, so no difference is paired by speaker."
        return [Paragraph(text)]
    verdicts = judge([compare_systems(other.tallies, first.tallies) for _, first, other in pairs])
    rows = tuple(
        (
            *(other.results.system, comparison.test_set, other.results.sweep, over_speakers(other.tallies)),
            *(first.results.sweep, over_speakers(first.tallies), v.difference, v.p, str(v)),
        )
        for (comparison, first, other), v in zip(pairs, verdicts, strict=True)
    )
    notes = ("Paired by speaker on the same utterances; p is corrected for the comparisons of this table (Holm).",)
    return [ReportTable("changes-paired", "The same systems in several sweeps", _COLUMNS, rows, notes)]
