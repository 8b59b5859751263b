"""The headline figures of a sweep as a terminal shows them, recomputed from its predictions."""

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any

from emodarts.records import LATE_DEV
from emodarts.report.report_data import Entry, EvaluationPart, ReportData, SweepSummary, load_report_data
from emodarts.results.reader import Results
from emodarts.results.statistics import figures, majority


@dataclass(frozen=True)
class FoldLine:
    """A fold's winner (by dev) and its figures on one test set, means over the winner's seeds."""

    fold: int
    trial: int
    seeds: int
    dev_uar: float | None  # None: the protocol has no dev part
    test_uar: float
    test_war: float
    test_macro_f1: float
    n: int


@dataclass(frozen=True)
class Block:
    """Folds that may be pooled: one system, protocol, study family, test set and class set."""

    sweep: str
    system: str
    protocol: str
    test_set: str
    classes: tuple[str, ...]
    shared: bool
    folds: tuple[FoldLine, ...]
    pooled: dict[str, float]
    chance: float
    majority: dict[str, float]

    def mean_and_deviation(self, name: str) -> tuple[float | None, float | None]:
        """Mean over folds (None without figures) and sample standard deviation (None for one) of `test_uar`, say."""
        values = [getattr(line, name) for line in self.folds if getattr(line, name) is not None]
        return mean(values) if values else None, stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class CrossLine:
    """A system on another corpus: UAR and its like of each fold's winner on all of it, a mean over these models."""

    system: str
    protocol: str
    test_set: str
    normalisation: str
    shared: bool
    models: int
    n: int
    uar: float
    deviation: float | None  # of the UAR over the models; None for one
    war: float
    macro_f1: float
    chance: float


@dataclass(frozen=True)
class SweepReport:
    """All blocks of a sweep, how its networks do on other corpora, and what is missing or failed."""

    sweep: str
    blocks: tuple[Block, ...]
    crosses: tuple[CrossLine, ...]
    counts: dict[str, int]
    retries: int  # units that were begun again: dead workers, lost nodes, killed drivers
    failures: tuple[str, ...]
    notices: tuple[str, ...]


def report(results: Results) -> list[SweepReport]:
    """One report a sweep."""
    return reports(load_report_data(results))


def reports(evidence: ReportData) -> list[SweepReport]:
    """The same of what was read already."""
    return [_sweep(c, [e for e in evidence.entries if e.sweep == c.sweep]) for c in evidence.courses]


def _sweep(course: SweepSummary, entries: list[Entry]) -> SweepReport:
    counts: Counter[str] = Counter()
    for (_, status), number in course.statuses.items():
        counts[status] += number
    # What no dev part chose stands in a table of its own (`published`), and never beside these.
    clean = [entry for entry in entries if entry.epoch_rule == LATE_DEV]
    return SweepReport(
        course.sweep,
        tuple(_block(entry, part) for entry in clean for part in entry.parts("test")),
        tuple(_cross(entry, part) for entry in clean for part in entry.parts("cross")),
        dict(counts),
        course.retries,
        course.failures,
        tuple(notices(entries)),
    )


def _block(entry: Entry, part: EvaluationPart) -> Block:
    pooled = entry.pooled(part)
    each = [asdict(figures(tally.confusion())) for tally in pooled]
    return Block(
        entry.sweep,
        entry.system,
        entry.protocol,
        part.test_set,
        entry.classes,
        entry.shared,
        tuple(_line(entry, part, fold) for fold in sorted({fold for fold, _ in entry.tallies[part]})),
        {name: mean(one[name] for one in each) for name in each[0]},
        1 / len(entry.classes),
        asdict(figures(majority(pooled[0]).confusion())),
    )


def _line(entry: Entry, part: EvaluationPart, fold: int) -> FoldLine:
    seeds = entry.rows_of(part, fold)
    dev = [row["uar"] for p in entry.parts("dev") for row in entry.rows_of(p, fold) if row["seed"] == 0]
    uar, war, macro_f1 = (mean(row[name] for row in seeds) for name in ("uar", "war", "macro_f1"))
    trial, first = entry.winners[fold].trial, dev[0] if dev else None
    return FoldLine(fold, trial, len(seeds), first, uar, war, macro_f1, seeds[0]["n"])


