"""The report on a terminal: rich tables of at most 80 columns."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from emodarts.report.tables import Block, CrossLine, PublishedReport, published, report
from emodarts.results.reader import Results

_RULES = {"late_dev": "by dev", "last": "last", "best_test": "BEST ON TEST"}


def print_report(results: Results, console: Console) -> None:
    """Print what there is to say of each sweep, and of published protocols."""
    print_sweeps(results, console)
    print_published(results, console)


def print_published(results: Results, console: Console) -> None:
    """Print each published protocol beside the clean one, and what choosing the epoch on test is worth."""
    for one in published(results):
        console.print(_published_table(one))
        for (system, test_set), worth in one.worth.items():
            console.print(
                f"{system} on {test_set}: choosing the epoch on test is worth {100 * worth:.1f} points of UAR; between "
                "the two protocols labels, utterances and folds differ too",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )


def print_sweeps(results: Results, console: Console) -> None:
    """Print each sweep's headline tables, notices, counts and failures."""
    for part, sweep in zip(results.parts, report(results), strict=True):
        for block in sweep.blocks:
            console.print(_table(block))
        if sweep.crosses:
            console.print(_cross_table(sweep.crosses))
        told = ", ".join(f"{count} {status}" for status, count in sorted(sweep.counts.items())) or "none yet"
        again = f"; begun again {sweep.retries} times" if sweep.retries else ""
        console.print(f"{sweep.sweep}: configurations {told}{again}", highlight=False, soft_wrap=True, markup=False)
        for notice in sweep.notices:
            console.print(f"notice: {notice}", highlight=False, soft_wrap=True, markup=False)
        for failure in sweep.failures[:5]:
            console.print(f"failed: {failure}", highlight=False, soft_wrap=True, markup=False)
        if len(sweep.failures) > 5:
            console.print(f"failed: {len(sweep.failures) - 5} more, see the trials table")
        console.print(f"tables: {part.path}", highlight=False, soft_wrap=True, markup=False)


def _table(block: Block) -> Table:
    table = Table(title=f"{block.system} on {block.test_set}, {block.protocol}, {len(block.classes)} classes")
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
        table.add_row(x.system, x.test_set, x.normalisation, str(x.models), *figures, str(x.n), _figure(x.chance))
    return table


def _published_table(one: PublishedReport) -> Table:
    table = Table(title=f"{one.sweep}: published protocol ({one.weakness}), for comparison alone", show_lines=False)
    for name in ("system", "protocol", "epoch", "folds", "UAR", "sd", "WAR", "F1"):
        table.add_column(name, justify="left" if name in ("system", "protocol", "epoch") else "right")
    for x in one.lines:
        deviation = "-" if x.deviation is None else _figure(x.deviation)
        figures = (_figure(x.uar), deviation, _figure(x.war), _figure(x.macro_f1))
        where = x.protocol if x.test_set.endswith("/test") else f"{x.protocol} ({x.test_set.partition('/')[2]})"
        table.add_row(x.system, where, _RULES[x.epoch_rule], str(x.folds), *figures)
    return table


def _figure(value: float) -> str:
    return f"{value:.3f}".lstrip("0") if 0 <= value < 1 else f"{value:.3f}"
