"""Utterances that are not trained on: a CSV file, as `emodarts report --hard` writes it. Dev and test keep theirs."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from emodarts.corpora.protocols.rules import Division, LabelledUtterance
from emodarts.corpora.table_files import read_records, text
from emodarts.errors import EmodartsError

MARK = "-without-"  # in a protocol's name, before the number of utterances and a hash of their ids


def exclude_from_training(
    path: Path, corpus: str, candidates: Sequence[LabelledUtterance], divisions: Sequence[Division]
) -> str:
    """Take the utterances of a file out of every train part; `-without-<number>@<hash of the ids>` for the protocol's
    name, so that every row says so, empty where none of them is of this corpus.

    The file's column `utterance` has ids, with or without the corpus's name in front; those of other corpora
    (`ravdess/...`) do not count. Raises EmodartsError for a file that is none, and for an id that the corpus has not.
    """
    known = {c.utterance for c in candidates}
    excluded = set()
    for where, name in _read_ids(path):
        utterance = name if name in known else f"{corpus}/{name}"
        if utterance in known:
            excluded.add(utterance)
        elif name.partition("/")[0] == corpus or "/" not in name:
            raise EmodartsError(f"{where}: there is no labelled utterance '{name}' in {corpus}; take the line out")
    for division in divisions:
        trained = excluded.intersection(division.train)
        division.train = [utterance for utterance in division.train if utterance not in trained]
        division.left_out |= dict.fromkeys(trained, f"{path.name} takes it out of the train part")
    digest = hashlib.sha256("\n".join(sorted(excluded)).encode()).hexdigest()[:8]
    return f"{MARK}{len(excluded)}@{digest}" if excluded else ""


def _read_ids(path: Path) -> Iterator[tuple[str, str]]:
    """Where each id of the file stands, and the id."""
    if not path.is_file():
        reason = "it is a folder" if path.is_dir() else "no such file"
        raise EmodartsError(f"corpus.exclude={path} cannot be read: {reason}; give a CSV file with a column utterance")
    table = read_records(path)
    column = next((name for name in table.columns if name.strip().lower() == "utterance"), None)
    if column is None:
        columns = ", ".join(table.columns) or "nothing"
        raise EmodartsError(f"corpus.exclude={path} needs a column utterance; it has {columns}")
    for record in table.rows:
        if record.fault is not None:
            raise EmodartsError(f"{path.parent}/{record.where}: {record.fault}")
        if name := text(record.cells.get(column)):
            yield f"{path.parent}/{record.where}", name
