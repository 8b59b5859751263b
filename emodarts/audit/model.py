"""What an audit says, as frozen data: findings, counts, durations, recordings, the protocol, and cue figures."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from emodarts.audit.comparison import PublishedComparison

SCHEMA_VERSION = 2  # of emodarts 0.2.0: fact, advice, counts and counted were found, means, tallies and found
SEVERITIES = ("leak", "warning", "note", "ok")  # the worst first


@dataclass(frozen=True)
class Finding:
    """One judgement: a fact, and in one sentence what follows from it and what to do."""

    severity: str
    subject: str
    fact: str
    advice: str


@dataclass(frozen=True)
class CountRow:
    """One value of a column: its utterances, hours, and utterances by class (of the labelled ones)."""

    value: str
    utterances: int
    hours: float
    classes: Mapping[str, int]


@dataclass(frozen=True)
class CountTable:
    """The utterances by one column: class, word, speaker, session, gender, scenario or split."""

    by: str
    rows: tuple[CountRow, ...]


@dataclass(frozen=True)
class DurationSummary:
    """Durations (s) of all utterances, or of a class."""

    of: str
    utterances: int
    hours: float
    minimum: float
    median: float
    p90: float
    maximum: float


@dataclass(frozen=True)
class Reason:
    """Files or utterances with one reason (differing names and numbers as `…`), some of them as examples."""

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class SameAudio:
    """Utterances with equal decoded audio. `folds`: where the copies stand in several roles, as (fold, roles)."""

    utterances: tuple[str, ...]
    classes: tuple[str, ...]
    folds: tuple[tuple[int, tuple[str, ...]], ...]

    @property
    def leaks(self) -> bool:
        """Whether a test role is among the roles that share the recording."""
        return any("test" in roles for _, roles in self.folds)


@dataclass(frozen=True)
class Oddity:
    """Recordings with one property (silent, clipped, ...): how many, by class, and some of them."""

    name: str
    count: int
    classes: Mapping[str, int]
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Recordings:
    """What the decoded audio says. `sample_rates` (Hz) and `channels` come from the headers, with counts."""

    measured: int
    not_measured: Reason | None
    sample_rates: Mapping[int, int]
    channels: Mapping[int, int]
    oddities: tuple[Oddity, ...]
    duplicates: tuple[SameAudio, ...]


@dataclass(frozen=True)
class Texts:
    """How many different texts there are, and how many of them more than one speaker says."""

    texts: int
    utterances: int
    shared_by_speakers: int


@dataclass(frozen=True)
class AuditedPart:
    """One role of a fold. `shared_texts` of `texts` also stand in train; so do `with_shared_text` utterances' texts."""

    role: str
    utterances: int
    unlabelled: int
    speakers: tuple[str, ...]
    unknown_speakers: int
    classes: Mapping[str, int]
    texts: int
    shared_texts: int
    with_text: int
    with_shared_text: int


@dataclass(frozen=True)
class FoldAudit:
    """One fold: its parts and, for each pair of roles, the speakers that stand in both (none, where all is well).

    `unknown_near`: train utterances of unknown speakers, of recordings that dev or test have parts of.
    """

    index: int
    hash: str
    parts: tuple[AuditedPart, ...]
    unknown_near: int
    shared_speakers: Mapping[str, tuple[str, ...]]
    left_out: tuple[Reason, ...]


@dataclass(frozen=True)
class ProtocolAudit:
    """The protocol's folds; or `error`: why there are none."""

    name: str
    protocol_caveat: str | None
    folds: tuple[FoldAudit, ...]
    error: str | None


@dataclass(frozen=True)
class CueFigure:
    """Pooled test UAR of a small forest that sees nothing but these cues."""

    name: str
    cues: tuple[str, ...]
    uar: float


@dataclass(frozen=True)
class Cues:
    """The non-emotional-cue figures beside chance; or `reason`: why there are none.

    `margin`: how far above chance a figure must lie to count. `medians`: cue -> class -> median over all utterances.
    """

    figures: tuple[CueFigure, ...]
    chance: float
    margin: float
    test_utterances: int
    subsampled: str | None
    medians: Mapping[str, Mapping[str, float]]
    reason: str | None

    def figure(self, name: str) -> float:
        """The UAR of one figure. Raises KeyError."""
        return {figure.name: figure.uar for figure in self.figures}[name]


@dataclass(frozen=True)
class Audit:
    """Everything; `findings` are sorted, the worst first."""

    corpus: str
    title: str
    root: str
    settings: Mapping[str, Any]
    utterances: int
    labelled: int
    classes: tuple[str, ...]
    findings: tuple[Finding, ...]
    counts: tuple[CountTable, ...]
    durations: tuple[DurationSummary, ...]
    dropped: tuple[Reason, ...]
    left_out_words: Mapping[str, int]
    unknown_words: tuple[Reason, ...]
    unlabelled: int
    recordings: Recordings
    texts: Texts
    protocol: ProtocolAudit
    published: PublishedComparison | None
    cues: Cues
    language: str = ""
    licence: str = ""

    def worst_severity(self) -> str:
        """The worst severity among the findings."""
        return next((s for s in SEVERITIES if any(f.severity == s for f in self.findings)), "ok")

    def to_json(self) -> str:
        """The audit as JSON with its schema version; numbers that are not finite become null."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **_finite(asdict(self))}, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value
