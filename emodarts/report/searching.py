"""How the winners came about: courses of search and training, hyperparameters, sizes, genotypes."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emodarts.errors import EmodartsError
from emodarts.networks.genotype import Genotype
from emodarts.report import plots
from emodarts.report.figures import Figure
from emodarts.report.report_data import ReportData
from emodarts.report.sections import Collapsible, Paragraph, Part, Section
from emodarts.report.sheets import Cell, Column, Sheet, slug

_MOST_LINES = 300  # configurations in a figure; more are no longer told apart
_MOST_LIMITS = 12  # of the size, a line
_CELLS = {"normal": ("c[k-2]", "c[k-1]"), "reduction": ("c[k-2]", "c[k-1]"), "sequence": ("s[k-2]", "s[k-1]")}


def courses_section(evidence: ReportData) -> Section | None:
    """Learning curves of the winners' first seeds, and what the alphas did; None where nothing has epochs."""
    columns = [
        "system",
        "fold",
        "phase",
        "epoch",
        "train_loss",
        "dev_loss",
        "dev_uar",
        "entropy",
        "top2_margin",
        "skip_connections",
    ]
    rows = evidence.of_winners("epochs", columns)
    parts: list[Part] = []
    for course in evidence.courses:
        mine = [r for r in rows if r["sweep"] == course.sweep]
        names = {evidence.systems.index(name): name for name in sorted({r["system"] for r in mine})}
        for phase, title, wanted in (
            ("train", "training of the winners", (("dev_uar", "dev UAR"), ("train_loss", "training loss"))),
            ("search", "search", (("dev_uar", "dev UAR of the supernet"), ("train_loss", "training loss"))),
            (
                "search",
                "architecture parameters",
                (("entropy", "entropy (nats)"), ("skip_connections", "skip connections")),
            ),
        ):
            figure = _courses(course.sweep, names, [r for r in mine if r["phase"] == phase], title, wanted)
            parts += [figure] if figure else []
    words = Paragraph("Winners of each fold, first seed: thin lines are folds, the thick one is their mean.")
    return Section("Learning curves", (words, *parts)) if parts else None


def hyperparameters_section(evidence: ReportData) -> Section | None:
    """Importances (where a study wrote some) and configurations as parallel coordinates; None without any."""
    parts: list[Part] = []
    for part in evidence.results.parts:
        table = evidence.rankings[part.name]
        for system in sorted(set(table["system"].to_pylist())):
            found = [
                r for c in evidence.courses if c.sweep == part.name for r in c.importances if r["system"] == system
            ]
            parts += _importances(part.name, system, found)
            mine = table.filter(pc.equal(table["system"], system))
            figure = _parallel(part.name, system, mine, part.table)
            parts += [figure] if figure else []
    told = ["In the figure of parallel coordinates a line is a configuration of some fold."]
    if any(course.importances for course in evidence.courses):
        told.append(
            "Importance is the share of the spread in dev UAR that a hyperparameter explains in a study (fANOVA, "
            "Hutter et al. 2014), a dot a study."
        )
    return Section("Hyperparameters", (*map(Paragraph, told), *parts)) if parts else None


def sizes_section(evidence: ReportData) -> Section | None:
    """UAR against parameters: what is best on dev of what is small enough, its test figures beside it; None where no
    study had a choice.
    """
    parts: list[Part] = []
    for sweep, table in evidence.rankings.items():
        parts += _sizes(sweep, table, evidence)
    told = (
        "A dot is one configuration of one study. A line shows what a limit of the size costs: in each study the best "
        "on dev of at most so many parameters, then the mean over the studies; diamonds are the test UAR of these."
    )
    return Section("Size", (Paragraph(told), *parts)) if parts else None


def genotypes_section(evidence: ReportData) -> Section | None:
    """The winners' genotypes as graphs, equal ones once; None where nothing was searched."""
    rows = list(evidence.of_winners("genotypes", ["fold", "genotype", "derived_at", "genotype_from"]))
    same: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: (r["sweep"], r["system"], r["fold"])):
        if row["genotype_from"] is None:
            same[row["sweep"], row["system"], row["genotype"]].append(row["fold"])
    parts: list[Part] = []
    for number, ((sweep, system, text), folds) in enumerate(same.items()):
        try:
            genotype = Genotype.from_json(text)
        except EmodartsError as error:
            parts.append(Paragraph(f"{sweep}, {system}, folds {_listed(folds)}: {error}", "warning"))
            continue
        title = f"{sweep}: {system}, fold{'s' if len(folds) > 1 else ''} {_listed(folds)}"
        parts.append(Collapsible(title, (_genotype(f"genotype-{number}", title, genotype),)))
    if not parts:
        return None
    told = (
        "Blue: operations over time and frequency; orange: recurrent ones; grey: none and skip connections. A node is "
        "the sum of its edges, a cell's output is all of its nodes."
    )
    return Section("Genotypes", (Paragraph(told), *parts))


