"""Section "Genotypes": what was searched, as graphs."""

from collections import defaultdict

from emodarts.errors import EmodartsError
from emodarts.networks.genotype import Genotype
from emodarts.report import plots
from emodarts.report.elements import Collapsible, Element, Paragraph, Section
from emodarts.report.figures import Figure
from emodarts.report.report_data import ReportData

_INPUTS = {"normal": ("c[k-2]", "c[k-1]"), "reduction": ("c[k-2]", "c[k-1]"), "sequence": ("s[k-2]", "s[k-1]")}


def genotypes_section(data: ReportData) -> Section | None:
    """The winners' genotypes as graphs, equal ones once; None where nothing was searched."""
    rows = data.winner_rows("genotypes", ["fold", "genotype", "genotype_from"])
    folds_of: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: (r["sweep"], r["system"], r["fold"])):
        if row["genotype_from"] is None:
            folds_of[row["sweep"], row["system"], row["genotype"]].append(row["fold"])
    elements: list[Element] = []
    for number, ((sweep, system, text), folds) in enumerate(folds_of.items()):
        folds_text = ", ".join(map(str, folds))
        try:
            genotype = Genotype.from_json(text)
        except EmodartsError as error:
            elements.append(Paragraph(f"{sweep}, {system}, folds {folds_text}: {error}", "warning"))
            continue
        title = f"{sweep}: {system}, fold{'s' if len(folds) > 1 else ''} {folds_text}"
        elements.append(Collapsible(title, (_genotype_figure(f"genotype-{number}", title, genotype),)))
    if not elements:
        return None
    text = (
        "Blue: operations over time and frequency; orange: recurrent ones; grey: none and skip connections. A node is "
        "the sum of its edges, a cell's output is all of its nodes."
    )
    return Section("Genotypes", (Paragraph(text), *elements))


def _genotype_figure(name: str, title: str, genotype: Genotype) -> Figure:
    cells = [
        plots.CellDrawing(
            f"{kind} cell",
            inputs,
            [[(edge.operation, edge.source) for edge in node] for node in getattr(genotype, kind)],
        )
        for kind, inputs in _INPUTS.items()
    ]
    description = ". ".join(cell.describe() for cell in cells)
    width, height = plots.cells_size(cells)
    return Figure(name, title, description, lambda canvas: plots.draw_cells(canvas, cells), width, height)
