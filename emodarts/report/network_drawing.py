"""The drawing of a network as a whole: its stages with their sizes in a row, and below each kind of cell as a graph.

All lengths are inches, from the lower left corner. A cell has a row for each state and a column for each node. A
state's line runs to the right as far as something reads it; below the line, in the column of the node that reads,
stands the operation of that edge, whose own line ends at the node: so no label lies on another one.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from emodarts.report.figures import INK, SOFT

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

# Kind of operation -> line, fill, text. The fills differ in lightness, so that they do without colour.
STYLES = {
    "convolution": ("#3a7fc4", "#1f4e7d", "#ffffff"),
    "attention": ("#9b62c4", "#8f55ba", "#ffffff"),
    "recurrent": ("#d9822b", "#e8a13a", "#14181d"),
    "pooling": ("#2f9e6e", "#c9e8d9", "#14181d"),
    "skip": (SOFT, "none", INK),
    "none": (SOFT, "none", SOFT),
}
_WORDS = {"lstm": "LSTM", "rnn": "RNN", "gru": "GRU", "bilstm": "BiLSTM", "bigru": "BiGRU"}
_SMALL, _TEXT, _NAME = 7.0, 7.5, 8.5  # points
_BOX, _GAP, _PILL, _RADIUS = 0.4, 0.22, 0.2, 0.1
_STATE_ROW, _EDGE_ROW, _TITLE = 0.22, 0.22, 0.38
_LEAST_WIDTH = 4.4
Point = tuple[float, float]


def kind_of(operation: str) -> str:
    """The kind of an operation, a key of STYLES."""
    if operation in ("none", "skip_connect"):
        return operation.partition("_")[0]
    if "attention" in operation:
        return "attention"
    if "pool" in operation:
        return "pooling"
    return "recurrent" if operation.partition("_")[0] in _WORDS else "convolution"


def label_of(operation: str) -> str:
    """An operation as readers call it: `lstm_attention_2` is "BiLSTM ×2 + att.", `conv1d_3_d2` "conv1d 3, dil. 2"."""
    name, *rest = operation.split("_")
    if name in _WORDS:
        attends, layers = "attention" in rest, rest[-1]
        times = "" if layers == "1" else f" ×{layers}"
        return f"{'Bi' if attends else ''}{_WORDS[name]}{times}{' + att.' if attends else ''}"
    if operation.startswith("self_attention"):
        return f"attention, {rest[-1]} heads"
    if operation == "skip_connect":
        return "skip"
    words = [f", dil. {word[1:]}" if word[0] == "d" and word[1:].isdigit() else f" {word}" for word in rest]
    words = [word.replace("x", "×") if word.strip()[0].isdigit() else word for word in words]
    return name + "".join(words)


def _width(text: str, points: float) -> float:
    """What the longest line may take at most: of the fonts that pages and papers have, DejaVu Sans is a wide one."""
    return max((len(line) for line in text.split("\n")), default=0) * points * 0.61 / 72


@dataclass(frozen=True)
class Stage:
    """A part of the network: its name and what it gives, of up to two lines; `kind`: N, R or S of a cell."""

    label: str
    size: str = ""
    kind: str = ""
    reads_frames: bool = False

    @property
    def width(self) -> float:
        """Of the box; its sizes may be as wide as the gap to the next one allows."""
        return max(0.36, _width(self.label, _TEXT) + 0.14, _width(self.size, _SMALL) - _GAP + 0.06)


@dataclass(frozen=True)
class CellDrawing:
    """A cell of a genotype: `nodes` have edges `(operation, source)`, sources counted from the inputs on."""

    kind: str
    title: str
    inputs: tuple[str, str]
    nodes: tuple[tuple[tuple[str, int], ...], ...]

    @cached_property
    def rows(self) -> list[float]:
        """The height of each state's row: its line, and a place for each edge that one node has from it."""
        states = range(len(self.inputs) + len(self.nodes))
        most = [max(Counter(source for _, source in node)[state] for node in self.nodes) for state in states]
        return [_STATE_ROW + _EDGE_ROW * edges for edges in most]

    @cached_property
    def begin(self) -> float:
        """Where the first column begins."""
        return max(_width(text, _TEXT) for text in self.inputs) + 0.3

    @cached_property
    def columns(self) -> list[tuple[float, float]]:
        """Of each node where its operations begin, and how wide they are."""
        x, columns = self.begin, []
        for node in self.nodes:
            wide = max(_width(label_of(name), _TEXT) for name, _ in node) + 0.12
            columns.append((x + 0.14, wide))
            x += 0.14 + wide + 0.17 + 2 * _RADIUS
        return columns

    @property
    def width(self) -> float:
        """Of the graph."""
        return sum(self.columns[-1]) + 0.17 + 2 * _RADIUS + 0.45

    @property
    def height(self) -> float:
        """Of the graph with its title."""
        return _TITLE + sum(self.rows)

    def describe(self) -> str:
        """The cell in words."""
        states = [*self.inputs, *(f"node {n}" for n in range(len(self.nodes)))]
        sums = (
            f"node {n} = " + " + ".join(f"{name}({states[source]})" for name, source in edges)
            for n, edges in enumerate(self.nodes)
        )
        return f"{self.title}: " + ", ".join(sums)


