"""The console command `emodarts`: corpora, features and results without Ray."""

import argparse
import os
import sys

from emodarts import __version__
from emodarts.errors import EmodartsError


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; 0, or 1 with one sentence on stderr (2 for a usage error, 130 for Ctrl-C)."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except EmodartsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(getattr(options, "stopped", "stopped"), file=sys.stderr)
        return 130
    except BrokenPipeError:  # `emodarts ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    # Arguments alone are imported here; what a command needs to run is imported when it runs.
    from emodarts.audit import command as audit
    from emodarts.corpora import command as corpora
    from emodarts.export import command as export
    from emodarts.features import command as features
    from emodarts.report import command as report
    from emodarts.report import leaderboard

    parser = argparse.ArgumentParser(prog="emodarts", description="Architecture search for speech emotion recognition.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    audit.add_arguments(commands.add_parser("audit", help="what is wrong or suspicious in a corpus and a protocol"))
    features.add_arguments(commands.add_parser("features", help="build, list and delete feature stores"))
    corpora.add_arguments(commands.add_parser("corpora", help="which there are: size, language, licence, traps"))
    labels = commands.add_parser("labels", help="every word of every corpus, and the class that it becomes")
    labels.add_argument("corpus", nargs="?", help="one corpus alone")
    labels.set_defaults(run=_labels)
    report.add_arguments(commands.add_parser("report", help="tables, figures and a page of one or several results"))
    leaderboard.add_arguments(commands.add_parser("leaderboard", help="the systems of all results, the best first"))
    export.add_arguments(commands.add_parser("export", help="a trained network as ONNX, with a program that predicts"))
    compact = commands.add_parser("compact", help="join the small files of finished sweeps into one a table")
    compact.add_argument("results", nargs="+", help="as of `report`")
    compact.set_defaults(run=_compact)
    return parser


def _labels(options: argparse.Namespace) -> None:
    from rich.table import Table

    from emodarts.console import output
    from emodarts.corpora.labels import label_mappings

    words: dict[tuple[str, str], list[str]] = {}
    for corpus, word, name in label_mappings(options.corpus):
        words.setdefault((corpus, name), []).append(word)
    table = Table("corpus", "class", "words")
    for (corpus, name), labels in words.items():
        table.add_row(corpus, name, ", ".join(labels))
    output().print(table)


def _compact(options: argparse.Namespace) -> None:
    from emodarts.results import reader
    from emodarts.results.compaction import compact

    for sweep in reader.open(*options.results).parts:
        print(f"{sweep.name}: {compact(sweep.storage, sweep.name)} files became few")


if __name__ == "__main__":
    sys.exit(main())
