"""The report on a terminal: rich tables of at most 80 columns."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from emodarts.console import print_line
from emodarts.records import LATE_DEV
from emodarts.report.notices import comparability_notices
from emodarts.report.report_data import EvaluationPart, ReportData, SystemResults, load_report_data
from emodarts.report.sections.ensembles import column_mean
from emodarts.report.sections.published_protocol import EPOCH_RULES, compare_epoch_rules
from emodarts.results.reader import Results
from emodarts.results.statistics import Metrics, Spread, compute_metrics, majority, mean_metrics, spread

_LEFT = ("fold", "winner", "system", "protocol", "epoch", "tested on", "normalised by")  # columns of words
_METRICS = ("uar", "war", "macro_f1")
_MOST_FAILURES = 5


@dataclass(frozen=True)
class FoldSummary:
    """A fold's winner (by dev) and its figures on one test set, means over the winner's seeds."""

    fold: int
    trial: int
    seeds: int
    dev_uar: float | None  # of the first seed; None: the protocol has no dev part
    test: Metrics
    n: int


@dataclass(frozen=True)
class SystemSummary:
    """A system on one test set, fold by fold and all folds pooled; `majority`: of the test's most frequent class."""

    folds: tuple[FoldSummary, ...]
    pooled: Metrics
    majority: Metrics

    @property
    def dev_uar(self) -> Spread:
        """Over folds; NaN without a dev part."""
        values = [fold.dev_uar for fold in self.folds if fold.dev_uar is not None]
        return spread(values) if values else Spread(math.nan, math.nan, 0)

    def over_folds(self, metric: str) -> Spread:
        """Of a test figure: uar, war or macro_f1."""
        return spread([getattr(fold.test, metric) for fold in self.folds])


def summarise(system: SystemResults, part: EvaluationPart) -> SystemSummary:
    """The headline figures of a system on a test set, recomputed from its predictions."""
    pooled, folds = system.pooled(part), []
    metrics = [system.by_fold(part, name) for name in _METRICS]
    for fold in system.folds_of(part):
        rows = system.rows_of(part, fold)
        dev = [r["uar"] for p in system.parts("dev") for r in system.rows_of(p, fold) if r["seed"] == 0]
        trial, test = system.winners[fold].trial, Metrics(*(values[fold] for values in metrics))
        folds.append(FoldSummary(fold, trial, len(rows), dev[0] if dev else None, test, rows[0]["n"]))
    return SystemSummary(tuple(folds), mean_metrics(pooled), compute_metrics(majority(pooled[0]).confusion()))


def print_report(results: Results, console: Console, top: int | None = None, ensemble: Sequence[str] = ()) -> None:
    """Print the summary of each sweep, and published protocols; `top`, `ensemble`: see `load_report_data`."""
    data = load_report_data(results, top, ensemble)
    print_sweeps(data, console)
    print_published(data, console)


def print_sweeps(data: ReportData, console: Console) -> None:
    """Print each sweep's headline tables, notices, counts and failures."""
    for record in data.sweeps:
        systems = [system for system in data.systems if system.sweep == record.sweep]
        # What no dev part chose stands in a table of its own (`print_published`), and never beside these.
        clean = [system for system in systems if system.epoch_rule == LATE_DEV]
        for system in (system for system in clean if not system.is_ensemble):
            for part in system.parts("test"):
                console.print(_system_table(system, part))
        ensembles = [(s, part) for s in clean if s.is_ensemble for part in s.parts("test")]
        for test_set in sorted({part.test_set for _, part in ensembles}):
            console.print(_ensembles_table(test_set, [(s, p) for s, p in ensembles if p.test_set == test_set]))
        if any(system.parts("cross") for system in clean):
            console.print(_cross_table(clean))
        statuses: Counter[str] = Counter()
        for (_, status), number in record.statuses.items():
            statuses["not at their end" if status == "running" else status] += number
        counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) or "none yet"
        retries = f"; begun again {record.retries} times" if record.retries else ""
        print_line(console, f"{record.sweep}: configurations {counts}{retries}")
        for notice in comparability_notices(systems):
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
        system, rest = rule.results, rule.part.test_set.partition("/")[2]
        protocol = system.protocol if rest == "test" else f"{system.protocol} ({rest})"
        about = (system.system, protocol, EPOCH_RULES[system.epoch_rule], str(len(system.folds)))
        table.add_row(*about, *_figures(mean_metrics(rule.tallies)))
    console.print(table)
    for rule in rules:
        if rule.above_last is not None:
            print_line(
                console,
                f"{rule.results.system} on {rule.part.test_set}: choosing the epoch on test is worth "
                f"{100 * rule.above_last.value:.1f} points of UAR; between the two protocols labels, utterances and "
                "folds differ too",
            )


