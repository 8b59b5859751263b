"""`emodarts leaderboard`: the systems of all results in one table, best first, with filters; never across protocols."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from emodarts.errors import EmodartsError
from emodarts.files import write_output

if TYPE_CHECKING:
    from rich.table import Table

    from emodarts.results.reader import Results

SORTS = ("uar", "war", "macro_f1", "parameters", "ece")
GROUPS = ("corpus", "protocol", "system", "features", "normalisation", "none")


@dataclass(frozen=True)
class LeaderboardRow:
    """A system on a test set; figures are means over seeds, all folds pooled, `low` and `high` over speakers."""

    corpus: str
    protocol: str
    test_set: str
    system: str
    features: str
    normalisation: str
    uar: float
    low: float
    high: float
    war: float
    macro_f1: float
    ece: float | None
    parameters: float
    seeds: int
    speakers: int
    sweep: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("results", nargs="+", help="as of `report`")
    parser.add_argument("--sort", choices=SORTS, default="uar", help="best first by this (default: uar)")
    parser.add_argument("--by", choices=GROUPS, default="corpus", help="a table each (default: corpus)")
    for name in ("system", "corpus", "features", "normalisation"):
        parser.add_argument(f"--{name}", metavar="A,B", help=f"only these ({name}); a part of the name is enough")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="write all rows, unrounded, too")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the tables. Raises EmodartsError, also where nothing is left by the filters."""
    from emodarts.console import output
    from emodarts.results import reader

    rows = read_leaderboard(reader.open(*options.results))
    names = ("system", "corpus", "features", "normalisation")
    filters = {name: getattr(options, name).split(",") for name in names if getattr(options, name)}
    chosen = [r for r in rows if all(any(x in getattr(r, name) for x in parts) for name, parts in filters.items())]
    if not chosen:
        named = ", ".join(f"--{name} {','.join(parts)}" for name, parts in filters.items())
        raise EmodartsError(
            f"none of {len(rows)} systems with test figures is left by {named}" if rows else "no test figures yet"
        )
    chosen.sort(key=sort_key(options.sort))
    for title in sorted({_group(row, options.by) for row in chosen}):
        output().print(_table(title, [row for row in chosen if _group(row, options.by) == title]))
    if len({(r.protocol, r.test_set) for r in chosen}) > 1:
        print("rows of different protocols or test sets must not be compared with each other")
    if options.csv:
        write_output(options.csv, _to_csv(chosen).encode())


def read_leaderboard(results: "Results") -> list[LeaderboardRow]:
    """A row a system and test set, of those by the clean rules. Raises EmodartsError as `load_report_data`."""
    from emodarts.records import LATE_DEV
    from emodarts.report.comparisons import features_name, group_comparisons
    from emodarts.report.predictions import load_predictions
    from emodarts.report.report_data import load_report_data
    from emodarts.report.sections.systems import over_speakers
    from emodarts.report.sections.trust import mean_ece
    from emodarts.results.statistics import mean_metrics

    data = load_report_data(results)
    comparisons = [c for c in group_comparisons(data) if c.epoch_rule == LATE_DEV and not c.shared]
    rows = []
    for predicted in load_predictions(data, comparisons):
        c = predicted.comparison
        eces = {s.name: mean_ece(s.test.labels, s.test.probabilities) for s in predicted.systems}
        for system in c.systems:
            uar, m = over_speakers(system.tallies), mean_metrics(system.tallies)
            source = "" if system.results.source is None else f", genotypes of {system.results.source}"
            row = LeaderboardRow(
                corpus="+".join(c.train_corpora),
                protocol=c.protocol,
                test_set=c.test_set,
                system=f"{system.results.system}{source}",
                features=features_name(system.results),
                normalisation=system.part.normalisation,
                uar=uar.value,
                low=uar.low,
                high=uar.high,
                war=m.war,
                macro_f1=m.macro_f1,
                ece=eces.get(system.name),
                parameters=system.parameters,
                seeds=len(system.tallies),
                speakers=len(system.tallies[0].speakers),
                sweep=system.results.sweep,
            )
            rows.append(row)
    return rows


def sort_key(name: str) -> Callable[[LeaderboardRow], tuple[float, str, str]]:
    """Best first: the least of ECE and parameters, the most of all else; what is not known comes last."""

    def key(row: LeaderboardRow) -> tuple[float, str, str]:
        value = getattr(row, name)
        sign = 1 if name in ("ece", "parameters") else -1
        return (float("inf") if value is None else sign * value, row.system, row.sweep)

    return key


def _group(row: LeaderboardRow, by: str) -> str:
    return "all" if by == "none" else str(getattr(row, by))


def _table(title: str, rows: Sequence[LeaderboardRow]) -> "Table":
    from rich.table import Table

    from emodarts.report.tables import format_cell
    from emodarts.results.statistics import Interval

    table = Table(title=title)
    about = ("system", "tested on", "protocol", "features", "by")
    heads = ("", *about, "UAR [95 %]", "WAR", "F1", "ECE", "seeds", "sweep")
    for name in heads:
        left = name in (*about, "sweep")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for place, r in enumerate(rows, 1):
        figures = [format_cell(x, "figure") for x in (Interval(r.uar, r.low, r.high), r.war, r.macro_f1, r.ece)]
        names = (r.system, r.test_set, r.protocol, r.features, r.normalisation)
        table.add_row(str(place), *names, *figures, str(r.seeds), r.sweep)
    return table


def _to_csv(rows: Sequence[LeaderboardRow]) -> str:
    import csv
    import io

    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    names = [declared.name for declared in fields(LeaderboardRow)]
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in rows)
    return sink.getvalue()
