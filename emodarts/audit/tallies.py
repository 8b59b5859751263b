"""Counts and durations of a corpus, and what was left out of it, grouped by reason."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from emodarts.audit.model import CountRow, CountTable, DurationSummary, Reason, Texts
from emodarts.audit.view import View, examples

UNKNOWN = "unknown"


def tallies(view: View) -> tuple[CountTable, ...]:
    """The utterances by class, word, speaker, session, gender, scenario and split, where the corpus has them."""
    found = [_tally("class", view.classes, view)]
    for column in ("word", "speaker", "session", "gender", "scenario", "split"):
        if any(value is not None for value in view.columns[column]):
            found.append(_tally(column, view.columns[column], view))
    return tuple(found)


def _tally(by: str, values: list[str | None], view: View) -> CountTable:
    classes: dict[str, Counter[str]] = defaultdict(Counter)
    numbers: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    none = "no class" if by == "class" else UNKNOWN
    for value, name, length in zip(values, view.classes, view.seconds.tolist(), strict=True):
        key = none if value is None else value
        numbers[key] += 1
        seconds[key] += length
        if name is not None:
            classes[key][name] += 1
    order = sorted(numbers, key=lambda key: (key == none, key))
    return CountTable(
        by, tuple(CountRow(k, numbers[k], seconds[k] / 3600, dict(sorted(classes[k].items()))) for k in order)
    )


def spreads(view: View, classes: Iterable[str]) -> tuple[DurationSummary, ...]:
    """Durations of all utterances and of each class, which must occur to be listed."""
    names = np.array([name or "" for name in view.classes])
    parts = [("all", view.seconds)] + [(name, view.seconds[names == name]) for name in classes]
    return tuple(_spread(of, seconds) for of, seconds in parts if len(seconds))


def _spread(of: str, seconds: np.ndarray) -> DurationSummary:
    low, median, p90, high = np.percentile(seconds, [0, 50, 90, 100]).tolist()
    return DurationSummary(of, len(seconds), float(seconds.sum() / 3600), low, median, p90, high)


def reasons(pairs: Iterable[tuple[str, str]]) -> tuple[Reason, ...]:
    """(what, reason) pairs by kind of reason, the most frequent first: names and numbers in a reason may differ."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for what, reason in pairs:
        groups[_kind(reason)].append((what, reason))
    found = []
    for kind, members in groups.items():
        told = {reason for _, reason in members}
        found.append(
            Reason(told.pop() if len(told) == 1 else kind, len(members), examples([what for what, _ in members]))
        )
    return tuple(sorted(found, key=lambda r: (-r.count, r.reason)))


def _kind(reason: str) -> str:
    """A reason without what differs from file to file: quoted words, names with a slash, numbers."""
    return re.sub(r"'[^']*'|\S*/\S*|\S*\d\S*", "…", reason)


def texts(view: View) -> Texts:
    """The different texts, and how many of them several (known) speakers say."""
    speakers: dict[str, set[str]] = defaultdict(set)
    spoken = 0
    for text, speaker in zip(view.columns["text"], view.columns["speaker"], strict=True):
        if text is not None:
            spoken += 1
            speakers[text] |= {speaker} if speaker is not None else set()
    return Texts(len(speakers), spoken, sum(len(found) > 1 for found in speakers.values()))
