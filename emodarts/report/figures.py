"""Figures as vector graphics: for the page in the colour of its text (light and dark both read well), and as files."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

INK = "#14181c"  # text and axes; on the page it becomes the colour of the text
SOFT = "#8a929a"
COLOURS = ("#3a7fc4", "#d9822b", "#2f9e6e", "#9b62c4", "#d1495b", "#2a9fb0", "#8c7853", "#c45fa0")
_STYLE: Any = {
    "text.parse_math": False,
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "emodarts",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Figure:
    """A drawing with a name that is safe in file systems; `draw` gets an empty canvas.

    `description` says in words what is to be seen, after the caption: for those who hear the page.
    """

    name: str
    caption: str
    description: str
    draw: Callable[["Canvas"], None]
    width: float = 6.4  # inches
    height: float = 3.0
    least_width: float = 0.0  # on a screen that is narrower than this, the figure is to be scrolled

    def svg(self) -> str:
        """An element to put into a page: no prologue, ids of its own, the page's colour and font."""
        text = self.to_bytes("svg").decode()
        text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
        text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{self.name}-", text)
        text = re.sub(r"'DejaVu Sans'[^;\"]*sans-serif", "sans-serif", text)  # the page's own comes in its place
        text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
        label = _attribute(f"{self.caption}. {self.description}")
        least = f"; min-width: {self.least_width * 72:.0f}pt" if self.least_width else ""
        size = f'<svg style="max-width: {self.width * 72:.0f}pt{least}" role="img" aria-label="{label}"'
        text = size + text.removeprefix("<svg")
        return text.replace(INK, "currentColor").strip()

    def to_bytes(self, kind: str) -> bytes:
        """The content of a file: `svg`, `pdf`, or `png` on white; the same bytes each time."""
        import matplotlib
        from matplotlib.backend_bases import get_registered_canvas_class
        from matplotlib.figure import Figure as Canvas

        sink = io.BytesIO()
        with matplotlib.rc_context(_STYLE):
            canvas = Canvas(figsize=(self.width, self.height))
            get_registered_canvas_class(kind)(canvas)  # whose fonts the layout is to measure
            self.draw(canvas)
            if layout := canvas.get_layout_engine():
                layout.execute(canvas)
                canvas.set_layout_engine("none")  # `savefig` would draw all of it once more, for the layout
            if kind == "png":
                canvas.savefig(sink, format=kind, dpi=144, facecolor="white", metadata={"Software": None})
            else:
                canvas.savefig(sink, format=kind, metadata={"Date": None} if kind == "svg" else {"CreationDate": None})
        return sink.getvalue()


def colour(number: int) -> str:
    """The colour of the n-th system; after eight they repeat."""
    return COLOURS[number % len(COLOURS)]


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
