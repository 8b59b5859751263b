"""What may be compared: entries that were tested on the same folds, labels and classes under the same rules."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from emodarts.records import LATE_DEV
from emodarts.report.report_data import Entry, EvaluationPart, ReportData
from emodarts.results.statistics import Tally

_REFERENCE = "emodarts"


@dataclass(frozen=True)
class Contender:
    """An entry in a comparison, the name that tells it from the others there, and the number of its colour."""

    name: str
    colour: int
    entry: Entry
    part: EvaluationPart

    @property
    def tallies(self) -> list[Tally]:
        """A tally a seed, all folds pooled."""
        return self.entry.pooled(self.part)

    @property
    def dev_uar(self) -> float | None:
        """Mean over the folds of what the winners were chosen by."""
        found = [w.dev_uar for w in self.entry.winners.values() if w.dev_uar is not None]
        return mean(found) if found else None

    @property
    def parameters(self) -> float:
        """Of the winners' networks, mean over folds."""
        return mean(row["parameters"] for row in self.entry.rows_of(self.part))


@dataclass(frozen=True)
class Condition:
    """A test set under a protocol, with all that were tested on it: `contenders`, the reference first.

    `predicted` is a hash of whose predictions there are, and of how many utterances: fold hashes do not cover speakers.
    """

    protocol: str
    protocol_caveat: str | None
    test_set: str
    classes: tuple[str, ...]
    hashes: tuple[tuple[int, str], ...]
    epoch_rule: str
    shared: bool
    train_corpora: tuple[str, ...]
    predicted: str
    contenders: tuple[Contender, ...]

    @property
    def title(self) -> str:
        """What it is, in one line."""
        marks = [f"{len(self.classes)} classes", f"{len({f for f, _ in self.hashes})} folds"]
        if self.epoch_rule != LATE_DEV:
            marks.append(f"epoch: {self.epoch_rule.replace('_', ' ')}")
        if self.shared:
            marks.append("study_per=sweep")
        return f"{self.protocol}, tested on {self.test_set} ({', '.join(marks)})"


def conditions(evidence: ReportData) -> list[Condition]:
    """All conditions; those by the clean rules first, then by protocol and test set."""
    groups: dict[tuple[Any, ...], list[tuple[Entry, EvaluationPart]]] = defaultdict(list)
    for entry in evidence.entries:
        for part in entry.parts("test"):
            groups[_key(entry, part)].append((entry, part))
    ordered = sorted(groups.items(), key=lambda item: (item[0][5] != LATE_DEV, item[0][6], str(item[0])))
    return [Condition(*key, _named(found, evidence)) for key, found in ordered]  # type: ignore[call-arg]


def other_predictions(found: Sequence[Condition]) -> list[str]:
    """What stands apart though its folds are the same: predictions of other speakers, or of other utterances."""
    alike: dict[tuple[Any, ...], list[Condition]] = defaultdict(list)
    for c in found:
        alike[c.protocol, c.test_set, c.classes, c.hashes, c.epoch_rule, c.shared, c.train_corpora].append(c)
    return [
        f"{group[0].protocol}, {group[0].test_set}: the predictions of {' and of '.join(map(_sweeps, group))} are of "
        "other speakers, or of other numbers of utterances, though the folds are the same"
        for group in alike.values()
        if len(group) > 1
    ]


def _sweeps(condition: Condition) -> str:
    return ", ".join(sorted({c.entry.sweep for c in condition.contenders}))


def features_of(entry: Entry) -> str:
    """The kind of features, and the model where it is a pre-trained one."""
    found = json.loads(entry.rows[0]["settings"]).get("features", {})
    model = found.get("checkpoint") or found.get("bundle")
    return f"{model}" if found.get("kind") == "pretrained" and model else str(found.get("kind", ""))


def label(corpora: Sequence[str]) -> str:
    """Training corpora in one word."""
    return "+".join(corpora)


def _key(entry: Entry, part: EvaluationPart) -> tuple[Any, ...]:
    hashes = tuple(h for h in entry.hashes if any(fold == h[0] for fold, _ in entry.tallies[part]))
    about = (entry.protocol, entry.protocol_caveat, part.test_set, entry.classes, hashes)
    tally = entry.pooled(part)[0]
    predicted = hashlib.sha256(repr((tally.speakers, tally.sizes.tolist())).encode()).hexdigest()[:8]
    return (*about, entry.epoch_rule, entry.shared, entry.train_corpora, predicted)


def _named(found: list[tuple[Entry, EvaluationPart]], evidence: ReportData) -> tuple[Contender, ...]:
    plain = [_plain_name(entry) for entry, _ in found]
    kinds = {features_of(entry) for entry, _ in found}
    if len(kinds) > 1:
        plain = [f"{name}, {features_of(entry)}" for name, (entry, _) in zip(plain, found, strict=True)]
    counts = Counter(plain)
    made = [
        Contender(name if counts[name] == 1 else f"{name} ({entry.sweep})", evidence.number(entry), entry, part)
        for name, (entry, part) in zip(plain, found, strict=True)
    ]
    # The searched system is what the others stand beside; without one, what dev likes best.
    return tuple(
        sorted(made, key=lambda c: (c.entry.system != _REFERENCE, bool(c.entry.source), -(c.dev_uar or 0), c.name))
    )


def _plain_name(entry: Entry) -> str:
    return entry.system if entry.source is None else f"{entry.system}, genotypes of {entry.source}"