def _courses(
    sweep: str, names: dict[int, str], rows: list[dict[str, Any]], title: str, wanted: Sequence[tuple[str, str]]
) -> Figure | None:
    panels, numbers = [], {name: number for number, name in names.items()}
    for column, label in wanted:
        by_fold: dict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
        for row in rows:
            if row[column] is not None:
                by_fold[numbers[row["system"]], row["fold"]].append((row["epoch"] + 1, row[column]))
        lines = [
            plots.Line(s, *np.array(sorted(found)).T.astype(np.float64)) for (s, _), found in sorted(by_fold.items())
        ]
        if lines:
            panels.append((label, lines))
    if not panels:
        return None
    return Figure(
        slug(f"courses {sweep} {title}"),
        f"{sweep}: {title}",
        f"{' and '.join(label for label, _ in panels)} over epochs",
        lambda canvas: plots.curves(canvas, panels, names, "epoch"),
        width=7.2,
        height=2.9 + 0.25 * (len(names) > 4),
    )


def _importances(sweep: str, system: str, rows: list[dict[str, Any]]) -> list[Part]:
    by_name: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_name[row["parameter"]].append(row["value"])
    if not by_name:
        return []
    names = sorted(by_name, key=lambda name: -mean(by_name[name]))
    values = [by_name[name] for name in names]
    figure = Figure(
        slug(f"importance {sweep} {system}"),
        f"{sweep}: importance for {system}",
        ", ".join(f"{n} {mean(by_name[n]):.2f}" for n in names),
        lambda canvas: plots.bars(canvas, names, values, "importance"),
        height=0.9 + 0.24 * len(names),
    )
    return [figure]


def _parallel(sweep: str, system: str, table: pa.Table, read: Callable[..., pa.Table]) -> Figure | None:
    """Of at most so many configurations, evenly by rank."""
    table = table.filter(pc.is_finite(table["value"])).sort_by([("value", "descending")])
    if len(table) < 3:
        return None
    kept = table.take(np.unique(np.linspace(0, len(table) - 1, min(len(table), _MOST_LINES)).astype(int)))
    keys = {(r["study"], r["trial"]): r["value"] for r in kept.select(["study", "trial", "value"]).to_pylist()}
    numbers = pa.array(sorted({trial for _, trial in keys}))
    where = (pc.field("system") == system) & (pc.field("seed") == 0) & pc.field("trial").isin(numbers)
    found = [
        (json.loads(r["parameters"]), keys[r["study"], r["trial"]])
        for r in read("trials", ["study", "trial", "parameters"], where).to_pylist()
        if (r["study"], r["trial"]) in keys
    ]
    names = [
        n for n in sorted({n for p, _ in found for n in p}) if len({json.dumps(p[n]) for p, _ in found if n in p}) > 1
    ]
    if not names:
        return None
    values = np.array([value for _, value in found])
    axes = [*(_axis([p.get(name) for p, _ in found]) for name in names), _axis(values.tolist())]
    rows = np.array([places for places, _ in axes]).T
    shown = [*(name.removeprefix("search.").removeprefix("training.") for name in names), "dev UAR"]
    of = f" ({len(found)} of {len(table)}, evenly by rank)" if len(table) > len(found) else ""
    return Figure(
        slug(f"configurations {sweep} {system}"),
        f"{sweep}: configurations of {system}{of}",
        f"Parallel coordinates of {', '.join(shown)}",
        lambda canvas: plots.parallel(canvas, shown, rows, [ticks for _, ticks in axes], values),
        width=max(5.0, 1.05 * len(shown) + 1.2),
        height=3.6,
    )