@dataclass(frozen=True)
class NetworkDrawing:
    """A network: its stages in order, and its kinds of cell. `shortcut`: stages of which one reads the other, too."""

    stages: tuple[Stage, ...]
    cells: tuple[CellDrawing, ...] = ()
    shortcut: tuple[int, int] | None = None

    @cached_property
    def width(self) -> float:
        """Of the figure."""
        legend = 0.1 + sum(0.44 + _width(kind, _SMALL) for kind in self.kinds)
        return max([_LEAST_WIDTH, legend, *(cell.width + 0.1 for cell in self.cells)])

    @cached_property
    def rows(self) -> list[list[int]]:
        """The stages in rows that are no wider than the figure; those of a shortcut stay together."""
        begin, end = self.shortcut or (0, 0)
        chunks = [[n] for n in range(len(self.stages)) if not begin < n <= end]
        for chunk in chunks:
            chunk += range(begin + 1, end + 1) if chunk == [begin] else []
        rows: list[list[int]] = [[]]
        left = self.width
        for chunk in chunks:
            wide = sum(self.stages[n].width + _GAP for n in chunk)
            if rows[-1] and wide > left - 0.2:
                rows.append([])
                left = self.width
            rows[-1] += chunk
            left -= wide
        return rows

    @property
    def row_height(self) -> float:
        """Of a row of stages: what leads above the boxes, the boxes, their sizes and a space."""
        return self._above + _BOX + 0.42

    @property
    def _above(self) -> float:
        return 0.42 if self.shortcut or any(stage.reads_frames for stage in self.stages) else 0.08

    @property
    def kinds(self) -> list[str]:
        """The kinds of operations of its cells."""
        used = {kind_of(name) for cell in self.cells for node in cell.nodes for name, _ in node}
        return [kind for kind in STYLES if kind in used]

    @property
    def height(self) -> float:
        """Of the figure."""
        return len(self.rows) * self.row_height + sum(c.height for c in self.cells) + (0.34 if self.cells else 0)

    def describe(self) -> str:
        """The network in words."""
        stages = (f"{s.label} ({s.size})" if s.size else s.label for s in self.stages)
        text = "from input to classes: " + " → ".join(stages).replace("\n", " ")
        return ". ".join([text, *(cell.describe() for cell in self.cells)])

    def draw(self, canvas: "Canvas") -> None:
        """Draw it on an empty canvas of its size."""
        canvas.set_layout_engine("none")
        pen, top = _Pen(canvas), self.height
        for number in range(len(self.rows)):
            self._draw_row(pen, number, top - self._above - _BOX / 2)
            top -= self.row_height
        for cell in self.cells:
            _draw_cell(pen, cell, top)
            top -= cell.height
        x = 0.1
        for kind in self.kinds:
            line, fill, _ = STYLES[kind]
            pen.box(x, 0.08, 0.24, 0.12, line, fill, dotted=kind == "none")
            pen.text(x + 0.3, 0.14, kind, _SMALL, align="left")
            x += 0.3 + _width(kind, _SMALL) + 0.14

    def _draw_row(self, pen: "_Pen", number: int, y: float) -> None:
        x, row, top = 0.2, self.rows[number], y + _BOX / 2
        if number:  # the line from the row above came down to here
            pen.line([(0.06, y + self.row_height / 2 - 0.1), (0.06, y), (x, y)], arrow=True)
        middles: dict[int, float] = {}
        for place in row:
            stage = self.stages[place]
            wide = stage.width
            middles[place] = x + wide / 2
            if stage.kind == "R":
                pen.line([(x, y - 0.2), (x, y + 0.2), (x + wide, y + 0.14), (x + wide, y - 0.14), (x, y - 0.2)])
            else:
                pen.box(x, y - _BOX / 2, wide, _BOX, INK, "none", radius=0.02 if stage.kind else 0.1)
            pen.text(x + wide / 2, y, stage.label, _TEXT)
            pen.text(x + wide / 2, y - _BOX / 2 - 0.05, stage.size, _SMALL, vertical="top")
            x += wide
            if place != row[-1]:
                pen.line([(x, y), (x + _GAP, y)], arrow=True)
            elif place < len(self.stages) - 1:
                below = y - self.row_height / 2 - 0.1
                pen.line([(x, y), (x + 0.1, y), (x + 0.1, below), (0.06, below)])
            x += _GAP
        readers = [n for n in row if self.stages[n].reads_frames]
        if readers:
            rail = top + 0.22
            if number:
                pen.text(0.2, rail, "frames", _SMALL, tone=SOFT, align="left")
            first = [(0.62, rail)] if number else [(middles[0], top), (middles[0], rail)]
            for n in readers:
                x = middles[n] - 0.08
                pen.line([*first, (x, rail), (x, top - (0.02 if self.stages[n].kind == "R" else 0))], SOFT, arrow=True)
                first = [(x, rail)]
        if self.shortcut and self.shortcut[0] in middles:
            begin, end = (middles[n] + 0.08 for n in self.shortcut)
            pen.line([(begin, top), (begin, top + 0.12), (end, top + 0.12), (end, top)], arrow=True)


