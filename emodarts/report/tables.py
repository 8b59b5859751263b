"""The headline figures of a sweep, recomputed from its predictions. Selection is by dev alone."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import pyarrow.compute as pc

from emodarts.results.reader import Results
from emodarts.results.records import TrialRecord
from emodarts.results.writer import figures

PUBLISHED = "published"  # the study of the published protocol, in a sweep `<name>-published` beside the clean `<name>`
_WITHOUT_DEV = ("last", "best_test")  # epoch rules


@dataclass(frozen=True)
class FoldLine:
    """A fold's winner (by dev) and its figures on one test set, means over the winner's seeds."""

    fold: int
    trial: int
    seeds: int
    dev_uar: float
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

    def mean_and_deviation(self, name: str) -> tuple[float, float | None]:
        """Mean over folds and sample standard deviation (None for one fold) of `test_uar` and its like."""
        values = [getattr(line, name) for line in self.folds]
        return mean(values), stdev(values) if len(values) > 1 else None


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


@dataclass(frozen=True)
class RuleLine:
    """Test figures of a system by one protocol and one rule for the epoch: means over the folds (and seeds)."""

    system: str
    protocol: str
    test_set: str
    epoch_rule: str
    folds: int
    uar: float
    deviation: float | None  # of the UAR over the folds; None for one
    war: float
    macro_f1: float


@dataclass(frozen=True)
class PublishedReport:
    """A published protocol, and the clean one beside it where its sweep is there. No line of it chose anything.

    `worth`: by system and test set, what choosing the epoch on test adds to the last epoch's UAR.
    """

    sweep: str
    weakness: str
    lines: tuple[RuleLine, ...]
    worth: dict[tuple[str, str], float]


def report(results: Results) -> list[SweepReport]:
    """One report a sweep."""
    return [_sweep(part.name, one) for part, one in results.each()]


def published(results: Results) -> list[PublishedReport]:
    """One report for each sweep of a published protocol."""
    by_name = {part.name: one for part, one in results.each()}
    ending = f"-{PUBLISHED}"
    pairs = [(name.removesuffix(ending), one) for name, one in by_name.items() if name.endswith(ending)]
    found = [_published(clean, by_name.get(clean), one) for clean, one in pairs]
    return [one for one in found if one is not None]


def _published(sweep: str, clean: Results | None, one: Results) -> PublishedReport | None:
    rows = [r for r in _test_rows(one) if r["study"] == PUBLISHED and r["epoch_rule"] in _WITHOUT_DEV]
    if not rows:
        return None
    lines = _rule_lines(rows)
    last = {(x.system, x.test_set): x.uar for x in lines if x.epoch_rule == "last"}
    best = {(x.system, x.test_set): x.uar for x in lines if x.epoch_rule == "best_test"}
    beside = _rule_lines(_test_rows(clean)) if clean else []
    return PublishedReport(
        sweep, rows[0]["weakness"], (*beside, *lines), {place: best[place] - last[place] for place in best}
    )


def _test_rows(one: Results) -> list[dict[str, Any]]:
    """The test figures of a sweep's winners, and those of the published protocol."""
    folds = one.table("folds").to_pylist()
    chosen = winners(one.trials(), _sizes(folds))
    tests = [r for r in folds if r["role"] == "test" and r["stage"] == "final" and r["uar"] is not None]
    return [r for r in tests if r["study"] == PUBLISHED or (r["study"] != "shared" and _is_winner(r, chosen))]


