"""The label files of MSP-Podcast 1.6 to 2.0: each form as one stream of ratings, the published consensus first."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emodarts.corpora.readers.ratings import Rating, numbered_lines, parse_rating
from emodarts.corpora.table import Dropped
from emodarts.errors import EmodartsError

NAME = r"MSP-PODCAST_\d{4,}_\d{4,}(?:_\d+)?"
SPLITS = {"Train": "Train", "Development": "Development", "Validation": "Development"} | {
    name: name for name in ("Test1", "Test2", "Test3")
}
# raters' words -> the letters of the consensus; "Other-confused" is Other
_WORDS = ("angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral", "other")
_LETTERS = dict(zip(_WORDS, "ASHUFDCNO", strict=True))
_ALLOWED = {
    "filename": rf"{NAME}\.wav",
    "emoclass": r"[ASHUFDCNOX]",
    "spkrid": r"\d+|Unknown",
    "gender": r"Male|Female|Unknown",
    "split_set": "|".join(SPLITS),
}
_VALUES = ("emoact", "emoval", "emodom")
_ATTRIBUTES = r"\s*A:(?P<emoact>[^;]*);\s*V:(?P<emoval>[^;]*);\s*D:(?P<emodom>[^;]*);\s*"
_LINE = re.compile(rf"(?P<filename>[^;]*\.wav)\s*;\s*(?P<emoclass>[^;]*?)\s*;{_ATTRIBUTES}", re.ASCII)
_VOTE = re.compile(rf"(?P<worker>[\w-]+)\s*;\s*(?P<emoclass_major>[^;]*?)\s*;[^;]*;{_ATTRIBUTES}", re.ASCII)
_RATER = re.compile(r"[\w-]+\s*;\s*(?:ang|sad|hap|sur|fea|dis|con|neu|oth)", re.ASCII | re.IGNORECASE)

Fields = Mapping[str, Any]  # by column name in lower case
Labelled = tuple[str, Rating]  # the turn's name, and what is said of it
Read = Callable[[Path, str], Iterator["Labelled | Dropped"]]  # the file, and its path below the root


def consensus_csv(path: Path, place: str) -> Iterator[Labelled | Dropped]:
    """FileName, EmoClass, EmoAct, EmoVal, EmoDom, SpkrID, Gender, Split_Set: one line a turn."""
    for where, fields in _table(path, place, (*_ALLOWED, *_VALUES)):
        yield _labelled(fields, where, (*_ALLOWED, *_VALUES))


def consensus_json(path: Path, place: str) -> Iterator[Labelled | Dropped]:
    """{"<file>": {"EmoClass": ..., ...}}, or a list of such records that name their FileName."""
    for where, name, record in _records(path, place):
        yield _labelled({**_fields(record), "filename": name}, where, (*_ALLOWED, *_VALUES))


def labels_txt(path: Path, place: str) -> Iterator[Labelled | Dropped]:
    """Blocks of a turn's line with the consensus, `<file>; N; A:2.4; V:4.0; D:2.8;`, and its raters' lines."""
    for number, line in numbered_lines(path):
        if match := _LINE.fullmatch(line):
            yield _labelled(match.groupdict(), f"{place}:{number}")
        elif line.strip() and not _RATER.match(line):
            yield Dropped(f"{place}:{number}", "neither a turn (<file>.wav; N; A:2.4; V:4.0; D:2.8;) nor a rater")


def detailed_csv(path: Path, place: str) -> Iterator[Labelled | Dropped]:
    """One line a rater: columns for the worker, EmoClass_Major and the attributes, or all of it in EmoDetail."""
    votes = _Votes()
    for where, fields in _table(path, place, ("filename",)):
        if "emodetail" in fields:
            match = _VOTE.fullmatch(fields["emodetail"])
            fields = {"filename": fields["filename"], **(match.groupdict() if match else {})}
        yield from votes.add(fields, where)
    yield from votes.consensus()


def detailed_json(path: Path, place: str) -> Iterator[Labelled | Dropped]:
    """{"<file>": {"<worker>": {"EmoClass_Major": ..., ...}}}, or {"<file>": {"Workers": [{"Name": ..., ...}]}}."""
    votes = _Votes()
    for where, name, record in _records(path, place):
        if not isinstance(record, tuple) or not record:
            yield Dropped(where, "it is no object of votes by worker")
            continue
        for worker, vote in record:
            for record_of_vote in vote if isinstance(vote, list) else [vote]:
                fields = _fields(record_of_vote)
                yield from votes.add({"worker": fields.get("name", worker), **fields, "filename": name}, where)
    yield from votes.consensus()


# file name -> (how it is read, whether it says speaker, gender and split too); the first that is there is taken
FORMS: dict[str, tuple[Read, bool]] = {
    r"labels?_con[sc]ensus\.csv": (consensus_csv, True),
    r"labels?_con[sc]ensus\.json": (consensus_json, True),
    r"labels\.txt": (labels_txt, False),
    r"labels_detailed\.csv": (detailed_csv, False),
    r"labels_detailed\.json": (detailed_json, False),
}


@dataclass
class _Votes:
    """The raters' votes of each turn; a rater's first vote counts. A turn with an unreadable vote gets no label."""

    by_turn: dict[str, dict[str, Rating]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, fields: Fields, where: str) -> Iterator[Dropped]:
        turn = str(fields.get("filename")).removesuffix(".wav")
        letter = _LETTERS.get(str(fields.get("emoclass_major")).partition("-")[0].strip().lower(), "")
        vote = _labelled({**fields, "emoclass": letter}, where)
        if isinstance(vote, Dropped):
            self.unreadable[turn] = where
            yield Dropped(where, f"a rater's vote that cannot be read: {vote.reason}")
            return
        voters = self.by_turn.setdefault(turn, {})
        worker = next((str(v) for k, v in fields.items() if k.startswith("worker")), "") or f"vote {len(voters)}"
        voters.setdefault(worker, vote[1])

    def consensus(self) -> Iterator[Labelled | Dropped]:
        """The word that most raters chose, X where there are several such, and the means of the attributes."""
        for turn, voters in self.by_turn.items():
            votes = list(voters.values())
            if turn in self.unreadable:
                yield Dropped(votes[0].where, f"{turn} has a vote that cannot be read ({self.unreadable[turn]})")
                continue
            (word, most), *others = Counter(vote.word for vote in votes).most_common(2)
            yield (
                turn,
                Rating(
                    votes[0].where,
                    "X" if others and others[0][1] == most else word,
                    _mean([vote.arousal for vote in votes]),
                    _mean([vote.valence for vote in votes]),
                    _mean([vote.dominance for vote in votes]),
                ),
            )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _labelled(
    fields: Fields, where: str, needed: tuple[str, ...] = ("filename", "emoclass", *_VALUES)
) -> Labelled | Dropped:
    """The rating that the fields say, or why they say none."""
    for name in needed:
        if name not in fields:
            return Dropped(where, f"it has no {name}, or not as many values as there are names")
    for name, allowed in _ALLOWED.items():
        if name in fields and not re.fullmatch(allowed, str(fields[name]), re.ASCII):
            return Dropped(where, f"{name} '{fields[name]}' cannot be: {allowed}")
    try:
        arousal, valence, dominance = (parse_rating(_text(fields[name]), 1, 7) for name in _VALUES)
    except ValueError as error:
        return Dropped(where, f"its attributes cannot be read: {error}")
    speaker, gender = fields.get("spkrid"), fields.get("gender")
    return fields["filename"].removesuffix(".wav"), Rating(
        where,
        fields["emoclass"],
        arousal,
        valence,
        dominance,
        speaker=None if speaker == "Unknown" else speaker,
        gender=None if gender == "Unknown" else gender,
        split=SPLITS.get(fields.get("split_set", "")),
    )


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _table(path: Path, place: str, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each line of a CSV file as (where, cells by column); the first cell alone where their number is wrong."""
    columns: list[str] = []
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            cells = [cell.strip(" \t") for cell in next(csv.reader([line], strict=True, skipinitialspace=True))]
        except csv.Error:
            cells = []
        if not columns:
            columns = [cell.lower() for cell in cells]
            if missing := [name for name in needed if columns.count(name) != 1]:
                raise EmodartsError(
                    f"{path}:{number}: the column {missing[0]} is not there once; there are: {line[:200]}"
                )
            continue
        if columns[-1] == "emodetail" and len(cells) > 2:  # commas within, not quoted
            cells = [cells[0], ",".join(cells[1:])]
        fitting = len(cells) == len(columns)
        yield f"{place}:{number}", dict(zip(columns if fitting else columns[:1], cells, strict=False))


