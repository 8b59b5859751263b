"""User-made splits: a CSV file with one row an utterance and fold."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from emodarts.corpora.protocols.rules import Divide, Division, LabelledUtterance
from emodarts.corpora.table_files import read_records, text
from emodarts.errors import EmodartsError

_ROLES = "train, dev, test, or test:<name> for one of several test sets"


def read_split(path: Path) -> Divide:
    """The rule of a CSV file with columns `utterance`, `role` and, for several folds, `fold` (a number from 0).

    `utterance` is an id of the corpus (with or without its name in front), `role` is train, dev, test or test:<name>;
    utterances that a fold does not name are left out of it. Raises EmodartsError with file and line, also where an
    unknown speaker is to be more than trained on: who that is, and in which role else, cannot be known.
    """

    def divide(corpus: str, candidates: Sequence[LabelledUtterance]) -> list[Division]:
        known = {c.utterance: c for c in candidates}
        divisions: dict[int, Division] = {}
        for where, row in _rows(path):
            utterance = row["utterance"] if row["utterance"] in known else f"{corpus}/{row['utterance']}"
            if utterance not in known:
                raise EmodartsError(f"{where}: there is no labelled utterance '{row['utterance']}' in {corpus}")
            try:
                number = int(row.get("fold") or 0)
            except ValueError:
                raise EmodartsError(f"{where}: fold '{row['fold']}' is no number") from None
            division = divisions.setdefault(number, Division())
            part, candidate = _part(division, row["role"], corpus, where), known[utterance]
            if part is not division.train and candidate.speaker is None and candidate.label is not None:
                raise EmodartsError(
                    f"{where}: the speaker of {utterance} is unknown, so that it can only train and not be in "
                    f"{row['role']}: name the speaker, or leave the utterance out"
                )
            part.append(utterance)
        if not divisions:
            raise EmodartsError(f"the split {path} needs rows under its columns")
        if sorted(divisions) != list(range(len(divisions))):
            raise EmodartsError(f"{path}: the folds are {sorted(divisions)}; number them from 0 without gaps")
        for division in divisions.values():
            named = {*division.train, *division.dev, *(u for ids in division.tests.values() for u in ids)}
            division.left_out = {u: f"{path.name} does not name it" for u in known if u not in named}
        return [divisions[number] for number in sorted(divisions)]

    return divide


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(file and line, cells by column) of every row."""
    if not path.is_file():
        raise EmodartsError(f"the split {path} cannot be read: {'it is a folder' if path.is_dir() else 'no such file'}")
    table = read_records(path)
    names = {name.strip().lower(): name for name in table.columns}
    if not {"utterance", "role"} <= names.keys():
        raise EmodartsError(
            f"the split {path} needs rows under the columns utterance and role ({_ROLES}), and fold for several folds; "
            f"it has {', '.join(table.columns) or 'nothing'}"
        )
    for record in table.rows:
        where = f"{path.parent}/{record.where}"
        if record.fault is not None:
            raise EmodartsError(f"{where}: {record.fault}")
        yield where, {name: text(record.cells.get(column)) or "" for name, column in names.items()}


def _part(division: Division, role: str, corpus: str, where: str) -> list[str]:
    kind, _, name = role.partition(":")
    if kind == "test" and (name.strip() or not role.endswith(":")):
        return division.tests.setdefault(f"{corpus}/{name.strip() or 'test'}", [])
    if role in ("train", "dev"):
        return division.train if role == "train" else division.dev
    raise EmodartsError(f"{where}: the role '{role}' is none of {_ROLES}")
