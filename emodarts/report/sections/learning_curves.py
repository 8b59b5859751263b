"""Section "Learning curves": searches and trainings of the winners over their epochs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emodarts.report import plots
from emodarts.report.elements import Element, Paragraph, Section
from emodarts.report.figures import Figure
from emodarts.report.report_data import ReportData
from emodarts.report.tables import slug

# A figure: phase, title, and the columns of its panels with what is written above each.
_FIGURES: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("train", "training of the winners", {"dev_uar": "dev UAR", "train_loss": "training loss"}),
    ("search", "search", {"dev_uar": "dev UAR of the supernet", "train_loss": "training loss"}),
    ("search", "architecture parameters", {"entropy": "entropy (nats)", "skip_connections": "skip connections"}),
)


def learning_curves_section(data: ReportData) -> Section | None:
    """Learning curves of the winners' first seeds, and what the alphas did; None where nothing has epochs."""
    columns = sorted({column for _, _, panels in _FIGURES for column in panels})
    rows = data.winner_rows("epochs", ["system", "fold", "phase", "epoch", *columns])
    elements: list[Element] = []
    for sweep in (record.sweep for record in data.sweeps):
        of_sweep = [row for row in rows if row["sweep"] == sweep]
        names = {data.system_names.index(name): name for name in sorted({row["system"] for row in of_sweep})}
        for phase, title, panels in _FIGURES:
            of_phase = [row for row in of_sweep if row["phase"] == phase]
            elements += _curves_figure(f"{sweep}: {title}", slug(f"courses {sweep} {title}"), names, of_phase, panels)
    text = Paragraph("Winners of each fold, first seed: thin lines are folds, the thick one is their mean.")
    return Section("Learning curves", (text, *elements)) if elements else None


def _curves_figure(
    caption: str, name: str, systems: dict[int, str], rows: Sequence[dict[str, Any]], titles: Mapping[str, str]
) -> list[Figure]:
    """A panel a column of `titles` that has values; no figure without any. `systems`: number -> name."""
    numbers = {system: number for number, system in systems.items()}
    panels = []
    for column, title in titles.items():
        by_fold: dict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
        for row in rows:
            if row[column] is not None:
                by_fold[numbers[row["system"]], row["fold"]].append((row["epoch"] + 1, row[column]))
        curves = [
            plots.Curve(system, *np.array(sorted(points)).T.astype(np.float64))
            for (system, _), points in sorted(by_fold.items())
        ]
        if curves:
            panels.append((title, curves))
    if not panels:
        return []
    description = f"{' and '.join(title for title, _ in panels)} over epochs"
    height = 2.9 + 0.25 * (len(systems) > 4)
    return [
        Figure(
            name, caption, description, lambda canvas: plots.draw_curves(canvas, panels, systems, "epoch"), 7.2, height
        )
    ]