def _records(path: Path, place: str) -> Iterator[tuple[str, object, object]]:
    """Each record of a JSON file as (file:name, name, record). Raises EmodartsError for broken JSON."""
    text = path.read_bytes().decode("utf-8-sig", "replace")
    try:  # objects as tuples of pairs: a name that occurs twice must not vanish
        content = json.loads(text, object_pairs_hook=tuple, parse_float=str, parse_int=str, parse_constant=str)
    except json.JSONDecodeError as error:
        raise EmodartsError(f"{path}:{error.lineno}: no JSON at column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise EmodartsError(f"{path}:1: no label file: it is nested too deeply") from error
    if isinstance(content, list):
        content = tuple((_fields(record).get("filename"), record) for record in content)
    elif not isinstance(content, tuple):
        raise EmodartsError(f"{path}:1: neither an object by file name nor a list of records")
    for name, record in content:
        yield f"{place}:{name}", name, record


def _fields(record: object) -> dict[str, Any]:
    """A JSON object (or the only one of a list) by names in lower case; empty where a name occurs twice."""
    if isinstance(record, list) and len(record) == 1:
        (record,) = record
    if not isinstance(record, tuple):
        return {}
    fields = {name.lower(): value for name, value in record}
    return fields if len(fields) == len(record) else {}
