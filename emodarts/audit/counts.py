"""Counts and durations of a corpus, and what was left out of it, grouped by reason."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from emodarts.audit.data import AuditData, examples
from emodarts.audit.model import CountRow, CountTable, DurationSummary, Reason, Texts

UNKNOWN = "unknown"


def count_tables(data: AuditData) -> tuple[CountTable, ...]:
    """The utterances by class, word, speaker, session, gender, scenario and split, where the corpus has them."""
    tables = [_count_table("class", data.classes, data)]
    for column in ("word", "speaker", "session", "gender", "scenario", "split"):
        if any(value is not None for value in data.columns[column]):
            tables.append(_count_table(column, data.columns[column], data))
    return tuple(tables)


def _count_table(by: str, values: list[str | None], data: AuditData) -> CountTable:
    classes: dict[str, Counter[str]] = defaultdict(Counter)
    numbers: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    none = "no class" if by == "class" else UNKNOWN
    for value, name, length in zip(values, data.classes, data.seconds.tolist(), strict=True):
        key = none if value is None else value
        numbers[key] += 1
        seconds[key] += length
        if name is not None:
            classes[key][name] += 1
    order = sorted(numbers, key=lambda key: (key == none, key))
    return CountTable(
        by, tuple(CountRow(k, numbers[k], seconds[k] / 3600, dict(sorted(classes[k].items()))) for k in order)
    )


def summarise_durations(data: AuditData, classes: Iterable[str]) -> tuple[DurationSummary, ...]:
    """Durations of all utterances and of each class, which must occur to be listed."""
    names = np.array([name or "" for name in data.classes])
    parts = [("all", data.seconds)] + [(name, data.seconds[names == name]) for name in classes]
    return tuple(_durations(of, seconds) for of, seconds in parts if len(seconds))


def _durations(of: str, seconds: np.ndarray) -> DurationSummary:
    low, median, p90, high = np.percentile(seconds, [0, 50, 90, 100]).tolist()
    return DurationSummary(of, len(seconds), float(seconds.sum() / 3600), low, median, p90, high)


def group_reasons(pairs: Iterable[tuple[str, str]]) -> tuple[Reason, ...]:
    """(subject, reason) pairs by kind of reason, the most frequent first: names and numbers in a reason may differ."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for subject, reason in pairs:
        groups[_kind(reason)].append((subject, reason))
    reasons = []
    for kind, members in groups.items():
        wordings = {reason for _, reason in members}
        reason = wordings.pop() if len(wordings) == 1 else kind
        reasons.append(Reason(reason, len(members), examples([subject for subject, _ in members])))
    return tuple(sorted(reasons, key=lambda r: (-r.count, r.reason)))


def _kind(reason: str) -> str:
    """A reason without what differs from file to file: quoted words, names with a slash, numbers."""
    return re.sub(r"'[^']*'|\S*/\S*|\S*\d\S*", "…", reason)


def count_texts(data: AuditData) -> Texts:
    """The different texts, and how many of them several (known) speakers say."""
    speakers: dict[str, set[str]] = defaultdict(set)
    spoken = 0
    for text, speaker in zip(data.columns["text"], data.columns["speaker"], strict=True):
        if text is not None:
            spoken += 1
            speakers[text] |= {speaker} if speaker is not None else set()
    return Texts(len(speakers), spoken, sum(len(names) > 1 for names in speakers.values()))
