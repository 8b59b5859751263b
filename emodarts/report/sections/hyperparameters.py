"""Section "Hyperparameters": their importances, and configurations as parallel coordinates."""

import json
from collections import defaultdict
from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emodarts.report import plots
from emodarts.report.elements import Element, Paragraph, Section
from emodarts.report.figures import Figure
from emodarts.report.report_data import ReportData
from emodarts.report.tables import slug
from emodarts.results.reader import SweepTables

_LEAST = 3  # configurations in a figure


def hyperparameters_section(data: ReportData) -> Section | None:
    """Importances (where a study wrote some) and configurations as parallel coordinates; None without any."""
    elements: list[Element] = []
    for sweep in data.results.parts:
        ranking, importances = data.rankings[sweep.name], data.sweep_record(sweep.name).importances
        for system in sorted(set(ranking["system"].to_pylist())):
            rows = [row for row in importances if row["system"] == system]
            elements += _importances_figure(sweep.name, system, rows)
            elements += _configurations_figure(sweep, system, ranking.filter(pc.equal(ranking["system"], system)))
    texts = ["In the figure of parallel coordinates a line is a configuration of some fold."]
    if any(record.importances for record in data.sweeps):
        texts.append(
            "Importance is the share of the spread in dev UAR that a hyperparameter explains in a study (fANOVA, "
            "Hutter et al. 2014), a dot a study."
        )
    return Section("Hyperparameters", (*map(Paragraph, texts), *elements)) if elements else None


def _importances_figure(sweep: str, system: str, rows: Sequence[dict[str, Any]]) -> list[Figure]:
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
        ", ".join(f"{name} {mean(by_name[name]):.2f}" for name in names),
        lambda canvas: plots.draw_bars(canvas, names, values, "importance"),
        height=0.9 + 0.24 * len(names),
    )
    return [figure]


def _configurations_figure(sweep: SweepTables, system: str, ranking: pa.Table) -> list[Figure]:
    """Parallel coordinates of some configurations of a system, evenly by rank; none where nothing differs."""
    ranking = ranking.filter(pc.is_finite(ranking["value"])).sort_by([("value", "descending")])
    if len(ranking) < _LEAST:
        return []
    drawn = ranking.take(plots.evenly_spaced(len(ranking))).select(["study", "trial", "value"]).to_pylist()
    uars = {(row["study"], row["trial"]): row["value"] for row in drawn}
    numbers = pa.array(sorted({trial for _, trial in uars}))
    where = (pc.field("system") == system) & (pc.field("seed") == 0) & pc.field("trial").isin(numbers)
    rows = sweep.table("trials", ["study", "trial", "parameters"], where).to_pylist()
    rows = [row for row in rows if (row["study"], row["trial"]) in uars]
    configurations = [json.loads(row["parameters"]) for row in rows]
    names = [name for name in sorted({name for c in configurations for name in c}) if _differs(name, configurations)]
    if not names:
        return []
    values = np.array([uars[row["study"], row["trial"]] for row in rows])
    axes = [*(_axis([c.get(name) for c in configurations]) for name in names), _axis(values.tolist())]
    heights = np.array([column for column, _ in axes]).T
    labels = [*(name.removeprefix("search.").removeprefix("training.") for name in names), "dev UAR"]
    selected = f" ({len(rows)} of {len(ranking)}, evenly by rank)" if len(ranking) > len(rows) else ""
    ticks = [marks for _, marks in axes]
    figure = Figure(
        slug(f"configurations {sweep.name} {system}"),
        f"{sweep.name}: configurations of {system}{selected}",
        f"Parallel coordinates of {', '.join(labels)}",
        lambda canvas: plots.draw_parallel_coordinates(canvas, labels, heights, ticks, values),
        width=max(5.0, 1.05 * len(labels) + 1.2),
        height=3.6,
    )
    return [figure]


def _differs(name: str, configurations: Sequence[dict[str, Any]]) -> bool:
    """Whether a hyperparameter has several values among those configurations that have it."""
    return len({json.dumps(c[name]) for c in configurations if name in c}) > 1


def _axis(values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights on an axis from 0 to 1, and its marks: numbers by size (by ratio where far apart), else names."""
    known = [x for x in values if x is not None]
    if all(isinstance(x, int | float) and not isinstance(x, bool) for x in known):
        low, high = min(known), max(known)
        scale = np.log if low > 0 and high / low >= 20 else float
        span = scale(high) - scale(low) or 1.0
        marked = sorted(set(known)) if len(set(known)) <= 4 else [low, high]

        def height(x: Any) -> float:
            return float((scale(x) - scale(low)) / span)

        marks = [(height(x), f"{x:.3g}") for x in marked]
    else:
        names = sorted({str(x) for x in known})

        def height(x: Any) -> float:
            return names.index(str(x)) / max(1, len(names) - 1)

        marks = [(height(name), name) for name in names]
    return [float("nan") if x is None else height(x) for x in values], marks
