"""Tables of a report: raw values with a kind a column, written as text, CSV, Markdown and LaTeX."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from emodarts.results.statistics import Interval

Kind = Literal["text", "count", "figure", "difference", "p"]
Cell = str | int | float | Interval | None
Tone = Literal["", "strong", "soft"]
NONE = "–"
_TEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "−": "$-$",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
}


@dataclass(frozen=True)
class Column:
    """A column's head, and how its values are written: `figure` .123, `difference` +.123, `p` as a p-value."""

    title: str
    kind: Kind = "text"


def head(titles: str) -> tuple[Column, ...]:
    """Columns from their titles between bars, each with its kind behind a colon if it is no text: `fold | n: count`."""
    parts = (title.strip().partition(": ") for title in titles.split("|"))
    return tuple(Column(title, cast(Kind, kind or "text")) for title, _, kind in parts)


@dataclass(frozen=True)
class ReportTable:
    """A table with a name that is safe in file systems; `tones` marks rows (by number) as strong or soft."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    tones: tuple[Tone, ...] = ()

    def tone(self, row: int) -> Tone:
        """The mark of a row."""
        return self.tones[row] if row < len(self.tones) else ""

    def texts(self) -> list[list[str]]:
        """Every cell as it is read."""
        return [[format_cell(v, c.kind) for v, c in zip(row, self.columns, strict=True)] for row in self.rows]


def format_cell(value: Cell, kind: Kind) -> str:
    """A value as text; an interval with its limits in brackets, a dash for None and NaN."""
    if isinstance(value, Interval):
        limits = (value.low, value.high)
        inside = f" [{', '.join(_number(x, kind) for x in limits)}]" if _is_known(value.low) else ""
        return _number(value.value, kind) + inside
    return value if isinstance(value, str) else _number(value, kind)


def to_csv(table: ReportTable) -> str:
    """Comma-separated, unrounded; an interval takes three columns."""
    wide = [any(isinstance(row[i], Interval) for row in table.rows) for i in range(len(table.columns))]
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(
        _flat([c.title for c in table.columns], wide, lambda title: [title, f"{title} low", f"{title} high"])
    )
    writer.writerows(_flat(row, wide, _three) for row in table.rows)
    return sink.getvalue()


def to_markdown(table: ReportTable) -> str:
    """A pipe table with its title and notes."""
    rule = [":--" if c.kind == "text" else "--:" for c in table.columns]
    lines = [[_pipe(c.title) for c in table.columns], rule, *([_pipe(x) for x in row] for row in table.texts())]
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([f"**{_pipe(table.title)}**", grid, *map(_pipe, table.notes)]) + "\n"


def to_latex(table: ReportTable) -> str:
    """A `table` with booktabs rules (`\\usepackage{booktabs}`); soft rows come after a rule of their own."""
    align = "".join("l" if c.kind == "text" else "r" for c in table.columns)
    lines = []
    for number, row in enumerate(table.texts()):
        if number and table.tone(number) == "soft" and table.tone(number - 1) != "soft":
            lines.append(r"\midrule")
        cells = " & ".join(_tex(x) for x in row)
        lines.append(("{}" if cells.startswith("[") else "") + cells + r" \\")  # else the rule above would take it
    titles = " & ".join(_tex(c.title) for c in table.columns) + r" \\"
    caption = " ".join([table.title + ".", *table.notes])
    begin = [r"\begin{table}", r"\centering", rf"\caption{{{_tex(caption)}}}", rf"\label{{tab:{table.name}}}"]
    rows = [
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        titles,
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*begin, *rows, r"\end{table}", ""])


FORMATS: dict[str, Callable[[ReportTable], str]] = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


def slug(text: str) -> str:
    """A name that is safe in file systems, in HTML and in LaTeX labels; other sweeps and systems, other names."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:100] or "x"


def _is_known(value: float | None) -> bool:
    return value is not None and value == value


def _number(value: float | int | None, kind: Kind) -> str:
    if value is None or value != value:
        return NONE
    if kind == "count":
        return f"{value:,.0f}"
    if kind == "p":
        return "< .001" if value < 0.001 else _short(f"{value:.3f}")
    if kind == "difference":
        return _short(f"{value:+.3f}").replace("-", "−")
    return _short(f"{value:.3f}").replace("-", "−")


def _short(text: str) -> str:
    """Figures between -1 and 1 are written without the 0 before the point."""
    return re.sub(r"^([+-]?)0\.", r"\1.", text)


def _flat(cells: Sequence[Cell], wide: Sequence[bool], parts: Callable[[Cell], list[Cell]]) -> list[Cell]:
    return [x for cell, three in zip(cells, wide, strict=True) for x in (parts(cell) if three else [cell])]


def _three(cell: Cell) -> list[Cell]:
    return [cell.value, cell.low, cell.high] if isinstance(cell, Interval) else [cell, None, None]


def _pipe(text: str) -> str:
    """Without what Markdown, or HTML in it, would take for its own."""
    return re.sub(r"([\\|*`<>])", r"\\\1", " ".join(text.split()))


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)
