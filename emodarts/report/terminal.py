"""The report on a terminal: rich tables of at most 80 columns."""

from collections.abc import Sequence
from statistics import mean

from rich.console import Console
from rich.table import Table

from emodarts.report.published import RULES, rule_lines
from emodarts.report.report_data import ReportData, load_report_data
from emodarts.report.tables import Block, CrossLine, reports
from emodarts.results.reader import Results
from emodarts.results.statistics import Tally, figures
from emodarts.results.statistics.summaries import Metrics


def print_report(results: Results, console: Console) -> None:
    """Print what there is to say of each sweep, and of published protocols."""
    evidence = load_report_data(results)
    print_sweeps(evidence, console)
    print_published(evidence, console)


def print_sweeps(evidence: ReportData, console: Console) -> None:
    """Print each sweep's headline tables, notices, counts and failures."""
    for course, sweep in zip(evidence.courses, reports(evidence), strict=True):
        for block in sweep.blocks:
            console.print(_table(block))
        if sweep.crosses:
            console.print(_cross_table(sweep.crosses))
        names = {"running": "not at their end"}
        told = (
            ", ".join(f"{count} {names.get(status, status)}" for status, count in sorted(sweep.counts.items()))
            or "none yet"
        )
        again = f"; begun again {sweep.retries} times" if sweep.retries else ""
        _say(console, f"{sweep.sweep}: configurations {told}{again}")
        for notice in sweep.notices:
            _say(console, f"notice: {notice}")
        for failure in sweep.failures[:5]:
            _say(console, f"failed: {failure}")
        if len(sweep.failures) > 5:
            _say(console, f"failed: {len(sweep.failures) - 5} more, see the trials table")
        _say(console, f"tables: {course.path}")


def print_published(evidence: ReportData, console: Console) -> None:
    """Print each published protocol beside the clean one, and what choosing the epoch on test is worth."""
    lines = rule_lines(evidence)
    if not lines:
        return
    table = Table(title="published protocols beside clean ones, for comparison alone")
    for name in ("system", "protocol", "epoch", "folds", "UAR", "WAR", "F1"):
        table.add_column(name, justify="left" if name in ("system", "protocol", "epoch") else "right")
    for line in lines:
        names = ("uar", "war", "macro_f1")
        values = [mean(getattr(f, name) for f in map(_figures, line.tallies)) for name in names]
        e, rest = line.entry, line.part.test_set.partition("/")[2]
        where = e.protocol if rest == "test" else f"{e.protocol} ({rest})"
        table.add_row(e.system, where, RULES[e.epoch_rule], str(len(e.folds)), *map(_figure, values))
    console.print(table)
    for line in lines:
        if line.above_last is not None:
            _say(
                console,
                f"{line.entry.system} on {line.part.test_set}: choosing the epoch on test is worth "
                f"{100 * line.above_last.value:.1f} points of UAR; between the two protocols labels, utterances and "
                "folds differ too",
            )


def _figures(tally: Tally) -> Metrics:
    return figures(tally.confusion())


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _title(block: Block) -> str:
    mark = ", study_per=sweep" if block.shared else ""
    return f"{block.system} on {block.test_set}, {block.protocol}, {len(block.classes)} classes{mark}"


def _table(block: Block) -> Table:
    table = Table(title=_title(block))
    for name in ("fold", "winner", "dev UAR", "test UAR", "test WAR", "test F1", "n"):
        table.add_column(name, justify="left" if name in ("fold", "winner") else "right")
    for line in block.folds:
        seeds = f" ({line.seeds} seeds)" if line.seeds > 1 else ""
        figures = (line.dev_uar, line.test_uar, line.test_war, line.test_macro_f1)
        table.add_row(str(line.fold), f"trial {line.trial}{seeds}", *(_figure(x) for x in figures), str(line.n))
    table.add_section()
    total = str(sum(line.n for line in block.folds))
    p = block.pooled
    table.add_row("pooled", "", "", _figure(p["uar"]), _figure(p["war"]), _figure(p["macro_f1"]), total)
    cells = [block.mean_and_deviation(name) for name in ("dev_uar", "test_uar", "test_war", "test_macro_f1")]
    table.add_row("mean", "", *(_figure(m) for m, _ in cells), "")
    table.add_row("sd", "over folds", *("-" if d is None else _figure(d) for _, d in cells), "")
    m = block.majority
    table.add_row("chance", "", "", _figure(block.chance), "", "", "")
    table.add_row("majority", "test class", "", _figure(m["uar"]), _figure(m["war"]), _figure(m["macro_f1"]), "")
    return table


def _cross_table(lines: Sequence[CrossLine]) -> Table:
    table = Table(title="other corpora: means over the models of the folds")
    for name in ("system", "tested on", "normalised by", "models", "UAR", "sd", "WAR", "F1", "n", "chance"):
        table.add_column(name, justify="left" if name in ("system", "tested on", "normalised by") else "right")
    for x in lines:
        deviation = "-" if x.deviation is None else _figure(x.deviation)
        figures = (_figure(x.uar), deviation, _figure(x.war), _figure(x.macro_f1))
        name = f"{x.system}, study_per=sweep" if x.shared else x.system
        table.add_row(name, x.test_set, x.normalisation, str(x.models), *figures, str(x.n), _figure(x.chance))
    return table


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}".lstrip("0") if 0 <= value < 1 else f"{value:.3f}"
