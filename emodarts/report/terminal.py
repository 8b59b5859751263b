"""The report on a terminal: rich tables of at most 80 columns."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from emodarts.console import print_line
from emodarts.report.report_data import ReportData, load_report_data
from emodarts.report.sections.published_protocol import EPOCH_RULES, compare_epoch_rules
from emodarts.report.sweep_summaries import CrossCorpusSummary, SystemSummary, summarise_sweeps
from emodarts.results.reader import Results
from emodarts.results.statistics import mean_metrics

_LEFT = ("fold", "winner", "system", "protocol", "epoch", "tested on", "normalised by")  # columns of words
_MOST_FAILURES = 5


def print_report(results: Results, console: Console) -> None:
    """Print the summary of each sweep, and published protocols."""
    data = load_report_data(results)
    print_sweeps(data, console)
    print_published(data, console)


def print_sweeps(data: ReportData, console: Console) -> None:
    """Print each sweep's headline tables, notices, counts and failures."""
    for summary in summarise_sweeps(data):
        record = summary.record
        for system in summary.systems:
            console.print(_system_table(system))
        if summary.cross_corpus:
            console.print(_cross_table(summary.cross_corpus))
        counts = [f"{n} {'not at their end' if s == 'running' else s}" for s, n in sorted(summary.counts.items())]
        retries = f"; begun again {record.retries} times" if record.retries else ""
        print_line(console, f"{record.sweep}: configurations {', '.join(counts) or 'none yet'}{retries}")
        for notice in summary.notices:
            print_line(console, f"notice: {notice}")
        for failure in record.failures[:_MOST_FAILURES]:
            print_line(console, f"failed: {failure}")
        if len(record.failures) > _MOST_FAILURES:
            print_line(console, f"failed: {len(record.failures) - _MOST_FAILURES} more, see the trials table")
        print_line(console, f"tables: {record.path}")


def print_published(data: ReportData, console: Console) -> None:
    """Print each published protocol beside the clean one, and what choosing the epoch on test is worth."""
    rules = compare_epoch_rules(data)
    if not rules:
        return
    table = _new_table(
        "published protocols beside clean ones, for comparison alone",
        ("system", "protocol", "epoch", "folds", "UAR", "WAR", "F1"),
    )
    for rule in rules:
        system, metrics, rest = rule.results, mean_metrics(rule.tallies), rule.part.test_set.partition("/")[2]
        protocol = system.protocol if rest == "test" else f"{system.protocol} ({rest})"
        figures = map(_figure, (metrics.uar, metrics.war, metrics.macro_f1))
        table.add_row(system.system, protocol, EPOCH_RULES[system.epoch_rule], str(len(system.folds)), *figures)
    console.print(table)
    for rule in rules:
        if rule.above_last is not None:
            print_line(
                console,
                f"{rule.results.system} on {rule.part.test_set}: choosing the epoch on test is worth "
                f"{100 * rule.above_last.value:.1f} points of UAR; between the two protocols labels, utterances and "
                "folds differ too",
            )


def _system_table(summary: SystemSummary) -> Table:
    system, mark = summary.results, ", study_per=sweep" if summary.results.shared else ""
    title = f"{system.system} on {summary.part.test_set}, {system.protocol}, {len(system.classes)} classes{mark}"
    table = _new_table(title, ("fold", "winner", "dev UAR", "test UAR", "test WAR", "test F1", "n"))
    for fold in summary.folds:
        seeds = f" ({fold.seeds} seeds)" if fold.seeds > 1 else ""
        figures = map(_figure, (fold.dev_uar, fold.test.uar, fold.test.war, fold.test.macro_f1))
        table.add_row(str(fold.fold), f"trial {fold.trial}{seeds}", *figures, str(fold.n))
    table.add_section()
    pooled, constant = summary.pooled, summary.majority
    total = str(sum(fold.n for fold in summary.folds))
    table.add_row("pooled", "", "", *map(_figure, (pooled.uar, pooled.war, pooled.macro_f1)), total)
    spreads = [summary.dev_uar, *map(summary.over_folds, ("uar", "war", "macro_f1"))]
    table.add_row("mean", "", *(_figure(None if s is None else s.mean) for s in spreads), "")
    table.add_row("sd", "over folds", *(_figure(None if s is None else s.deviation) for s in spreads), "")
    table.add_row("chance", "", "", _figure(summary.chance), "", "", "")
    table.add_row("majority", "test class", "", *map(_figure, (constant.uar, constant.war, constant.macro_f1)), "")
    return table


def _cross_table(summaries: Sequence[CrossCorpusSummary]) -> Table:
    table = _new_table(
        "other corpora: means over the models of the folds",
        ("system", "tested on", "normalised by", "models", "UAR", "sd", "WAR", "F1", "n", "chance"),
    )
    for s in summaries:
        name = f"{s.results.system}, study_per=sweep" if s.results.shared else s.results.system
        figures = map(_figure, (s.uar.mean, s.uar.deviation, s.war, s.macro_f1))
        chance = _figure(1 / len(s.results.classes))
        table.add_row(name, s.part.test_set, s.part.normalisation, str(s.uar.n), *figures, str(s.n), chance)
    return table


def _new_table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="left" if name in _LEFT else "right")
    return table


def _figure(value: float | None) -> str:
    """Three digits, without the 0 before the point; a dash for None and NaN."""
    if value is None or value != value:
        return "-"
    return f"{value:.3f}".lstrip("0") if 0 <= value < 1 else f"{value:.3f}"
