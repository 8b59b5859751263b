"""User-made splits: a CSV file with one row an utterance and fold."""

import csv
from collections.abc import Sequence
from pathlib import Path

from emodarts.corpora.rules import Candidate, Divide, Division
from emodarts.errors import EmodartsError

_ROLES = "train, dev, test, or test:<name> for one of several test sets"


def read_split(path: Path, corpus: str) -> Divide:
    """The rule of a CSV file with columns `utterance`, `role` and, for several folds, `fold` (a number from 0).

    `utterance` is an id of the corpus (with or without its name in front), `role` is train, dev, test or test:<name>;
    utterances that a fold does not name are left out of it. Raises EmodartsError with file and line, also where an
    unknown speaker is to be more than trained on: who that is, and in which role else, cannot be known.
    """

    def divide(name: str, candidates: Sequence[Candidate]) -> list[Division]:
        known = {c.utterance: c for c in candidates}
        divisions: dict[int, Division] = {}
        for line, row in _rows(path):
            where = f"{path}:{line}"
            utterance = row["utterance"] if row["utterance"] in known else f"{corpus}/{row['utterance']}"
            if utterance not in known:
                raise EmodartsError(f"{where}: there is no labelled utterance '{row['utterance']}' in {corpus}")
            try:
                number = int(row.get("fold") or 0)
            except ValueError:
                raise EmodartsError(f"{where}: fold '{row['fold']}' is no number") from None
            division = divisions.setdefault(number, Division())
            part, found = _part(division, row["role"], corpus, where), known[utterance]
            if part is not division.train and found.speaker is None and found.label is not None:
                raise EmodartsError(
                    f"{where}: the speaker of {utterance} is unknown, so that it can only train and not be in "
                    f"{row['role']}: name the speaker, or leave the utterance out"
                )
            part.append(utterance)
        if sorted(divisions) != list(range(len(divisions))):
            raise EmodartsError(f"{path}: the folds are {sorted(divisions)}; number them from 0 without gaps")
        for division in divisions.values():
            named = {*division.train, *division.dev, *(u for ids in division.tests.values() for u in ids)}
            division.left_out = {u: f"{path.name} does not name it" for u in known if u not in named}
        return [divisions[number] for number in sorted(divisions)]

    return divide


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line, cells by column) of every row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [(name or "").strip().lower() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [
                (reader.line_num, {k: (v or "").strip() for k, v in row.items() if isinstance(k, str)})
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EmodartsError(f"the split {path} cannot be read: {error}") from error
    if not {"utterance", "role"} <= set(columns) or not rows:
        raise EmodartsError(
            f"the split {path} needs rows under the columns utterance and role ({_ROLES}), and fold for several folds; "
            f"it has {', '.join(columns) or 'nothing'}"
        )
    return rows


def _part(division: Division, role: str, corpus: str, where: str) -> list[str]:
    kind, _, name = role.partition(":")
    if kind == "test" and (name.strip() or not role.endswith(":")):
        return division.tests.setdefault(f"{corpus}/{name.strip() or 'test'}", [])
    if role in ("train", "dev"):
        return division.train if role == "train" else division.dev
    raise EmodartsError(f"{where}: the role '{role}' is none of {_ROLES}")
