"""`emodarts report`: tables on the terminal, a page, tables and figures as files."""

import argparse
from pathlib import Path

from emodarts.errors import EmodartsError
from emodarts.files import write_output
from emodarts.garbage_collection import without_garbage_collection
from emodarts.report import listening


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "results", nargs="+", help="results folders, or single sweeps' folders below them; s3:// and gs:// too"
    )
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page that needs no network")
    parser.add_argument("--tables", metavar="FOLDER", type=Path, help="write all tables as CSV, Markdown and LaTeX")
    parser.add_argument("--figures", metavar="FOLDER", type=Path, help="write all figures as SVG and PDF")
    parser.add_argument(
        "--hard", metavar="FILE", type=Path, help="write what no model has right, and doubtful labels, as CSV"
    )
    parser.add_argument(
        "--parquet", metavar="FILE", type=Path, help="write one row an utterance and system, for DuckDB or pandas"
    )
    parser.add_argument(
        "--top",
        metavar="K",
        type=int,
        help="members of an ensemble in each study; 0: none (default: as the sweep had it, else 5)",
    )
    parser.add_argument("--ensemble", metavar="A,B", default="", help="systems whose members also make one ensemble")
    listening.add_arguments(parser)
    parser.set_defaults(run=run)


@without_garbage_collection()
def run(options: argparse.Namespace) -> None:
    """Print, or write what was asked for. Raises EmodartsError."""
    from emodarts.results import reader

    if options.top is not None and options.top < 0:
        raise EmodartsError(f"--top {options.top}: give 0 or more")
    listening.check_arguments(options)
    ensembles = options.top, tuple(filter(None, options.ensemble.split(",")))
    results = reader.open(*options.results)
    if not (options.html or options.tables or options.figures or options.hard or options.parquet):
        from emodarts.console import output
        from emodarts.report.terminal import print_report

        print_report(results, output(), *ensembles)
        return
    from emodarts.report.figures import Figure
    from emodarts.report.joined_table import to_parquet
    from emodarts.report.page import build_page, render_page
    from emodarts.report.sections.hard_recordings import to_hard_csv
    from emodarts.report.tables import FORMATS, ReportTable

    page = build_page(results, *ensembles, listening.Listening.of(options))
    tables = [element for element in page.tables_and_figures() if isinstance(element, ReportTable)]
    figures = [element for element in page.tables_and_figures() if isinstance(element, Figure)]
    if options.html:
        write_output(options.html, render_page(page).encode())
        print(f"{options.html.resolve()}: {len(tables)} tables, {len(figures)} figures")
    if options.hard:
        write_output(options.hard, to_hard_csv(page.judged).encode())
        print(f"{options.hard}: {len({r.utterance for j in page.judged for r in j.hard})} hard recordings")
    if options.parquet and page.joined is not None:
        table = page.joined()
        write_output(options.parquet, to_parquet(table))
        print(f"{options.parquet}: {len(table):,} rows, one an utterance and system")
    if options.tables:
        for table in tables:
            for kind, convert in FORMATS.items():
                write_output(options.tables / f"{table.name}.{kind}", convert(table).encode())
        print(f"{options.tables}: {len(tables)} tables as {', '.join(FORMATS)}")
    if options.figures:
        for figure in figures:
            for kind in ("svg", "pdf"):
                write_output(options.figures / f"{figure.name}.{kind}", figure.to_bytes(kind))
        print(f"{options.figures}: {len(figures)} figures as svg, pdf")
