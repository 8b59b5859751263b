"""The drawings of a report: plain functions that draw values on a canvas of matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emodarts.report.figures import INK, SOFT, colour
from emodarts.results.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Floats = NDArray[np.float64]
_LIGHT, _DARK = "#ffffff", "#14181d"
_MOST = 300  # points or lines of a system: more could not be told apart


def evenly_spaced(count: int, most: int = _MOST) -> NDArray[np.int64]:
    """Positions of at most so many of `count` things, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


@dataclass(frozen=True)
class Curve:
    """A value over the epochs of one fold, in its system's colour; `x (points,)`, `y (points,)`."""

    system: int
    x: Floats
    y: Floats


def draw_intervals(
    canvas: "Canvas", names: Sequence[str], colours: Sequence[int], values: Sequence[Interval], chance: float
) -> None:
    """A dot and an interval a name, from top to bottom; chance as a dashed line."""
    axes = canvas.subplots()
    for row, value in enumerate(values):
        if value.low == value.low:
            axes.plot(
                [value.low, value.high], [row, row], color=colour(colours[row]), linewidth=2, solid_capstyle="butt"
            )
        axes.plot(value.value, row, "o", color=colour(colours[row]), markersize=6)
    axes.axvline(chance, color=INK, linestyle=(0, (4, 3)), linewidth=0.8)
    axes.text(chance, -0.5, " chance", fontsize=8, va="top", color=INK)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("UAR, 95 % interval over speakers")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


@dataclass(frozen=True)
class HeatMap:
    """Values `(rows, columns)`, NaN for an empty cell, and what is written in each."""

    title: str
    values: Floats
    texts: Sequence[Sequence[str]]


