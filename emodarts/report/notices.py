"""What a reader of the figures has to know before comparing them: what differs, is missing or leaks."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from emodarts.corpora.protocols.exclusions import MARK
from emodarts.report.comparisons import Comparison
from emodarts.report.report_data import ReportData, SystemResults

_BY_UTTERANCE = {"sampling": "utterance", "loss_weights": "class"}  # settings under which corpora count by their sizes


def all_notices(data: ReportData, comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """Everything, the worst first."""
    return (
        *find_leaks(data),
        *comparability_notices(data.systems),
        *_incomplete_systems(data),
        *_other_predictions(comparisons),
    )


def find_leaks(data: ReportData) -> list[str]:
    """What the audits call a leak: no figure should be read without it."""
    leaks: dict[str, None] = {}
    for row in (row for sweep in data.sweeps for row in sweep.corpora if row["audit"]):
        for finding in json.loads(row["audit"])["findings"]:
            if finding["severity"] == "leak":
                leaks[f"the audit of {row['corpus']} has a leak: {finding['subject']}: {finding['fact']}"] = None
    return list(leaks)


def comparability_notices(systems: Sequence[SystemResults]) -> list[str]:
    """Why some of these systems' figures stand apart, or are weaker than they look."""
    notices = []
    if len({s.protocol for s in systems}) > 1:
        notices.append("several protocols: their figures stand apart and must not be compared")
    notices += _differing_hashes(systems)
    rows: list[dict[str, Any]] = [row for system in systems for row in system.rows]
    hidden = sorted({row["test_set"] for row in rows if row["role"] == "test" and row["n"] == 0})
    if hidden:
        notices.append(f"{', '.join(hidden)}: the labels are not public; the predictions table has what was predicted")
    absent = {(r["test_set"], c) for r in rows if r["role"] != "dev" and r["n"] for c in r["absent_classes"]}
    for test_set, name in sorted(absent):
        notices.append(f"{test_set}: no utterance of class {name} in some fold; its UAR is a mean over the others")
    notices += sorted({f"{s.protocol}: {s.protocol_caveat}" for s in systems if s.protocol_caveat})
    if any(MARK in s.protocol for s in systems):
        notices.append(
            "corpus.exclude: networks that had heard this fold's test speakers may have chosen what does not train; "
            "the figures may be a little too good"
        )
    by_speaker = sorted({row["normalisation"] for row in rows if row["normalisation"].startswith("speaker")})
    if by_speaker:
        notices.append(
            f"normalised by {', '.join(by_speaker)}: several recordings of a speaker are supposed at hand when "
            "predicting, without labels; those that the statistics are taken from are scored, too"
        )
    batches = [json.loads(row["settings"]).get("batches", {}) for row in rows]
    by_corpus = {f"batches.{name}={b[name]}" for b in batches for name in _BY_UTTERANCE if name in b}
    by_corpus -= {f"batches.{name}={value}" for name, value in _BY_UTTERANCE.items()}
    if by_corpus:
        notices.append(f"{', '.join(sorted(by_corpus))}: corpora do not count by their sizes in training")
    if any(s.shared for s in systems):
        notices.append("study_per=sweep: the selection saw these speakers in other folds; no figure for a comparison")
    return notices


def _differing_hashes(systems: Sequence[SystemResults]) -> list[str]:
    """Folds with more than one hash: within a sweep the data changed on the way, between sweeps they are others."""
    within: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    between: dict[tuple[str, tuple[str, ...], int], set[str]] = defaultdict(set)
    for system in systems:
        for fold, digest in system.hashes:
            within[system.sweep, system.protocol, fold].add(digest)
            between[system.protocol, system.classes, fold].add(digest)
    notices = []
    changed = sorted({(sweep, fold) for (sweep, _, fold), digests in within.items() if len(digests) > 1})
    if changed:
        folds = ", ".join(f"fold {fold} of {sweep}" for sweep, fold in changed)
        notices.append(f"{folds} changed between units (different fold hashes): the data are not the same")
    others = sorted({protocol for (protocol, _, _), digests in between.items() if len(digests) > 1})
    if others:
        notices.append(f"{', '.join(others)}: sweeps of other labels or data (different fold hashes) stand apart")
    return notices


def _incomplete_systems(data: ReportData) -> list[str]:
    """Winners without rows, and systems that have fewer folds than others by the same protocol."""
    reported = {(s.sweep, *w.key) for s in data.systems for w in s.winners.values()}
    notices = [
        f"{w.sweep}: {w.system}, {w.study} has a winner (trial {w.trial}) and no rows of it in folds"
        for w in data.winners
        if (w.sweep, *w.key) not in reported
    ]
    folds: dict[str, set[int]] = defaultdict(set)
    for system in data.systems:
        folds[system.protocol] |= set(system.folds)
    for system in data.systems:
        have, most = len(system.folds), len(folds[system.protocol])
        if have < most:
            notices.append(
                f"{system.sweep}: {system.system} has {have} of {most} folds; it stands apart from what has all"
            )
    return notices


def _other_predictions(comparisons: Sequence[Comparison]) -> list[str]:
    """What stands apart though its folds are the same: predictions of other speakers, or of other utterances."""
    alike: dict[tuple[Any, ...], list[Comparison]] = defaultdict(list)
    for c in comparisons:
        alike[c.protocol, c.test_set, c.classes, c.hashes, c.epoch_rule, c.shared, c.train_corpora].append(c)
    return [
        f"{group[0].protocol}, {group[0].test_set}: the predictions of {' and of '.join(map(_sweep_names, group))} are "
        "of other speakers, or of other numbers of utterances, though the folds are the same"
        for group in alike.values()
        if len(group) > 1
    ]


def _sweep_names(comparison: Comparison) -> str:
    return ", ".join(sorted({system.results.sweep for system in comparison.systems}))
