"""A protocol looked at from outside: who and what stands in which role of each fold, whatever the protocol promises."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from emodarts.audit.record import FoldAudit, Part, ProtocolAudit
from emodarts.audit.tallies import reasons
from emodarts.audit.view import View
from emodarts.corpora.protocols import Fold
from emodarts.corpora.registry import describe
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError


def protocol_audit(view: View, folds: Sequence[Fold] | EmodartsError, settings: CorpusSettings) -> ProtocolAudit:
    """The folds as they are, or the error that says why there are none."""
    if isinstance(folds, EmodartsError):
        asked = (settings.protocol or describe(settings.name).protocol).removeprefix(f"{settings.name}/")
        return ProtocolAudit(f"{settings.name}/{asked}", None, (), str(folds))
    return ProtocolAudit(folds[0].protocol, folds[0].weakness, tuple(_fold(view, fold) for fold in folds), None)


def _fold(view: View, fold: Fold) -> FoldAudit:
    roles = {"train": fold.train, "dev": fold.dev, **fold.tests}
    texts = view.columns["text"]
    in_train = {texts[view.place[u]] for u in fold.train if u in view.place} - {None}
    parts = tuple(_part(role, ids, fold, view, in_train) for role, ids in roles.items())
    shared = {}
    for first, second in combinations(parts, 2):
        if "train" in (first.role, second.role) or "dev" in (first.role, second.role):  # test sets may share theirs
            both = sorted(set(first.speakers) & set(second.speakers))
            if both:
                shared[f"{first.role} and {second.role}"] = tuple(both)
    return FoldAudit(fold.index, fold.hash, parts, shared, reasons(fold.left_out.items()))


def _part(role: str, ids: Sequence[str], fold: Fold, view: View, in_train: set[str | None]) -> Part:
    labels = [fold.labels.get(utterance) for utterance in ids]
    counts = Counter(label for label in labels if label is not None)
    speakers = [fold.speakers.get(utterance) for utterance in ids]
    spoken = [t for u in ids if u in view.place and (t := view.columns["text"][view.place[u]]) is not None]
    compared = role != "train"
    return Part(
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