def draw_heat_maps(
    canvas: "Canvas",
    heat_maps: Sequence[HeatMap],
    rows: Sequence[str],
    columns: Sequence[str],
    labels: tuple[str, str],
    limits: tuple[float, float],
) -> None:
    """Heat maps of the same rows, which are named at the left, and columns, two beside each other; `labels` of both."""
    wide = min(2, len(heat_maps))
    grid = np.atleast_1d(canvas.subplots(-(-len(heat_maps) // wide), wide)).ravel()
    for number, (axes, heat_map) in enumerate(zip(grid, heat_maps, strict=False)):
        _draw_heat_map(axes, heat_map, rows if number % wide == 0 else [""] * len(rows), columns, limits)
        axes.set_ylabel(labels[0] if number % wide == 0 else "")
        axes.set_xlabel(labels[1] if number + wide >= len(heat_maps) else "")
    for axes in grid[len(heat_maps) :]:
        axes.axis("off")


def draw_confusion(canvas: "Canvas", counts: Floats, shares: Floats, classes: Sequence[str]) -> None:
    """Two matrices side by side: counts, and shares of each true class."""
    left, right = canvas.subplots(1, 2)
    count_texts = [[f"{x:,.0f}" if abs(x - round(x)) < 1e-9 else f"{x:,.1f}" for x in row] for row in counts]
    share_texts = [["–" if x != x else f"{x:.2f}".removeprefix("0") for x in row] for row in shares]
    scaled = HeatMap("counts", counts / max(1.0, counts.max()), count_texts)
    _draw_heat_map(left, scaled, classes, classes, (0.0, 1.0))
    _draw_heat_map(right, HeatMap("share of the true class", shares, share_texts), classes, classes, (0.0, 1.0))
    left.set_ylabel("true class")
    for axes in (left, right):
        axes.set_xlabel("predicted")


def _draw_heat_map(
    axes: "Axes", heat_map: HeatMap, rows: Sequence[str], columns: Sequence[str], limits: tuple[float, float]
) -> None:
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    shades = LinearSegmentedColormap.from_list("shades", ["#e8eff6", "#6ba1d8", "#123f6d"])
    scale = Normalize(*limits, clip=True)
    for (r, c), value in np.ndenumerate(heat_map.values):
        if value != value:
            continue
        fill = shades(scale(value))
        axes.fill([c - 0.49, c + 0.49, c + 0.49, c - 0.49], [r - 0.49, r - 0.49, r + 0.49, r + 0.49], color=fill, lw=0)
        ink = _DARK if 0.3 * fill[0] + 0.59 * fill[1] + 0.11 * fill[2] > 0.55 else _LIGHT
        axes.text(c, r, heat_map.texts[r][c], ha="center", va="center", fontsize=8, color=ink)
    axes.set_title(heat_map.title)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    turned = len(columns) > 3 and max(len(line) for name in columns for line in name.split("\n")) > 6
    axes.set_xticks(range(len(columns)), columns, rotation=35 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def draw_curves(
    canvas: "Canvas", panels: Sequence[tuple[str, Sequence[Curve]]], names: dict[int, str], xlabel: str
) -> None:
    """Panels side by side: the curve of each fold thin, the mean of a system's folds thick as far as all of them go."""
    for axes, (title, lines) in zip(np.atleast_1d(canvas.subplots(1, len(panels))), panels, strict=True):
        for system in sorted({line.system for line in lines}):
            folds = [line for line in lines if line.system == system]
            for line in folds:
                axes.plot(line.x, line.y, color=colour(system), linewidth=0.6, alpha=0.45)
            least = min(len(line.x) for line in folds)
            middle = np.nanmean([line.y[:least] for line in folds], axis=0)
            axes.plot(folds[0].x[:least], middle, color=colour(system), linewidth=2, label=names[system])
        axes.set_title(title)
        axes.set_xlabel(xlabel)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if all(float(y).is_integer() for line in lines for y in line.y):
            axes.yaxis.get_major_locator().set_params(integer=True)
    if len(names) > 1:
        canvas.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(3, len(names)))


def draw_bars(canvas: "Canvas", names: Sequence[str], values: Sequence[Sequence[float]], xlabel: str) -> None:
    """A bar with the mean of each name's values, and a dot for each of them."""
    axes = canvas.subplots()
    rows = range(len(names))
    axes.barh(rows, [float(np.mean(v)) for v in values], color=colour(0), alpha=0.8, height=0.6)
    for row, points in zip(rows, values, strict=True):
        axes.plot(points, [row] * len(points), ".", color=INK, markersize=4)
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    axes.tick_params(axis="y", length=0)


def draw_parallel_coordinates(
    canvas: "Canvas", names: Sequence[str], rows: Floats, ticks: Sequence[Sequence[tuple[float, str]]], values: Floats
) -> None:
    """A line a configuration over an axis a parameter: `rows (configurations, parameters)` in 0 .. 1, or NaN.

    The colour is the dev UAR `values (configurations,)`, the best drawn last.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    axes = canvas.subplots()
    scale, shades = Normalize(float(values.min()), float(values.max())), colormaps["viridis"].resampled(32)
    order = np.argsort(values, kind="stable")
    lines = [np.column_stack([np.arange(len(names)), rows[number]]) for number in order]
    whole = [line[np.isfinite(line[:, 1])] for line in lines]  # over a parameter that it has not, a line is straight
    axes.add_collection(
        LineCollection(whole, colors=[shades(scale(values[n])) for n in order], linewidths=1, alpha=0.75)
    )
    for place, marks in enumerate(ticks):
        axes.axvline(place, color=SOFT, linewidth=0.6)
        for height, text in marks:
            axes.text(place + 0.03, height, text, fontsize=7, va="center", color=INK)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(names) - 1 + 0.5)
    axes.set_ylim(-0.06, 1.06)
    axes.tick_params(axis="x", length=0)
    axes.spines[:].set_visible(False)
    canvas.colorbar(ScalarMappable(scale, shades), ax=axes, label="dev UAR", fraction=0.04, pad=0.02)


def draw_sizes(
    canvas: "Canvas",
    points: Sequence[tuple[int, float, float]],
    limits: Sequence[tuple[int, float, float, float]],
    names: dict[int, str],
) -> None:
    """Dev UAR against parameters of configurations `(system, parameters, dev)`, and what is best of the small ones.

    `limits`: `(system, parameters at most, dev, test)`, chosen on dev; test is NaN where it was not read.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes = canvas.subplots()
    for system, name in names.items():
        dots = [(p, dev) for s, p, dev in points if s == system]
        if dots:
            axes.plot(*zip(*dots, strict=True), "o", color=colour(system), markersize=3, alpha=0.3)
        best = sorted((p, dev, test) for s, p, dev, test in limits if s == system)
        if best:
            x, dev, test = (list(values) for values in zip(*best, strict=True))
            axes.plot(
                x,
                dev,
                "-o",
                drawstyle="steps-post",
                color=colour(system),
                linewidth=1.6,
                markersize=4,
                label=f"{name}: best on dev",
            )
            axes.plot(x, test, "D", color=colour(system), markersize=5, fillstyle="none", label=f"{name}: test")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    every = [p for _, p, _ in points]
    if max(every) < 10 * min(every):  # not a single power of ten may lie between
        axes.set_xticks(np.unique(np.geomspace(min(every), max(every), 4).round(-3)))
    axes.set_xlabel("parameters")
    axes.set_ylabel("UAR")
    canvas.legend(loc="outside lower center", ncols=2)


def draw_strips(
    canvas: "Canvas", names: Sequence[str], colours: Sequence[int], values: Sequence[Sequence[float]]
) -> None:
    """A dot a speaker and a mark at the median, a row a name."""
    axes = canvas.subplots()
    for row, points in enumerate(values):
        # Equal values are set beside each other, the same way each time.
        order = np.argsort(points, kind="stable")
        lift = np.empty(len(points))
        lift[order] = (np.arange(len(points)) % 5 - 2) * 0.09
        axes.plot(points, row + lift, "o", color=colour(colours[row]), markersize=4, alpha=0.7, markeredgewidth=0)
        axes.plot([float(np.median(points))] * 2, [row - 0.32, row + 0.32], color=INK, linewidth=1.4)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("UAR of each test speaker, and the median")
    axes.tick_params(axis="y", length=0)