def _system_table(system: SystemResults, part: EvaluationPart) -> Table:
    summary, mark = summarise(system, part), ", study_per=sweep" if system.shared else ""
    if part.normalisation != "train":
        mark += f", normalised by {part.normalisation}"
    title = f"{system.system} on {part.test_set}, {system.protocol}, {len(system.classes)} classes{mark}"
    table = _new_table(title, ("fold", "winner", "dev UAR", "test UAR", "test WAR", "test F1", "n"))
    for fold in summary.folds:
        seeds = f" ({fold.seeds} seeds)" if fold.seeds > 1 else ""
        figures = (_figure(fold.dev_uar), *_figures(fold.test))
        table.add_row(str(fold.fold), f"trial {fold.trial}{seeds}", *figures, str(fold.n))
    table.add_section()
    table.add_row("pooled", "", "", *_figures(summary.pooled), str(sum(fold.n for fold in summary.folds)))
    spreads = [summary.dev_uar, *map(summary.over_folds, _METRICS)]
    table.add_row("mean", "", *(_figure(s.mean) for s in spreads), "")
    table.add_row("sd", "over folds", *(_figure(s.deviation) for s in spreads), "")
    table.add_row("chance", "", "", _figure(1 / len(system.classes)), "", "", "")
    table.add_row("majority", "test class", "", *_figures(summary.majority), "")
    return table


def _ensembles_table(test_set: str, ensembles: Sequence[tuple[SystemResults, EvaluationPart]]) -> Table:
    table = _new_table(
        f"means of each study's best trials on dev, on {test_set}, all folds pooled",
        ("system", "trials", "UAR", "F1", "agree", "ECE", "ECE of one"),
    )
    table.columns[0].overflow = "fold"
    for system, part in ensembles:
        uar, _, macro_f1 = _figures(mean_metrics(system.pooled(part)))
        sureness = (_figure(column_mean(system, part, column)) for column in ("agreement", "ece", "members_ece"))
        table.add_row(_marked_name(system), f"{column_mean(system, part, 'n_members'):.3g}", uar, macro_f1, *sureness)
    return table


def _marked_name(system: SystemResults) -> str:
    return f"{system.system}, study_per=sweep" if system.shared else system.system


def _cross_table(systems: Sequence[SystemResults]) -> Table:
    table = _new_table(
        "other corpora: means over the models of the folds",
        ("system", "tested on", "normalised by", "models", "UAR", "sd", "WAR", "F1", "n", "chance"),
    )
    for system, part in ((s, part) for s in systems for part in s.parts("cross")):
        uar, war, macro_f1 = (spread(list(system.by_fold(part, name).values())) for name in _METRICS)
        figures = map(_figure, (uar.mean, uar.deviation, war.mean, macro_f1.mean))
        n, chance = str(system.rows_of(part)[0]["n"]), _figure(1 / len(system.classes))
        table.add_row(_marked_name(system), part.test_set, part.normalisation, str(uar.n), *figures, n, chance)
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


def _figures(metrics: Metrics) -> list[str]:
    return [_figure(getattr(metrics, name)) for name in _METRICS]
