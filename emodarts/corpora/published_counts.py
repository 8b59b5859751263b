"""The form of published counts: tables of numbers with their conditions, and releases that have such tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

Cells = Mapping[tuple[str, ...], int]


@dataclass(frozen=True)
class Counts:
    """One published table of counts, and under which conditions it was counted.

    `by` names columns of the utterance table; `word` stands for the label in the column `Release.source`, and a table
    by word counts labelled utterances alone. Empty `by`: one total. `distinct` counts different values of that column
    instead of utterances. `complete`: values that are not listed should not occur. `decisive`: a copy that differs here
    is not "as published"; the other tables are shown for information.
    """

    title: str
    by: tuple[str, ...]
    cells: Cells
    source: str
    words: tuple[str, ...] = ()  # only utterances with one of these words
    scenario: str | None = None  # only utterances of this scenario
    labelled: bool = False  # only utterances with a word
    usable: bool = False  # counted after recordings that cannot be used (silent, undecodable) were dropped
    without: tuple[str, ...] = ()  # utterances, without the corpus's name, that the publication left out
    merged: Mapping[str, str] = field(default_factory=dict)  # value -> the value under which it was counted
    distinct: str | None = None
    complete: bool = True
    decisive: bool = True

    @property
    def total(self) -> int:
        """The sum over all cells."""
        return sum(self.cells.values())


@dataclass(frozen=True)
class Release:
    """One release, or one well-known subset, of a corpus. `utterances`: its size; `source`: the column of the words."""

    corpus: str
    name: str
    utterances: int
    source: str
    counts: tuple[Counts, ...]


def cells(names: str, counts: str) -> dict[tuple[str, ...], int]:
    """Cells of one column from two lists separated by blanks."""
    pairs = zip(names.split(), counts.split(), strict=True)
    return {(name,): int(count) for name, count in pairs}


def table(columns: str, rows: Mapping[str, str]) -> dict[tuple[str, ...], int]:
    """Cells of two columns: row name -> counts in the order of `columns`."""
    return {
        (row, column): int(count)
        for row, counts in rows.items()
        for column, count in zip(columns.split(), counts.split(), strict=True)
    }


def equal_counts(count: int, *names: Sequence[str]) -> dict[tuple[str, ...], int]:
    """The same count in every cell."""
    return dict.fromkeys(product(*names), count)
