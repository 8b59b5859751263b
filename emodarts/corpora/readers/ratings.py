"""What label files say of turns: lines with their numbers, ratings, and numbers on a scale."""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emodarts.corpora.table import Dropped, Utterance, rows_of_files
from emodarts.errors import EmodartsError

_NUMBER = re.compile(r"[-+]?(\d+(\.\d+)?([eE][-+]?\d+)?|inf(inity)?|nan)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rating:
    """What one place (`file:line`, relative to the root) says of a turn; None: unknown, or not said there."""

    where: str = field(compare=False)
    word: str
    arousal: float | None = None
    valence: float | None = None
    dominance: float | None = None
    speaker: str | None = None
    gender: str | None = None
    split: str | None = None


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers from 1, without line ends (LF or CRLF) and byte order mark.

    Bytes that are not UTF-8 become U+FFFD: they must not matter unless they stand in a field that is used.
    """
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.rstrip("\n")


def parse_rating(text: str, low: float, high: float) -> float | None:
    """The number that a text says; None where it is blank, NaN, or outside of the scale from low to high.

    Raises ValueError for a text that is no number.
    """
    text = text.strip(" \t")
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"'{text}' is no number")
    value = float(text)
    return value if math.isfinite(value) and low <= value <= high else None


def add_rating(ratings: dict[str, Rating], turn: str, rating: Rating, root: Path) -> Iterator[Dropped]:
    """Put a turn's rating into `ratings`; a second one that says the same is dropped.

    Raises EmodartsError where it says something else, naming both places.
    """
    first = ratings.setdefault(turn, rating)
    if first is rating:
        return
    if first != rating:
        raise EmodartsError(
            f"{root}: {first.where} and {rating.where} say different things of {turn} "
            f"({_values(first)}; {_values(rating)}); correct or remove one of them"
        )
    yield Dropped(rating.where, f"says the same as {first.where}")


def _values(rating: Rating) -> str:
    values = (rating.word, rating.arousal, rating.valence, rating.dominance)
    more = [value for value in (rating.speaker, rating.gender, rating.split) if value]
    return ", ".join(["unknown" if value is None else str(value) for value in values] + more)


def rated_turns(
    root: Path, ratings: Mapping[str, Rating], read_name: Callable[[Path, str], Utterance | str]
) -> Iterator[Utterance | Dropped]:
    """A row or a drop for every audio file, as `rows_of_files`, then a drop for each rating of a turn without audio.

    The turn of an utterance is its id without the corpus's name.
    """
    turns = set()
    for row in rows_of_files(root, read_name):
        if isinstance(row, Utterance):
            turns.add(row.utterance.partition("/")[2])
        yield row
    for turn, rating in ratings.items():
        if turn not in turns:
            yield Dropped(rating.where, f"there is no audio file of {turn}")


def only_copy(files: Collection[Path]) -> Path | None:
    """The file among copies of one; None where there is none. Raises EmodartsError for copies that differ."""
    if not files:
        return None
    first, *others = sorted(files)
    for other in others:
        if first.read_bytes() != other.read_bytes():
            raise EmodartsError(f"{first} and {other} are both label files, but differ: remove the wrong one")
    return first
