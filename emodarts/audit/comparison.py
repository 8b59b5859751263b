"""A copy of a corpus held against the published counts: as published, or exactly what differs."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from emodarts.corpora.description import CorpusDescription
from emodarts.corpora.published_counts import Counts, Release
from emodarts.corpora.readers import describe

# What is told apart of an utterance; `named`: its own name where a publication left it out.
_COLUMNS = ("speaker", "session", "gender", "scenario", "split", "word", "named", "usable")
_UNKNOWN = "unknown"
# Readers may spell these out; the publications use the short forms.
_ALIASES = {
    "split": {"validation": "dev", "development": "dev", "training": "train"},
    "scenario": {
        "impro": "improvised",
        "script": "scripted",
        "other-improvised": "s",
        "natural": "p",
        "natural interaction": "p",
        "target-improvised": "t",
        "target-read": "r",
        "read": "r",
    },
}
_Rows = Mapping[tuple[str | None, ...], int]


@dataclass(frozen=True)
class CountDifference:
    """One cell of a published table that the copy does not match."""

    counts: str
    cell: str
    published: int
    counted: int
    decisive: bool

    def __str__(self) -> str:
        """`turns by word, anger: 126 of 127 (1 missing)`."""
        gap = self.counted - self.published
        what = f"{abs(gap):,} {'missing' if gap < 0 else 'too many'}"
        where = f"{self.counts}, {self.cell}" if self.cell else self.counts
        return f"{where}: {self.counted:,} of {self.published:,} ({what})"


@dataclass(frozen=True)
class PublishedComparison:
    """The release that fits, or the nearest; which of its tables agree, which cells differ, what cannot be compared."""

    release: str
    published: int
    counted: int
    as_published: bool
    agree: tuple[str, ...]
    differences: tuple[CountDifference, ...]
    not_comparable: tuple[str, ...]
    sources: Mapping[str, str]
    others: Mapping[str, int]

    def sentence(self) -> str:
        """The verdict in one line."""
        if self.as_published:
            return f"as published ({self.release}): {', '.join(self.agree)}"
        first = [d for d in self.differences if d.decisive][:3]
        differences = "; ".join(map(str, first)) or "no published table can be compared"
        more = sum(d.decisive for d in self.differences) - len(first)
        return f"nearest is {self.release} ({self.counted:,} of {self.published:,} utterances): {differences}" + (
            f"; and {more:,} more" if more else ""
        )


def compare_counts(
    corpus: str, utterances: pa.Table, unusable: Collection[str] | None = None
) -> PublishedComparison | None:
    """Hold a table of schema UTTERANCES against the published counts; None where there are none.

    `corpus`: its name, or the file of its grammar. `unusable`: ids of recordings that were read but are silent or
    cannot be decoded; None: not known, and tables that count usable recordings are then not compared. With several
    releases, the one that fits all its tables, else the one with the nearest number of utterances.
    """
    description = describe(corpus)
    releases = description.releases
    if not releases:
        return None
    tallies = {
        source: _tally(description, utterances, source, unusable) for source in {release.source for release in releases}
    }
    comparisons = [
        _compare(description, release, tallies[release.source], unusable is not None) for release in releases
    ]
    return min(comparisons, key=lambda c: (not c.as_published, abs(c.published - c.counted)))


def _compare(of: CorpusDescription, release: Release, rows: _Rows, measured: bool) -> PublishedComparison:
    agree, differences, not_comparable = [], [], []
    for counts in release.counts:
        cells = None if counts.usable and not measured else _count(of, rows, counts)
        if cells is None:
            not_comparable.append(counts.title)
            continue
        wrong = _differences(of, counts, cells)
        differences += wrong
        if not wrong:
            agree.append(counts.title)
    decisive = {counts.title for counts in release.counts if counts.decisive}
    return PublishedComparison(
        release.name,
        release.utterances,
        sum(rows.values()),
        not any(d.decisive for d in differences) and bool(decisive & set(agree)),
        tuple(agree),
        tuple(differences),
        tuple(not_comparable),
        {counts.title: counts.source for counts in release.counts},
        {other.name: other.utterances for other in of.releases if other is not release},
    )


def _tally(of: CorpusDescription, utterances: pa.Table, source: str, unusable: Collection[str] | None) -> _Rows:
    """How often each combination of _COLUMNS occurs, in canonical spelling: one pass over the corpus."""
    named = {name for release in of.releases for counts in release.counts for name in counts.without}
    bad = frozenset(unusable or ())

    @cache
    def spelt(column: str, value: str | None) -> str | None:
        return _canonical(of, column, value)

    ids = utterances["utterance"].to_pylist()
    columns = [
        [spelt(column, value) for value in utterances[source if column == "word" else column].to_pylist()]
        for column in _COLUMNS[:6]
    ]
    names = (name if (name := utterance.rsplit("/", 1)[-1]) in named else None for utterance in ids)
    usable = (None if utterance in bad else "yes" for utterance in ids)
    return Counter(zip(*columns, names, usable, strict=True))


def _canonical(of: CorpusDescription, column: str, value: str | None) -> str | None:
    """One spelling for a value: without the corpus's name, leading zeros and "session"; words as their class."""
    if value is None or not value.strip():
        return None
    text = value.strip().removeprefix(f"{of.name}/").lower()
    if column == "word":
        return of.words.get(text, text)
    if column in ("speaker", "session"):
        text = re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"^ses(sion)?[ _-]?", "", text))
    return _ALIASES.get(column, {}).get(text, text)