def _draw_cell(pen: "_Pen", cell: CellDrawing, top: float) -> None:
    pen.text(0.06, top - 0.14, cell.kind, _NAME + 1, align="left", weight="bold")
    pen.text(0.26, top - 0.14, cell.title, _NAME, align="left")
    lines, y = [], top - _TITLE + 0.02
    for height in cell.rows:
        lines.append(y)
        y -= height
    inputs = len(cell.inputs)
    centres = [x + wide + 0.17 + _RADIUS for x, wide in cell.columns]
    end = cell.width - 0.3
    rails = [[(x + _RADIUS, y), (end, y)] for x, y in zip(centres, lines[inputs:], strict=True)]
    for state, (y, text) in enumerate(zip(lines, cell.inputs, strict=False)):
        wide = _width(text, _TEXT) + 0.12
        pen.box(0.06, y - 0.1, wide, 0.2, SOFT, "none")
        pen.text(0.06 + wide / 2, y, text, _TEXT)
        readers = [n for n, node in enumerate(cell.nodes) if state in {source for _, source in node}]
        if readers:
            rails.append([(0.06 + wide, y), (cell.columns[readers[-1]][0] - 0.12, y)])
    pen.lines(rails, SOFT, 1.0)
    for node, edges in enumerate(cell.nodes):
        _draw_edges(pen, cell, node, lines, centres[node], sorted(edges, key=lambda edge: edge[1]))
        pen.circle(centres[node], lines[inputs + node])
        pen.text(centres[node], lines[inputs + node], str(node), _TEXT)
    middle, half = (lines[inputs] + lines[-1]) / 2, max(0.24, (lines[inputs] - lines[-1]) / 2 + 0.12)
    pen.box(end, middle - half, 0.2, 2 * half, SOFT, "none", radius=0.04)
    pen.text(end + 0.1, middle, "concat", _SMALL, turned=True)


