"""The audit on a terminal: the verdicts first, then compact tables."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from emodarts.audit.model import Audit, CountTable, Cues, Finding, FoldAudit
from emodarts.console import printable

_STYLES = {"leak": "bold red", "warning": "yellow", "note": "cyan", "ok": "green"}
_MANY = 30  # rows; a table with more shows the largest


def print_audit(audit: Audit, console: Console) -> None:
    """Print the verdicts, then counts, durations, folds and cue figures. File names are shown as they are."""
    hours = audit.durations[0].hours if audit.durations else 0.0
    summary = f"{audit.utterances:,} utterances, {hours:.2f} h, {audit.labelled:,} labelled"
    _print(console, f"{audit.title}: {summary}, protocol {audit.protocol.name}", "bold")
    console.print(_findings(audit.findings))
    console.print()
    for counts in audit.counts:
        if counts.by in ("class", "session", "gender", "split", "speaker"):
            console.print(_count_table(counts, audit.classes))
    if audit.durations:
        console.print(_durations(audit))
    if audit.protocol.folds:
        console.print(_folds(audit.protocol.folds))
    if audit.cues.reason is None:
        console.print(_cues(audit.cues))
    if audit.dropped:
        console.print(_dropped(audit))


def _findings(findings: Sequence[Finding]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right")
    table.add_column()
    for finding in findings:
        text = Text.assemble((printable(finding.subject), "bold"), ": ", printable(finding.fact))
        if finding.severity != "ok":
            text.append(f"\n{finding.advice}", "dim")
        table.add_row(Text(finding.severity, style=_STYLES[finding.severity]), text)
    return table


def _print(console: Console, text: str, style: str = "") -> None:
    console.print(Text(printable(text), style=style))


def _table(title: str, first: str, numeric: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for name in numeric:
        table.add_column(name, justify="right")
    return table


def _row(table: Table, *cells: object) -> None:
    table.add_row(*(Text(printable(str(cell))) for cell in cells))


def _count_table(counts: CountTable, classes: Sequence[str]) -> Table:
    names = [] if counts.by == "class" else list(classes)
    table = _table(f"by {counts.by}", counts.by, ["n", "hours", *names])
    rows = counts.rows
    if len(rows) > _MANY:
        rows = tuple(sorted(rows, key=lambda row: -row.utterances)[:_MANY])
    for row in rows:
        _row(table, row.value, f"{row.utterances:,}", f"{row.hours:.2f}", *(row.classes.get(n, 0) for n in names))
    if len(rows) < len(counts.rows):
        _row(table, f"{len(counts.rows) - len(rows):,} more", "", "", *("" for _ in names))
    return table


def _durations(audit: Audit) -> Table:
    table = _table("durations (s)", "class", ["n", "hours", "min", "median", "p90", "max"])
    for s in audit.durations:
        figures = (f"{value:.2f}" for value in (s.hours, s.minimum, s.median, s.p90, s.maximum))
        _row(table, s.of, f"{s.utterances:,}", *figures)
    return table


def _folds(folds: Sequence[FoldAudit]) -> Table:
    table = _table("folds: utterances / speakers", "fold", [part.role for part in folds[0].parts])
    for fold in folds[:_MANY]:
        _row(table, fold.index, *(f"{part.utterances:,} / {len(part.speakers):,}" for part in fold.parts))
    if len(folds) > _MANY:
        _row(table, f"{len(folds) - _MANY} more", *("" for _ in folds[0].parts))
    return table


def _cues(cues: Cues) -> Table:
    table = _table("non-emotional cues: test UAR of a small forest", "cues", ["UAR"])
    for figure in cues.figures:
        _row(table, figure.name, f"{figure.uar:.3f}")
    _row(table, "chance", f"{cues.chance:.3f}")
    if cues.subsampled:
        table.caption = f"subsampled: {cues.subsampled}"
    return table


def _dropped(audit: Audit) -> Table:
    table = Table(title="dropped", title_justify="left")
    for name in ("n", "reason", "for example"):
        table.add_column(name, justify="right" if name == "n" else "left", overflow="fold")
    for reason in audit.dropped[:_MANY]:
        _row(table, f"{reason.count:,}", reason.reason, ", ".join(reason.examples[:2]))
    return table