def _cross(entry: Entry, part: EvaluationPart) -> CrossLine:
    rows = entry.rows_of(part)
    by_fold = [[r for r in rows if r["fold"] == fold] for fold in sorted({r["fold"] for r in rows})]
    uars, wars, f1s = ([mean(r[name] for r in seeds) for seeds in by_fold] for name in ("uar", "war", "macro_f1"))
    return CrossLine(
        entry.system,
        entry.protocol,
        part.test_set,
        part.normalisation,
        entry.shared,
        len(by_fold),
        rows[0]["n"],
        mean(uars),
        stdev(uars) if len(uars) > 1 else None,
        mean(wars),
        mean(f1s),
        1 / len(entry.classes),
    )


def _other_data(entries: list[Entry]) -> list[str]:
    """Folds with more than one hash: within a sweep the data changed on the way, between sweeps they are others."""
    within: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    between: dict[tuple[str, tuple[str, ...], int], set[str]] = defaultdict(set)
    for entry in entries:
        for fold, digest in entry.hashes:
            within[entry.sweep, entry.protocol, fold].add(digest)
            between[entry.protocol, entry.classes, fold].add(digest)
    found = []
    changed = sorted({(sweep, fold) for (sweep, _, fold), digests in within.items() if len(digests) > 1})
    if changed:
        told = ", ".join(f"fold {fold} of {sweep}" for sweep, fold in changed)
        found.append(f"{told} changed between units (different fold hashes): the data are not the same")
    others = sorted({protocol for (protocol, _, _), digests in between.items() if len(digests) > 1})
    if others:
        found.append(f"{', '.join(others)}: sweeps of other labels or data (different fold hashes) stand apart")
    return found


def incomplete(evidence: ReportData) -> list[str]:
    """Winners without rows, and systems that have fewer folds than others by the same protocol."""
    found = []
    there = {(e.sweep, *w.key) for e in evidence.entries for w in e.winners.values()}
    lost = [w for w in evidence.winners if (w.sweep, *w.key) not in there]
    for w in lost:
        found.append(f"{w.sweep}: {w.system}, {w.study} has a winner (trial {w.trial}) and no rows of it in folds")
    most: dict[str, set[int]] = defaultdict(set)
    for entry in evidence.entries:
        most[entry.protocol] |= set(entry.folds)
    for entry in evidence.entries:
        missing = sorted(most[entry.protocol] - set(entry.folds))
        if missing:
            told = f"{len(entry.folds)} of {len(most[entry.protocol])} folds; it stands apart from what has all"
            found.append(f"{entry.sweep}: {entry.system} has {told}")
    return found


def notices(entries: list[Entry]) -> list[str]:
    """What a reader of these figures has to know before comparing them."""
    found = []
    if len({e.protocol for e in entries}) > 1:
        found.append("several protocols: their figures stand apart and must not be compared")
    found += _other_data(entries)
    rows: list[dict[str, Any]] = [row for entry in entries for row in entry.rows]
    hidden = sorted({row["test_set"] for row in rows if row["role"] == "test" and row["n"] == 0})
    if hidden:
        found.append(f"{', '.join(hidden)}: the labels are not public; the predictions table has what was predicted")
    absent = {(r["test_set"], c) for r in rows if r["role"] != "dev" and r["n"] for c in r["absent_classes"]}
    for test_set, name in sorted(absent):
        found.append(f"{test_set}: no utterance of class {name} in some fold; its UAR is a mean over the others")
    found += sorted({f"{e.protocol}: {e.protocol_caveat}" for e in entries if e.protocol_caveat})
    if any(e.shared for e in entries):
        found.append("study_per=sweep: the selection saw these speakers in other folds; no figure for a comparison")
    return found
