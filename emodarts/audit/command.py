"""The command `emodarts audit`: read, measure, judge, print; as JSON and as a page too."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from emodarts.corpora.arguments import add_corpus_arguments, corpus_settings
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.files import write_output

_EVIDENCE = {
    "descriptions": "from descriptions, without a copy",
    "file lists": "by a list of its files, without a copy",
    "": "in a grammar that does not say by what it was checked",
}

if TYPE_CHECKING:
    from emodarts.audit.measuring import Progress
    from emodarts.audit.model import Audit
    from emodarts.corpora.labels import Labels
    from emodarts.corpora.protocols.folds import Fold
    from emodarts.corpora.table import Corpus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`<corpus> --root PATH [--protocol P] [--json FILE] [--html FILE] [--processes N] [--strict]`."""
    add_corpus_arguments(parser)
    parser.add_argument("--protocol", help="a protocol's name, or a CSV file with a split (default: the corpus's own)")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON")
    parser.add_argument("--html", metavar="FILE", help="write everything as one self-contained page")
    parser.add_argument("--processes", type=_positive, metavar="N", help="to decode with (default: one a core)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where there is a leak or a warning")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Audit as the options say. Raises EmodartsError for what cannot be read or written, and under --strict."""
    from rich.console import Console

    from emodarts.audit.page import render_page
    from emodarts.audit.terminal import print_audit
    from emodarts.console import output, progress_bar

    _check_options(options)
    with progress_bar(Console(stderr=True), "measuring", None) as progress:
        audit = read_and_audit(options, progress)
    if options.json:
        write_output(Path(options.json), audit.to_json().encode(errors="backslashreplace"))
    if options.html:
        write_output(Path(options.html), render_page(audit).encode(errors="backslashreplace"))
    print_audit(audit, output())
    _check_counts(options.corpus, audit)
    bad = [finding for finding in audit.findings if finding.severity in ("leak", "warning")]
    if options.strict and bad:
        raise EmodartsError(f"--strict: {len(bad)} findings are leaks or warnings, the first: {bad[0].subject}")


def _check_counts(corpus: str, audit: "Audit") -> None:
    """Raise EmodartsError where a copy differs from the published counts, and nobody has read the corpus before."""
    from emodarts.corpora.readers import describe

    evidence = describe(corpus).evidence
    if audit.published is not None and not audit.published.as_published and evidence != "recordings":
        raise EmodartsError(
            f"{audit.corpus}: {audit.published.sentence()}. How it is read was written {_EVIDENCE[evidence]}: either "
            "the copy is not complete, or what is read is wrong; look at what was dropped, and tell the project"
        )


def read_and_audit(options: argparse.Namespace, progress: "Progress | None" = None) -> "Audit":
    """Read the corpus of the options, make labels and folds, measure every recording, and judge."""
    from dataclasses import replace

    from emodarts import corpora
    from emodarts.audit.audit import audit_corpus
    from emodarts.audit.measuring import measure_recordings
    from emodarts.corpora.labels import label_source
    from emodarts.corpora.table import Dropped, dropped_table

    settings = corpus_settings(options, protocol=options.protocol)
    corpus = corpora.read(settings)
    label_source(settings)  # a wrong setting is no finding
    labels, folds = _labels_and_folds(settings, corpus)
    measures, undecodable = measure_recordings(corpus.utterances, corpus.root, options.processes, progress)
    dropped = dropped_table([*(Dropped(**row) for row in corpus.dropped.to_pylist()), *undecodable])
    return audit_corpus(replace(corpus, dropped=dropped), labels, folds, measures, settings)


def _labels_and_folds(
    settings: CorpusSettings, corpus: "Corpus"
) -> "tuple[Labels | EmodartsError, tuple[Fold, ...] | EmodartsError]":
    """Labels and folds, or the error that stands in the way: the rest of the audit may show why."""
    from emodarts.corpora.labels import label_utterances
    from emodarts.corpora.protocols.folds import make_folds

    try:
        labels = label_utterances(corpus.utterances, settings)
    except EmodartsError as error:
        return error, error
    try:
        return labels, make_folds(settings, corpus.utterances, labels)
    except EmodartsError as error:
        return labels, error


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return value


def _check_options(options: argparse.Namespace) -> None:
    """What would come to light only after minutes of decoding. Raises EmodartsError."""
    for text in options.set:
        if not text.strip().startswith("corpus."):
            raise EmodartsError(f"--set {text}: an audit has settings of the corpus alone: corpus.<setting>=<value>")
    for file in (options.json, options.html):
        _check_writable(file)
    if options.json and options.html and os.path.realpath(options.json) == os.path.realpath(options.html):
        raise EmodartsError(f"--json and --html are both {options.json}: give two files, one would replace the other")


def _check_writable(name: str | None) -> None:
    """Before minutes of decoding: whether a file can be written there. Raises EmodartsError."""
    if name is None:
        return
    path = Path(name)
    if path.is_dir():
        raise EmodartsError(f"{path} is a folder: give the name of a file in it")
    if (path.exists() and not path.is_file()) or os.path.abspath(path) in ("/dev/stdout", "/dev/stderr"):
        raise EmodartsError(f"{path} is a device or a pipe, which writing would replace: give the name of a file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise EmodartsError(f"{path} cannot be written: {path.parent} is no folder that can be written to")