def _count(of: CorpusDescription, rows: _Rows, counts: Counts) -> dict[tuple[str, ...], int] | None:
    """The copy's cells for a published table; None where the copy does not say what the table asks for."""
    place = {column: index for index, column in enumerate(_COLUMNS)}
    words = {_canonical(of, "word", word) for word in counts.words}
    scenario = _canonical(of, "scenario", counts.scenario)
    merged = {_canonical(of, counts.by[0], k): v for k, v in counts.merged.items()} if counts.by else {}
    labelled = counts.labelled or "word" in counts.by or bool(words)
    needed = {*counts.by, *(["scenario"] if scenario else []), *(["word"] if labelled else [])}
    needed |= {counts.distinct} if counts.distinct else set()
    if any(all(row[place[column]] is None for row in rows) for column in needed):
        return None
    numbers: Counter[tuple[str, ...]] = Counter()
    different: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row, number in rows.items():
        word = row[place["word"]]
        if (labelled and word is None) or (words and word not in words):
            continue
        if (scenario and row[place["scenario"]] != scenario) or (counts.usable and row[place["usable"]] is None):
            continue
        if row[place["named"]] in counts.without:
            continue
        cell = tuple(merged.get(value, value) or _UNKNOWN for value in (row[place[column]] for column in counts.by))
        numbers[cell] += number
        if counts.distinct and (value := row[place[counts.distinct]]) is not None:
            different[cell].add(value)
    return {cell: len(values) for cell, values in different.items()} if counts.distinct else dict(numbers)


def _differences(of: CorpusDescription, counts: Counts, cells: Mapping[tuple[str, ...], int]) -> list[CountDifference]:
    published = {
        tuple(_canonical(of, column, value) or "" for column, value in zip(counts.by, cell, strict=True)): (cell, n)
        for cell, n in counts.cells.items()
    }
    extra = {cell: (cell, 0) for cell in sorted(cells) if cell not in published} if counts.complete else {}
    result = []
    for key, (shown, number) in {**published, **extra}.items():
        if cells.get(key, 0) != number:
            cell = ", ".join(f"{column} {value}" for column, value in zip(counts.by, shown, strict=True))
            result.append(CountDifference(counts.title, cell, number, cells.get(key, 0), counts.decisive))
    return result
