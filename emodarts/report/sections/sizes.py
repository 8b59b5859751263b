"""Section "Size": what a limit on the number of parameters costs."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import mean
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from emodarts.report import plots
from emodarts.report.elements import Collapsible, Element, Paragraph, Section
from emodarts.report.figures import Figure
from emodarts.report.report_data import ReportData
from emodarts.report.tables import Cell, ReportTable, head, slug
from emodarts.results.reader import SweepTables

_MOST_LIMITS = 12  # of the size, a line
_COLUMNS = head("system | parameters at most: count | studies: count | dev UAR: figure | test UAR: figure")


def sizes_section(data: ReportData) -> Section | None:
    """UAR against parameters: what is best on dev of what is small enough, its test figures beside it; None where no
    study had a choice.
    """
    elements = [element for sweep in data.results.parts for element in _size_elements(sweep, data)]
    text = (
        "A dot is one configuration of one study. A line shows what a limit of the size costs: in each study the best "
        "on dev of at most so many parameters, then the mean over the studies; diamonds are the test UAR of these."
    )
    return Section("Size", (Paragraph(text), *elements)) if elements else None


def _size_elements(sweep: SweepTables, data: ReportData) -> list[Element]:
    """The figure of a sweep, and its lines as a table; nothing where every study has one configuration."""
    ranking = data.rankings[sweep.name]
    ranking = ranking.filter(pc.and_(pc.is_finite(ranking["value"]), pc.is_valid(ranking["size"])))
    if len(ranking.group_by(["system", "study"]).aggregate([])) == len(ranking):
        return []
    ranked = sorted(set(ranking["system"].to_pylist()) & set(data.system_names))
    names = {data.system_names.index(name): name for name in ranked}
    points: list[tuple[int, float, float]] = []
    lines: list[tuple[int, float, float, float]] = []
    rows: list[tuple[Cell, ...]] = []
    for number, name in sorted(names.items()):
        by_size = ranking.filter(pc.equal(ranking["system"], name))
        by_size = by_size.sort_by([("size", "ascending"), ("value", "descending")])
        drawn = by_size.take(plots.evenly_spaced(len(by_size))).to_pylist()
        points += [(number, row["size"], row["value"]) for row in drawn]
        limits = best_within_limits(_fronts(by_size))
        test_uars = _read_test_uars(sweep, [row for _, chosen in limits for row in chosen])
        for limit, chosen in limits:
            test = mean(test_uars.get((row["system"], row["study"], row["trial"]), float("nan")) for row in chosen)
            dev = mean(row["value"] for row in chosen)
            lines.append((number, limit, dev, test))
            rows.append((name, limit, len(chosen), dev, test))
    figure = Figure(
        slug(f"sizes {sweep.name}"),
        f"{sweep.name}: UAR against parameters",
        "Dots: dev UAR of configurations; lines: the best on dev of at most so many parameters; diamonds: its test UAR",
        lambda canvas: plots.draw_sizes(canvas, points, lines, names),
        width=6.8,
        height=3.4 + 0.2 * len(names),
    )
    notes = ("Chosen on dev in each study, then the mean over the studies; the first seed.",)
    name, title = slug(f"limits of size {sweep.name}"), f"Limits of the size, {sweep.name}"
    return [figure, Collapsible("The lines", (ReportTable(name, title, _COLUMNS, tuple(rows), notes),))]


def _fronts(by_size: pa.Table) -> list[list[dict[str, Any]]]:
    """Of each study what nothing smaller, or as small, beats on dev; `by_size`: sorted, the better of a size first."""
    fronts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in by_size.to_pylist():
        front = fronts[row["study"]]
        if not front or row["value"] > front[-1]["value"]:
            front.append(row)
    return list(fronts.values())


def best_within_limits(fronts: Sequence[list[dict[str, Any]]]) -> list[tuple[int, list[dict[str, Any]]]]:
    """Limits of the size, from the first that every study can keep to: each with what is best on dev in each study.

    `fronts`: of each study its best rows, `size` and `value` rising. Of very many limits some are taken, evenly.
    """
    least = max((front[0]["size"] for front in fronts), default=0)
    limits = sorted({row["size"] for front in fronts for row in front if row["size"] >= least})
    limits = [limits[i] for i in plots.evenly_spaced(len(limits), _MOST_LIMITS)]
    return [(limit, [[row for row in front if row["size"] <= limit][-1] for front in fronts]) for limit in limits]


def _read_test_uars(sweep: SweepTables, rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str, int], float]:
    """Test UAR (mean over folds and test sets, first seed) of some configurations."""
    keys = {(row["system"], row["study"], row["trial"]) for row in rows}
    where = (pc.field("role") == "test") & (pc.field("stage") == "final") & (pc.field("seed") == 0)
    where &= pc.field("condition").is_null()
    uars: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for piece in sweep.read_trials("folds", keys, ["system", "study", "trial", "uar"], where):
        for row in piece.to_pylist():
            if row["uar"] is not None:
                uars[row["system"], row["study"], row["trial"]].append(row["uar"])
    return {key: mean(values) for key, values in uars.items()}
