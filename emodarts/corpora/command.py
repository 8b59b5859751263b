"""The command `emodarts corpora`: which there are, how large, in which language, under which licence, which traps."""

import argparse
import json
from dataclasses import asdict
from typing import Any

from emodarts.corpora.description import CorpusDescription


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`[<corpus>] [--json]`."""
    parser.add_argument("corpus", nargs="?", help="all that is known of one, or of the grammar in a file")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """List the corpora as the options say. Raises EmodartsError for an unknown one."""
    from rich.table import Table

    from emodarts.console import output
    from emodarts.corpora.readers import corpus_names, describe

    corpora = [describe(name) for name in ([options.corpus] if options.corpus else corpus_names())]
    records = [summarise_corpus(corpus) for corpus in corpora]
    if options.json:
        print(json.dumps(records, ensure_ascii=False, indent=2))
    elif options.corpus:
        table = Table(show_header=False, box=None)
        for name, value in records[0].items():
            table.add_row(name, _as_text(value))
        output().print(table)
    else:
        table = Table("corpus", "utterances", "speakers", "language", "protocol", "licence", "read by", "traps")
        for record in records:
            size = [f"{record[name]:,}" if record[name] else "-" for name in ("utterances", "speakers")]
            texts = [record[name] for name in ("language", "protocol", "licence", "evidence")]
            table.add_row(record["name"], *size, *texts, "; ".join(trap["subject"] for trap in record["traps"]))
        output().print(table)
        output().print("`emodarts corpora <corpus>` has sources, notes and what to do about traps; --json everything.")


def summarise_corpus(corpus: CorpusDescription) -> dict[str, Any]:
    """What is known of a corpus; counts are those of its largest release, None where none are published."""
    release = max(corpus.releases, key=lambda release: release.utterances, default=None)
    totals = [t.total for r in corpus.releases for t in r.counts if t.distinct == "speaker" and not t.by]
    by_speaker = [len(t.cells) for r in corpus.releases for t in r.counts if t.by == ("speaker",)]
    return {
        "name": corpus.name,
        "title": corpus.title,
        "utterances": release.utterances if release else None,
        "speakers": max([*totals, *by_speaker], default=None),
        "language": corpus.language,
        "classes": sorted(set(corpus.words.values()) - {"no_agreement"}),
        "labels": list(corpus.sources),
        "protocol": corpus.protocol,
        "protocols": list(corpus.rules),
        "licence": corpus.licence,
        "evidence": f"from {corpus.evidence}" if corpus.evidence else "",
        "looked_for": corpus.looked_for,
        "citation": corpus.citation,
        "references": list(corpus.references),
        "notes": list(corpus.notes),
        "traps": [asdict(trap) for trap in corpus.traps],
    }


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(f"{v['subject']}: {v['fact']}. {v['advice']}" if isinstance(v, dict) else v for v in value)
    return f"{value:,}" if isinstance(value, int) else value or "-"
