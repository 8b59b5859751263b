"""Drawings of small panels: reliability beside coverage, and a confusion matrix a speaker."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emodarts.report.figures import INK, SOFT, colour
from emodarts.results.statistics import Coverage, ReliabilityBin

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_SHADES = ("#e8eff6", "#c3d8ed", "#96bbdf", "#6ba1d8", "#3f77ae", "#285a8c", "#123f6d")


def draw_trust(
    canvas: "Canvas",
    bins: Sequence[tuple[str, Sequence[ReliabilityBin]]],
    curves: Sequence[tuple[str, int, Sequence[Coverage]]],
) -> None:
    """Left: how often the first system is right against how sure it is, `bins` as they are and by temperature; right:
    UAR of the surest part of each system, the band of the first one over speakers.
    """
    left, right = canvas.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
    most = max(b.n for _, of_system in bins for b in of_system)
    for number, (name, of_system) in enumerate(bins):
        x, y = [b.confidence for b in of_system], [b.accuracy for b in of_system]
        left.plot(x, y, "-", color=colour(number), linewidth=1.2, label=name)
        left.scatter(x, y, s=[6 + 60 * b.n / most for b in of_system], color=colour(number), linewidths=0, alpha=0.8)
    left.set(xlim=(0, 1), ylim=(0, 1), xlabel="how sure (largest probability)", ylabel="how often right")
    left.legend(loc="upper left", fontsize=7.5)
    for place, (name, number, points) in enumerate(curves):
        x, y = [100 * p.fraction for p in points], [p.uar.value for p in points]
        right.plot(x, y, "-", color=colour(number), linewidth=2 if place == 0 else 1, label=name)
        if place == 0:
            limits = [p.uar.low for p in points], [p.uar.high for p in points]
            right.fill_between(x, *(np.clip(limit, 0, 1) for limit in limits), color=colour(number), alpha=0.18, lw=0)
    right.set(xlim=(100, min(x)), xlabel="answered, % of the utterances, the surest", ylabel="UAR")
    right.legend(loc="upper left", fontsize=7.5)


def draw_confusions(
    canvas: "Canvas", names: Sequence[str], shares: NDArray[np.float64], classes: Sequence[str]
) -> None:
    """A matrix a speaker, six beside each other: `shares (speakers, classes, classes)` of a true class; NaN: none."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    wide, n = 6, len(classes)
    grid = np.atleast_1d(canvas.subplots(-(-len(names) // wide), wide, squeeze=False)).ravel()
    corners = np.array([[0.04, 0.04], [0.96, 0.04], [0.96, 0.96], [0.04, 0.96], [0.04, 0.04]])
    for axes in grid:
        axes.axis("off")
    for axes, name, matrix in zip(grid, names, shares, strict=False):
        levels = np.where(np.isnan(matrix), -1, np.minimum(len(_SHADES) * np.nan_to_num(matrix), len(_SHADES) - 1e-9))
        for number, shade in enumerate(_SHADES):
            cells = np.argwhere(np.floor(levels) == number)
            if len(cells):  # one path a shade: a rectangle a cell would be ten times as long
                paths = [Path(corners + np.array([column, row]), closed=True) for row, column in cells]
                axes.add_patch(PathPatch(Path.make_compound_path(*paths), facecolor=shade, linewidth=0))
        axes.set(xlim=(0, n), ylim=(n, 0), aspect="equal")
        axes.set_title(name, fontsize=7.5)
    for row, label in enumerate(classes):
        grid[0].text(-0.1, row + 0.5, label[:3], fontsize=6, ha="right", va="center", color=INK)
