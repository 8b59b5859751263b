"""The traps that a corpus's description knows of, each with the copy's own figure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from emodarts.audit.data import AuditData
from emodarts.audit.model import Cues, Finding, Recordings
from emodarts.corpora.description import Trap
from emodarts.metrics import uar


def trap_findings(traps: Sequence[Trap], data: AuditData, recordings: Recordings, cues: Cues) -> Iterator[Finding]:
    """A warning for each trap: what is known of the corpus, what this copy shows of it, and what to do."""
    for trap in traps:
        figure = _figure(trap.figure, data, recordings, cues)
        yield Finding(
            "warning", trap.subject, f"{trap.fact}{f'; in this copy: {figure}' if figure else ''}", trap.advice
        )


def _figure(name: str, data: AuditData, recordings: Recordings, cues: Cues) -> str:
    if name == "speakers":
        return f"{len(set(data.columns['speaker']) - {None})} known speakers"
    if name == "equal_recordings":
        if not recordings.measured:
            return "not measured"
        return "; ".join(" = ".join(same.utterances[:3]) for same in recordings.duplicates[:3]) or "no equal recordings"
    if name == "class_from_duration":
        return (
            cues.reason or f"UAR {_uar(cues.figure('duration'))} from the duration alone (chance {_uar(cues.chance)})"
        )
    if name in ("class_from_speaker", "class_from_text"):
        column = name.removeprefix("class_from_")
        score, chance = guess_class(data, column)
        what = "other recordings of the same speaker" if column == "speaker" else "what other speakers make of the text"
        return f"UAR {_uar(score)} from {what} alone (chance {_uar(chance)})"
    return ""


def guess_class(data: AuditData, column: str) -> tuple[float, float]:
    """UAR of naming the class by the column alone, and chance: the class that is most frequent, by its own size, among
    the other utterances of the same speaker, or among other speakers' utterances of the same text.

    0 where no labelled utterance has a value; an utterance without others like it counts as wrong.
    """
    rows = [
        (value, owner, label)
        for value, owner, label in zip(data.columns[column], data.columns["speaker"], data.classes, strict=True)
        if value is not None and label is not None
    ]
    sizes = Counter(label for *_, label in rows)
    if not sizes:
        return 0.0, 0.0
    names = sorted(sizes)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    of_owner: dict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
    for value, owner, label in rows:
        counts[value][label] += 1
        of_owner[value, owner][label] += 1
    guesses = []
    for value, owner, label in rows:
        own = Counter([label]) if column == "speaker" else of_owner[value, owner]
        others = {name: (counts[value][name] - own[name]) / sizes[name] for name in names}
        best = max(names, key=lambda name: others[name])
        guesses.append(names.index(best) if others[best] else (names.index(label) + 1) % len(names))
    labels = np.array([names.index(label) for *_, label in rows])
    return uar(labels, np.array(guesses), len(names)), 1 / len(names)


def _uar(value: float) -> str:
    return f"{value:.2f}".lstrip("0") if value < 1 else f"{value:.2f}"
