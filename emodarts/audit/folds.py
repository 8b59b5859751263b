"""A protocol looked at from outside: who and what stands in which role of each fold, whatever the protocol promises."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import pyarrow as pa

from emodarts.audit.counts import group_reasons
from emodarts.audit.data import AuditData
from emodarts.audit.model import AuditedPart, FoldAudit, ProtocolAudit
from emodarts.corpora.protocols.folds import Fold
from emodarts.corpora.readers import describe
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError

_MOST_PAIRS = 10_000  # of overlapping utterances: more say nothing new (parts without an end all overlap)


@dataclass(frozen=True)
class Overlap:
    """Two utterances of different roles of a fold that are, for the most part, the same part of one file."""

    fold: int
    roles: tuple[str, str]
    utterances: tuple[str, str]


def find_overlaps(utterances: pa.Table, folds: Sequence[Fold]) -> tuple[Overlap, ...]:
    """Parts of one file in two roles of a fold, of which one has half or more of the other (or is the whole file)."""
    pairs = list(islice(_overlapping(utterances), _MOST_PAIRS))
    overlaps = []
    for fold in folds:
        roles = fold.roles if pairs else {}
        for first, second in pairs:
            if first in roles and second in roles and roles[first] != roles[second]:
                pair = (first, second) if roles[second] == "test" or roles[first] == "train" else (second, first)
                overlaps.append(Overlap(fold.index, (roles[pair[0]], roles[pair[1]]), pair))
    return tuple(overlaps)


def _overlapping(utterances: pa.Table) -> Iterator[tuple[str, str]]:
    """Pairs of utterances of one file whose common time is half or more of the shorter one."""
    columns = (utterances[name].to_pylist() for name in ("path", "start", "end", "utterance", "frames", "sample_rate"))
    spans: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for path, start, end, utterance, frames, rate in zip(*columns, strict=True):
        length = frames / max(rate, 1)
        spans[path].append((start or 0.0, min(length if end is None else end, length), utterance))
    for parts in spans.values():
        parts.sort()
        for place, (start, end, utterance) in enumerate(parts):
            for later, until, other in parts[place + 1 :]:
                if later >= end:
                    break
                if min(end, until) - later >= 0.5 * min(end - start, until - later):
                    yield utterance, other


def audit_protocol(data: AuditData, folds: Sequence[Fold] | EmodartsError, settings: CorpusSettings) -> ProtocolAudit:
    """The folds as they are, or the error that says why there are none."""
    if isinstance(folds, EmodartsError):
        description = describe(settings.name)
        name = (settings.protocol or description.protocol).removeprefix(f"{description.name}/")
        return ProtocolAudit(f"{description.name}/{name}", None, (), str(folds))
    return ProtocolAudit(folds[0].protocol, folds[0].protocol_caveat, tuple(_fold(data, fold) for fold in folds), None)


def _fold(data: AuditData, fold: Fold) -> FoldAudit:
    roles = {"train": fold.train, "dev": fold.dev, **fold.tests}
    texts = data.columns["text"]
    in_train = {texts[data.place[u]] for u in fold.train if u in data.place} - {None}
    parts = tuple(_part(role, ids, fold, data, in_train) for role, ids in roles.items())
    shared = {}
    for first, second in combinations(parts, 2):
        if "train" in (first.role, second.role) or "dev" in (first.role, second.role):  # test sets may share theirs
            both = sorted(set(first.speakers) & set(second.speakers))
            if both:
                shared[f"{first.role} and {second.role}"] = tuple(both)
    left_out = group_reasons(fold.left_out.items())
    return FoldAudit(fold.index, fold.hash, parts, _unknown_near(data, fold), shared, left_out)


def _unknown_near(data: AuditData, fold: Fold) -> int:
    recordings = data.columns["recording"]
    held_out = {recordings[data.place[u]] for u in (*fold.dev, *fold.test_ids) if u in data.place} - {None}
    unknown = (u for u in fold.train if fold.speakers.get(u) is None and u in data.place)
    return sum(recordings[data.place[u]] in held_out for u in unknown)


def _part(role: str, ids: Sequence[str], fold: Fold, data: AuditData, in_train: set[str | None]) -> AuditedPart:
    labels = [fold.labels.get(utterance) for utterance in ids]
    counts = Counter(label for label in labels if label is not None)
    speakers = [fold.speakers.get(utterance) for utterance in ids]
    spoken = [t for u in ids if u in data.place and (t := data.columns["text"][data.place[u]]) is not None]
    compared = role != "train"
    return AuditedPart(
        role,
        len(ids),
        sum(label is None for label in labels),
        tuple(sorted({speaker for speaker in speakers if speaker is not None})),
        sum(speaker is None for speaker in speakers),
        {name: counts[name] for name in fold.classes},
        len(set(spoken)),
        len(set(spoken) & in_train) if compared else 0,
        len(spoken),
        sum(text in in_train for text in spoken) if compared else 0,
    )