def _draw_edges(
    pen: "_Pen", cell: CellDrawing, node: int, lines: Sequence[float], centre: float, edges: Sequence[tuple[str, int]]
) -> None:
    """The operations of a node's edges, those of the first states above, and their lines down to the node."""
    x, wide = cell.columns[node]
    seen: Counter[int] = Counter()
    for number, (name, source) in enumerate(edges):
        kind = kind_of(name)
        line, fill, ink = STYLES[kind]
        y = lines[source] - 0.19 - _EDGE_ROW * seen[source]
        seen[source] += 1
        aside = min(0.08, 1.6 * _RADIUS / len(edges)) * ((len(edges) - 1) / 2 - number)
        place, foot = centre + aside, lines[len(cell.inputs) + node] + (_RADIUS**2 - aside**2) ** 0.5
        ways = [(x - 0.12, lines[source]), (x - 0.05, y), (x, y)], [(x + wide, y), (place, y), (place, foot)]
        pen.lines(ways, line, 1.5, arrow=True, dotted=kind == "none", gid=f"edge-{cell.kind}-{node}-{number}")
        pen.box(x, y - _PILL / 2, wide, _PILL, line, fill, dotted=kind == "none")
        pen.text(x + wide / 2, y, label_of(name), _TEXT, tone=ink)


@dataclass(frozen=True)
class _Pen:
    """Draws on a canvas without axes, which would take longer than all that is drawn."""

    canvas: "Canvas"

    def line(self, points: Sequence[Point], tone: str = INK, arrow: bool = False) -> None:
        """A line, with a head at its end where it is an arrow."""
        self.lines([points], tone, 1.0, arrow)

    def lines(
        self,
        lines: Sequence[Sequence[Point]],
        tone: str,
        wide: float,
        arrow: bool = False,
        dotted: bool = False,
        gid: str | None = None,
    ) -> None:
        """Lines in one path, which is a third of the text that a path for each would be; a head for the last one."""
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        paths = [Path(points) for points in lines]
        if arrow:
            (x, y), (to_x, to_y) = lines[-1][-2:]
            length = max(1e-9, ((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5)
            ahead = 0.055 * (to_x - x) / length, 0.055 * (to_y - y) / length
            wings = [(to_x - ahead[0] + 0.6 * s * ahead[1], to_y - ahead[1] - 0.6 * s * ahead[0]) for s in (1, -1)]
            paths.append(Path([wings[0], (to_x, to_y), wings[1]]))
        style: Any = {"transform": self.canvas.dpi_scale_trans, "linestyle": (0, (1.5, 1.2)) if dotted else "-"}
        path = Path.make_compound_path(*paths)
        self.canvas.add_artist(PathPatch(path, fill=False, edgecolor=tone, linewidth=wide, gid=gid, **style))

    def box(
        self,
        x: float,
        y: float,
        wide: float,
        high: float,
        tone: str,
        fill: str,
        radius: float = 0.06,
        dotted: bool = False,
    ) -> None:
        """A box with round corners."""
        from matplotlib.patches import FancyBboxPatch

        style: Any = {"transform": self.canvas.dpi_scale_trans, "linestyle": (0, (1.5, 1.2)) if dotted else "-"}
        shape = f"round,pad=0,rounding_size={min(radius, high / 2)}"
        self.canvas.add_artist(
            FancyBboxPatch((x, y), wide, high, shape, edgecolor=tone, facecolor=fill, linewidth=0.9, **style)
        )

    def circle(self, x: float, y: float) -> None:
        """A node: four curves, where matplotlib's own circle has eight."""
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        near, far = 0.5523 * _RADIUS, _RADIUS
        corner = [(far, near), (near, far), (0.0, far)]
        points = [(x + far, y)]
        for turn in (1, 1j, -1, -1j):
            ends = (complex(*point) * turn for point in corner)
            points += [(x + end.real, y + end.imag) for end in ends]
        path = Path(points, [Path.MOVETO, *[Path.CURVE4] * 12])
        style: Any = {"transform": self.canvas.dpi_scale_trans, "fill": False, "edgecolor": INK, "linewidth": 1.0}
        self.canvas.add_artist(PathPatch(path, **style))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        points: float,
        tone: str = INK,
        align: str = "center",
        vertical: str = "center",
        weight: str = "normal",
        turned: bool = False,
    ) -> None:
        """A text."""
        from matplotlib.text import Text

        style: Any = {"transform": self.canvas.dpi_scale_trans, "rotation": 90 if turned else 0}
        about: Any = {"ha": align, "va": vertical, "fontsize": points, "fontweight": weight, "color": tone}
        self.canvas.add_artist(Text(x, y, text, **about, **style))