def _rule_lines(rows: list[dict[str, Any]]) -> list[RuleLine]:
    groups: dict[tuple[str, str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["system"], row["protocol"], row["test_set"], row["epoch_rule"]].append(row)
    lines = []
    for place, group in groups.items():
        uars, wars, f1s = (_by_fold(group, name) for name in ("uar", "war", "macro_f1"))
        deviation = stdev(uars) if len(uars) > 1 else None
        lines.append(RuleLine(*place, len(uars), mean(uars), deviation, mean(wars), mean(f1s)))
    return sorted(lines, key=lambda x: (x.system, x.protocol, x.test_set, x.epoch_rule != "last"))


def _by_fold(rows: list[dict[str, Any]], name: str) -> list[float]:
    """A figure of each fold, the mean over its seeds."""
    return [mean(r[name] for r in rows if r["fold"] == fold) for fold in sorted({r["fold"] for r in rows})]


def winners(trials: list[TrialRecord], sizes: dict[tuple[str, str, int], float]) -> dict[tuple[str, str], TrialRecord]:
    """The winner of each (system, study): best dev value of the first seed, then fewer parameters, lower number.

    Configurations without a value, of folds without dev part, were never to be chosen.
    """
    best: dict[tuple[str, str], TrialRecord] = {}
    for trial in trials:
        if trial.seed != 0 or trial.status != "complete" or not trial.values:
            continue
        place = (trial.system, trial.study)

        def rank(t: TrialRecord) -> tuple[float, float, int]:
            return -t.values[0], sizes.get((t.system, t.study, t.trial), 0.0), t.trial

        if place not in best or rank(trial) < rank(best[place]):
            best[place] = trial
    return best


def _sweep(sweep: str, one: Results) -> SweepReport:
    trials = one.trials()
    folds = one.table("folds").to_pylist()
    chosen = winners(trials, _sizes(folds))
    rows = [r for r in folds if r["stage"] == "final" and _is_winner(r, chosen)]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["role"] == "test" and row["uar"] is not None:  # no figure where the labels are not public
            groups[
                row["system"], row["protocol"], row["test_set"], tuple(row["classes"]), row["study"] == "shared"
            ].append(row)
    predictions = _predictions(one, chosen)
    blocks = [_block(sweep, key, group, rows, predictions) for key, group in sorted(groups.items())]
    failed = [t for t in trials if t.status == "failed"]
    return SweepReport(
        sweep,
        tuple(blocks),
        tuple(_crosses(rows)),
        dict(Counter(t.status for t in trials)),
        sum(t.retries for t in trials),
        tuple(f"{t.study} trial {t.trial}: {t.reason}" for t in failed),
        tuple(_notices(blocks, rows)),
    )


def _sizes(folds: list[dict[str, Any]]) -> dict[tuple[str, str, int], float]:
    sizes: dict[tuple[str, str, int], list[int]] = defaultdict(list)
    for row in folds:
        if row["seed"] == 0:
            sizes[row["system"], row["study"], row["trial"]].append(row["parameters"])
    return {key: mean(values) for key, values in sizes.items()}


def _is_winner(row: dict[str, Any], chosen: dict[tuple[str, str], TrialRecord]) -> bool:
    winner = chosen.get((row["system"], row["study"]))
    return winner is not None and winner.trial == row["trial"]


def _predictions(results: Results, chosen: dict[tuple[str, str], TrialRecord]) -> list[dict[str, Any]]:
    wanted = (pc.field("role") == "test") & (pc.field("stage") == "final")
    columns = ["system", "study", "trial", "seed", "fold", "protocol", "test_set", "label", "predicted"]
    rows: list[dict[str, Any]] = results.table("predictions", columns, wanted).to_pylist()
    return [r for r in rows if r["label"] is not None and _is_winner(r, chosen)]


def _block(
    sweep: str,
    key: tuple[Any, ...],
    group: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    predictions: list[dict[str, Any]],
) -> Block:
    system, protocol, test_set, classes, shared = key
    dev = {(r["study"], r["trial"], r["fold"]): r["uar"] for r in rows if r["role"] == "dev" and r["seed"] == 0}
    lines = []
    for fold in sorted({r["fold"] for r in group}):
        seeds = [r for r in group if r["fold"] == fold]
        first = seeds[0]
        lines.append(
            FoldLine(
                fold,
                first["trial"],
                len(seeds),
                dev[first["study"], first["trial"], fold],
                mean(r["uar"] for r in seeds),
                mean(r["war"] for r in seeds),
                mean(r["macro_f1"] for r in seeds),
                first["n"],
            )
        )
    mine = [
        p
        for p in predictions
        if (p["system"], p["protocol"], p["test_set"]) == (system, protocol, test_set)
        and (p["study"] == "shared") == shared
    ]
    by_seed = [[p for p in mine if p["seed"] == seed] for seed in sorted({p["seed"] for p in mine})]
    # Only seeds that every fold has are pooled: a pooled figure over some of the folds would be another figure.
    full = [s for s in by_seed if {p["fold"] for p in s} == {line.fold for line in lines}]
    pooled = [figures([p["label"] for p in s], [p["predicted"] for p in s], classes) for s in full]
    labels = [p["label"] for p in full[0]]
    most = max(classes, key=lambda c: (labels.count(c), c))
    names = ("uar", "war", "macro_f1")
    return Block(
        sweep,
        system,
        protocol,
        test_set,
        classes,
        shared,
        tuple(lines),
        {name: mean(p[name] for p in pooled) for name in names},
        1 / len(classes),
        {name: figures(labels, [most] * len(labels), classes)[name] for name in names},
    )


def _crosses(rows: list[dict[str, Any]]) -> list[CrossLine]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["role"] == "cross":
            place = (row["test_set"], row["normalisation"], row["system"], row["protocol"], row["study"] == "shared")
            groups[place].append(row)
    lines = []
    for (test_set, normalisation, system, protocol, shared), group in sorted(groups.items()):
        by_fold = [[r for r in group if r["fold"] == fold] for fold in sorted({r["fold"] for r in group})]
        uars, wars, f1s = ([mean(r[name] for r in seeds) for seeds in by_fold] for name in ("uar", "war", "macro_f1"))
        lines.append(
            CrossLine(
                system,
                protocol,
                test_set,
                normalisation,
                shared,
                len(by_fold),
                group[0]["n"],
                mean(uars),
                stdev(uars) if len(uars) > 1 else None,
                mean(wars),
                mean(f1s),
                1 / len(group[0]["classes"]),
            )
        )
    return lines


def _notices(blocks: list[Block], rows: list[dict[str, Any]]) -> list[str]:
    notices = []
    if len({b.protocol for b in blocks}) > 1:
        notices.append("several protocols: their figures stand apart and must not be compared")
    hashes: dict[tuple[str, int], set[str]] = defaultdict(set)
    for row in rows:
        hashes[row["protocol"], row["fold"]].add(row["fold_hash"])
    changed = sorted({fold for (_, fold), found in hashes.items() if len(found) > 1})
    if changed:
        notices.append(f"folds {changed} changed between units (different fold hashes): the data are not the same")
    hidden = sorted({row["test_set"] for row in rows if row["role"] == "test" and row["n"] == 0})
    if hidden:
        notices.append(f"{', '.join(hidden)}: the labels are not public; the predictions table has what was predicted")
    notices += sorted({f"{row['protocol']}: {row['weakness']}" for row in rows if row["weakness"]})
    if any(b.shared for b in blocks):
        notices.append("nesting=shared: the selection saw these speakers in other folds; no figure for a comparison")
    return notices
