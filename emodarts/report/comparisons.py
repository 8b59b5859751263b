"""What may be compared: systems that were tested on the same folds, labels and classes under the same rules."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath
from statistics import mean
from typing import Any

from emodarts.records import LATE_DEV
from emodarts.report.report_data import EvaluationPart, ReportData, SystemResults
from emodarts.results.statistics import Tally

_REFERENCE = "emodarts"


@dataclass(frozen=True)
class ComparedSystem:
    """A system in a comparison, the name that tells it from the others there, and the number of its colour."""

    name: str
    colour: int
    results: SystemResults
    part: EvaluationPart

    @cached_property
    def tallies(self) -> list[Tally]:
        """A tally a seed, all folds pooled."""
        return self.results.pooled(self.part)

    @property
    def dev_uar(self) -> float | None:
        """Mean over the folds of what the winners were chosen by."""
        values = [w.dev_uar for w in self.results.winners.values() if w.dev_uar is not None]
        return mean(values) if values else None

    @property
    def parameters(self) -> float:
        """Of the winners' networks, mean over folds."""
        return mean(row["parameters"] for row in self.results.rows_of(self.part))


@dataclass(frozen=True)
class Comparison:
    """A test set under a protocol, with all `systems` that were tested on it, the reference first.

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
    systems: tuple[ComparedSystem, ...] = ()

    @property
    def folds(self) -> list[int]:
        """The folds that are compared."""
        return sorted({fold for fold, _ in self.hashes})

    @property
    def test_tally(self) -> Tally:
        """That of the reference's first seed; all systems have its speakers and labels."""
        return self.systems[0].tallies[0]

    @property
    def title(self) -> str:
        """What it is, in a line."""
        marks = [f"{len(self.classes)} classes", f"{len(self.folds)} folds"]
        if self.epoch_rule != LATE_DEV:
            marks.append(f"epoch: {self.epoch_rule.replace('_', ' ')}")
        if self.shared:
            marks.append("study_per=sweep")
        return f"{self.protocol}, tested on {self.test_set} ({', '.join(marks)})"


def group_comparisons(data: ReportData) -> list[Comparison]:
    """All comparisons; those by the clean rules first, then by protocol and test set."""
    groups: dict[Comparison, list[tuple[SystemResults, EvaluationPart]]] = defaultdict(list)
    for system in data.systems:
        for part in system.parts("test"):
            groups[_without_systems(system, part)].append((system, part))
    ordered = sorted(groups, key=lambda c: (c.epoch_rule != LATE_DEV, c.shared, str(c)))
    return [replace(comparison, systems=_with_names(groups[comparison], data)) for comparison in ordered]


def features_name(system: SystemResults) -> str:
    """The kind of features; of a pre-trained encoder its name, without the folder that it lies in."""
    features = json.loads(system.rows[0]["settings"]).get("features", {})
    model = features.get("model") or features.get("checkpoint") or features.get("bundle")
    if features.get("kind") not in ("pretrained", "encoder") or not model:
        return str(features.get("kind", ""))
    return PurePath(model).name if model.startswith(("/", ".", "~")) else str(model)


def _without_systems(system: SystemResults, part: EvaluationPart) -> Comparison:
    """The comparison that a system's results on a test set belong to, still without systems."""
    tally = system.pooled(part)[0]
    return Comparison(
        system.protocol,
        system.protocol_caveat,
        part.test_set,
        system.classes,
        tuple(h for h in system.hashes if h[0] in system.folds_of(part)),
        system.epoch_rule,
        system.shared,
        system.train_corpora,
        hashlib.sha256(repr((tally.speakers, tally.sizes.tolist())).encode()).hexdigest()[:8],
    )


def _with_names(
    members: Sequence[tuple[SystemResults, EvaluationPart]], data: ReportData
) -> tuple[ComparedSystem, ...]:
    """Names with all that they need to differ: source of the genotypes, features, normalisation, sweep."""
    names = [s.system if s.source is None else f"{s.system}, genotypes of {s.source}" for s, _ in members]
    features = [features_name(system) for system, _ in members]
    if len(set(features)) > 1:
        names = [f"{name}, {kind}" for name, kind in zip(names, features, strict=True)]
    if len({part.normalisation for _, part in members}) > 1:
        names = [f"{name}, normalised by {part.normalisation}" for name, (_, part) in zip(names, members, strict=True)]
    counts = Counter(names)
    compared = [
        ComparedSystem(name if counts[name] == 1 else f"{name} ({s.sweep})", data.colour_number(s), s, part)
        for name, (s, part) in zip(names, members, strict=True)
    ]
    dev_uars = {(c.results.sweep, c.results.system): c.dev_uar or 0 for c in compared}

    def rank(c: ComparedSystem) -> tuple[Any, ...]:
        """The searched system is the reference; without one, what is best on dev. An ensemble stands after its own."""
        system = c.results.system.rpartition("+top")[0] if c.results.is_ensemble else c.results.system
        dev_uar = dev_uars.get((c.results.sweep, system), c.dev_uar or 0)
        return system != _REFERENCE, bool(c.results.source), -dev_uar, system, c.results.is_ensemble, c.name

    return tuple(sorted(compared, key=rank))