def _axis(given: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Places on an axis from 0 to 1, and its marks: numbers by size (by ratio where they lie far apart), else names."""
    there = [x for x in given if x is not None]
    if all(isinstance(x, int | float) and not isinstance(x, bool) for x in there):
        low, high = min(there), max(there)
        wide = low > 0 and high / low >= 20
        scale = np.log if wide else float
        span = scale(high) - scale(low) or 1.0
        marks = sorted(set(there)) if len(set(there)) <= 4 else [low, high]
        return [float("nan") if x is None else (scale(x) - scale(low)) / span for x in given], [
            (float((scale(x) - scale(low)) / span), f"{x:.3g}") for x in marks
        ]
    names = sorted({str(x) for x in there})
    at = {name: i / max(1, len(names) - 1) for i, name in enumerate(names)}
    return [float("nan") if x is None else at[str(x)] for x in given], [(at[n], n) for n in names]


def _sizes(sweep: str, table: pa.Table, evidence: ReportData) -> list[Part]:
    """The figure, and its lines as a table; nothing where every study has one configuration."""
    table = table.filter(pc.and_(pc.is_finite(table["value"]), pc.is_valid(table["size"])))
    names = {evidence.systems.index(n): n for n in sorted(set(table["system"].to_pylist())) if n in evidence.systems}
    points: list[tuple[int, float, float]] = []
    line: list[tuple[int, float, float, float]] = []
    rows: list[tuple[Cell, ...]] = []
    for number, name in sorted(names.items()):
        mine = table.filter(pc.equal(table["system"], name)).sort_by([("size", "ascending"), ("value", "descending")])
        even = np.unique(np.linspace(0, len(mine) - 1, min(len(mine), _MOST_LINES)).astype(int))
        points += [(number, r["size"], r["value"]) for r in mine.take(even).to_pylist()]
        limits = within_sizes(_fronts(mine))
        tested = _tested(sweep, evidence, [row for _, chosen in limits for row in chosen])
        for limit, chosen in limits:
            keys = [(row["system"], row["study"], row["trial"]) for row in chosen]
            test = mean(tested.get(key, float("nan")) for key in keys)
            dev = mean(row["value"] for row in chosen)
            line.append((number, limit, dev, test))
            rows.append((name, limit, len(chosen), dev, test))
    if len(set(zip(table["system"].to_pylist(), table["study"].to_pylist(), strict=True))) == len(table):
        return []
    columns = (
        Column("system"), Column("parameters at most", "count"), Column("studies", "count"),
        Column("dev UAR", "figure"), Column("test UAR", "figure"),
    )  # fmt: skip
    figure = Figure(
        slug(f"sizes {sweep}"),
        f"{sweep}: UAR against parameters",
        "Dots: dev UAR of configurations; lines: the best on dev of at most so many parameters; diamonds: its test UAR",
        lambda canvas: plots.sizes(canvas, points, line, names),
        width=6.8,
        height=3.4 + 0.2 * len(names),
    )
    notes = ("Chosen on dev in each study, then the mean over the studies; the first seed.",)
    sheet = Sheet(slug(f"limits of size {sweep}"), f"Limits of the size, {sweep}", columns, tuple(rows), notes)
    return [figure, Collapsible("The lines", (sheet,))]


def _fronts(ordered: pa.Table) -> list[list[dict[str, Any]]]:
    """Of each study what nothing smaller, or as small, beats on dev; `ordered` by size, the better of a size first."""
    fronts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in ordered.to_pylist():
        front = fronts[row["study"]]
        if not front or row["value"] > front[-1]["value"]:
            front.append(row)
    return list(fronts.values())


def within_sizes(fronts: list[list[dict[str, Any]]]) -> list[tuple[int, list[dict[str, Any]]]]:
    """Limits of the size, from the first that every study can keep to: each with what is best on dev in each study.

    `fronts`: of each study its best rows, `size` and `value` rising. Of very many limits some are taken, evenly.
    """
    least = max((front[0]["size"] for front in fronts), default=0)
    limits = sorted({row["size"] for front in fronts for row in front if row["size"] >= least})
    even = np.unique(np.linspace(0, len(limits) - 1, min(len(limits), _MOST_LIMITS)).astype(int))
    found = []
    for limit in (limits[i] for i in even):
        found.append((limit, [[row for row in front if row["size"] <= limit][-1] for front in fronts]))
    return found


def _tested(sweep: str, evidence: ReportData, chosen: list[dict[str, Any]]) -> dict[tuple[str, str, int], float]:
    """Test UAR (mean over folds and test sets, first seed) of some configurations."""
    keys = {(row["system"], row["study"], row["trial"]) for row in chosen}
    (part,) = (p for p in evidence.results.parts if p.name == sweep)
    where = (pc.field("role") == "test") & (pc.field("stage") == "final") & (pc.field("seed") == 0)
    found: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for piece in part.read_trials("folds", keys, ["system", "study", "trial", "uar"], where):
        for row in piece.to_pylist():
            if row["uar"] is not None:
                found[row["system"], row["study"], row["trial"]].append(row["uar"])
    return {key: mean(values) for key, values in found.items()}


def _genotype(name: str, title: str, genotype: Genotype) -> Figure:
    cells = [
        plots.CellDrawing(
            f"{kind} cell", inputs, [[(e.operation, e.source) for e in node] for node in getattr(genotype, kind)]
        )
        for kind, inputs in _CELLS.items()
    ]
    told = ". ".join(cell.told() for cell in cells)
    width, height = plots.graphs_size(cells)
    return Figure(name, title, told, lambda canvas: plots.graphs(canvas, cells), width, height)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
