"""The console command `emodarts`: what can be done with results without Ray."""

import argparse
import sys

from emodarts import __version__
from emodarts.errors import EmodartsError


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; 0, or 1 with one sentence on stderr (2 for a usage error)."""
    parser = argparse.ArgumentParser(prog="emodarts", description="Architecture search for speech emotion recognition.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    report = commands.add_parser("report", help="print the tables of one or several results folders")
    report.add_argument(
        "results", nargs="+", help="a results folder, or one sweep's folder below it; s3:// and gs:// too"
    )
    options = parser.parse_args(arguments)
    try:
        _report(options.results)
    except EmodartsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _report(locations: list[str]) -> None:
    from rich.console import Console

    from emodarts.report.terminal import print_report
    from emodarts.results import reader

    console = Console()
    for location in locations:
        print_report(reader.open(location), console)


if __name__ == "__main__":
    sys.exit(main())
