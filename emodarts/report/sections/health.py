"""Section "Health of the sweep": whether it was set up so that its winners mean something, and what to run next."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
import pyarrow.compute as pc

from emodarts.report.elements import Element, Paragraph, Section
from emodarts.report.plots import evenly_spaced
from emodarts.report.report_data import ReportData, SweepRecord, SystemResults
from emodarts.report.tables import ReportTable, format_cell, head, slug
from emodarts.results.reader import SweepTables
from emodarts.results.statistics import Tally

_COLUMNS = head("system | what | seen | what to do next")
LUCK = 0.5  # share of the spread of configurations that is noise: from here on a winner is mostly luck
EDGE = 0.05  # of a dimension's range: so near its end is at its bound
IDLE = 0.03  # importance of a dimension without effect
RISING = 0.01  # of dev UAR, from the third to the last quarter of a training
MOVED = 0.02  # relative fall of the alphas' entropy: less, and the search decided nothing
WEAK = 0.2  # rank correlation
_MOST_TRIALS = 30  # of a study, whose epochs are read
_MOST_READ = 5_000  # configurations of a sweep
_SECONDS = ("place", "search_seconds", "train_seconds")
_FEW = 5  # configurations: of fewer nothing is said of ranks and bounds


@dataclass(frozen=True)
class HealthFinding:
    """What was seen of a system, and what to do about it; `advice` is empty where all is well."""

    system: str
    what: str
    seen: str
    advice: str = ""


def health_section(data: ReportData) -> Section | None:
    """A table a sweep, with those findings first that call for something; None without configurations."""
    elements: list[Element] = []
    for sweep in data.results.parts:
        findings = sorted(find_health(data, sweep), key=lambda f: not f.advice)
        if findings:
            rows = tuple((f.system, f.what, f.seen, f.advice or "nothing") for f in findings)
            calling = [f for f in findings if f.advice]
            first = f"{len(calling)} of {len(findings)} checks call for something" if calling else "nothing to mend"
            lead = f"; first: {calling[0].what} of {calling[0].system}: {calling[0].advice}." if calling else "."
            elements.append(Paragraph(f"{sweep.name}: {first}{lead}", "lead"))
            name, title = slug(f"health {sweep.name}"), f"Health of {sweep.name}"
            elements.append(ReportTable(name, title, _COLUMNS, rows))
    return Section("Health of the sweep", tuple(elements)) if elements else None


def find_health(data: ReportData, sweep: SweepTables) -> Iterator[HealthFinding]:
    """All findings of a sweep. Raises EmodartsError for files that are none."""
    record = data.sweep_record(sweep.name)
    trials = _read_trials(sweep)
    for system in sorted({row["system"] for row in trials}):
        own = [row for row in trials if row["system"] == system]
        complete = [row for row in own if row["status"] == "complete" and row["values"]]
        results = [s for s in data.systems if (s.sweep, s.system) == (sweep.name, system)]
        if not record.settings.get("sweep.inner"):  # else more speakers than those of dev judged the configurations
            yield from _luck(system, complete, results)
        yield from _bounds(system, complete, record)
        yield from _idle(system, record)
        yield from _failures(system, own)
        yield from _epochs(system, sweep, own, complete)
        yield from _pruning(system, sweep, own)
    yield from _time(sweep)


def luck_share(dev_uars: Sequence[float], noise: float) -> float:
    """The share of the variance of configurations' dev figures that noise of variance `noise ** 2` explains, 0 to 1."""
    variance = float(np.var(dev_uars, ddof=1))
    return min(1.0, noise**2 / variance) if variance > 0 else 1.0


def uar_noise(tally: Tally) -> float:
    """The standard error of a UAR if utterances were independent draws: at least so much is luck of a dev part.

    `sqrt(sum_c r_c (1 - r_c) / n_c) / classes` of recalls r and class sizes n, with one right and one wrong utterance
    added to each class (Agresti & Coull 1998), as a class that is all right still has noise.
    """
    counts = tally.confusion()
    sizes = counts.sum(1)
    present = sizes > 0
    recalls = (np.diag(counts)[present] + 1) / (sizes[present] + 2)
    return float(np.sqrt((recalls * (1 - recalls) / (sizes[present] + 2)).sum()) / present.sum())


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's, of pairs of values; NaN for few of them, and where one side is constant."""
    x, y = np.array(pairs, np.float64).reshape(-1, 2).T
    if len(x) < _FEW or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)


def _luck(system: str, complete: Sequence[dict[str, Any]], results: Sequence[SystemResults]) -> Iterator[HealthFinding]:
    by_study: dict[str, list[float]] = defaultdict(list)
    for row in complete:
        by_study[row["study"]].append(row["values"][0])
    studies = [values for values in by_study.values() if len(values) > 2 and not any(math.isnan(v) for v in values)]
    noises = [uar_noise(t) for s in results for part in s.parts("dev") for t in s.tallies[part].values()]
    if not studies or not noises:
        return
    noise, share = mean(noises), mean(luck_share(values, mean(noises)) for values in studies)
    spread = math.sqrt(mean(float(np.var(values, ddof=1)) for values in studies))
    of = max(map(len, studies))
    seen = (
        f"configurations of a study differ by {format_cell(spread, 'figure')} in dev UAR (sd), and the luck of which "
        f"utterances are in dev alone is {format_cell(noise, 'figure')}: {100 * share:.0f} % of the spread is noise"
    )
    advice = f"best of {of} is mostly luck here: more seeds (sweep.seeds=3), or a dev part of more speakers"
    yield HealthFinding(system, "dev noise", seen, advice if share >= LUCK else "")


def _bounds(system: str, complete: Sequence[dict[str, Any]], record: SweepRecord) -> Iterator[HealthFinding]:
    by_study: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in complete:
        by_study[row["study"]].append(row)
    best = [max(rows, key=lambda row: row["values"][0]) for rows in by_study.values() if len(rows) >= _FEW]
    for name in sorted({name for row in best for name in row["parameters"]}):
        bounded = [f"sweep.{group}.{name}." for group in ("space", "bounds")]  # `space` counts where both name it
        prefix = next((p for p in bounded if f"{p}low" in record.settings), bounded[0])
        low, high = (record.settings.get(prefix + end) for end in ("low", "high"))
        if low is None or high is None or isinstance(low, str) or isinstance(high, str):
            continue
        is_whole = isinstance(low, int) and isinstance(high, int)
        if is_whole and high - low < 3:
            continue  # every other value of so few is a bound
        scale = math.log if record.settings.get(prefix + "log") else float
        values = [row["parameters"][name] for row in best if name in row["parameters"]]
        places = [(scale(value) - scale(low)) / (scale(high) - scale(low)) for value in values]
        for end, at in (("low", sum(p <= EDGE for p in places)), ("high", sum(p >= 1 - EDGE for p in places))):
            if at >= max(2, len(places) / 2):
                bound = low if end == "low" else high
                seen = f"{at} of {len(places)} winners have {name} at its bound {bound:g}"
                yield HealthFinding(system, "bounds", seen, f"move {prefix}{end} beyond {bound:g}")


def _idle(system: str, record: SweepRecord) -> Iterator[HealthFinding]:
    by_name: dict[str, list[float]] = defaultdict(list)
    for row in record.importances:
        if row["system"] == system:
            by_name[row["parameter"]].append(row["value"])
    idle = sorted(name for name, values in by_name.items() if mean(values) < IDLE and max(values) < 3 * IDLE)
    if by_name:
        seen = f"without effect on dev (importance under {IDLE:g}): {', '.join(idle) or 'none'}"
        advice = f"fix {', '.join(idle)}: fewer dimensions make better use of as many trials"
        yield HealthFinding(system, "dimensions", seen, advice if idle and len(idle) < len(by_name) else "")


def _failures(system: str, trials: Sequence[dict[str, Any]]) -> Iterator[HealthFinding]:
    failed = [row for row in trials if row["status"] == "failed"]
    ended = [row for row in trials if row["status"] != "running"]
    if not failed:
        return
    shares = []
    for name, value in sorted({(n, str(v)) for row in failed for n, v in row["parameters"].items()}):
        with_value = [row for row in ended if str(row["parameters"].get(name)) == value]
        bad = sum(row["status"] == "failed" for row in with_value)
        rest = (len(failed) - bad) / max(1, len(ended) - len(with_value))
        if bad >= 2 and bad / len(with_value) > 2 * rest:
            shares.append((bad / len(with_value), f"{name}={value} ({bad} of {len(with_value)})"))
    reason, count = Counter(str(row["reason"]) for row in failed).most_common(1)[0]
    seen = f"{len(failed)} of {len(ended)} failed, {count} of them: {reason[:160]}"
    worst = ", ".join(text for _, text in sorted(shares, reverse=True)[:3])
    yield HealthFinding(
        system, "failures", seen, f"mostly with {worst}: leave that out" if worst else "see the reasons below"
    )


def _epochs(
    system: str, sweep: SweepTables, trials: Sequence[dict[str, Any]], complete: Sequence[dict[str, Any]]
) -> Iterator[HealthFinding]:
    counts: Counter[str] = Counter()
    chosen: dict[tuple[str, str, int], float] = {}
    for row in sorted(complete, key=lambda row: row["trial"]):
        counts[row["study"]] += 1
        if counts[row["study"]] <= _MOST_TRIALS:
            chosen[system, row["study"], row["trial"]] = row["values"][0]
    columns = ["system", "study", "trial", "seed", "fold", "phase", "epoch", "dev_uar", "entropy"]
    of_units: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for piece in sweep.read_trials("epochs", set(chosen), columns, pc.field("seed") == 0):
        for row in piece.to_pylist():
            of_units[row["phase"], row["study"], row["trial"], row["fold"]].append(row)
    rises, falls, supernet = [], [], defaultdict(list)
    for (phase, study, trial, _), rows in of_units.items():
        rows.sort(key=lambda row: row["epoch"])
        dev = [row["dev_uar"] for row in rows if row["dev_uar"] is not None]
        quarter = len(dev) // 4
        if phase == "train" and quarter:
            rises.append(mean(dev[-quarter:]) - mean(dev[-2 * quarter : -quarter]))
        entropies = [row["entropy"] for row in rows if row["entropy"] is not None]
        if phase == "search" and len(entropies) > 1 and entropies[0] > 0:
            falls.append(1 - entropies[-1] / entropies[0])
            if dev:
                supernet[study].append((dev[-1], chosen[system, study, trial]))
    if rises:
        seen = f"dev UAR still changes by {format_cell(mean(rises), 'difference')} in the last quarter of a training"
        advice = "train for longer: training.epochs"
        yield HealthFinding(system, "learning curves", seen, advice if mean(rises) > RISING else "")
    if falls:
        seen = f"the alphas' entropy falls by {100 * mean(falls):.0f} % from the first to the last epoch of a search"
        advice = "the alphas hardly move: raise search.alpha_learning_rate or search.epochs"
        yield HealthFinding(system, "alphas", seen, advice if mean(falls) < MOVED else "")
    known = [rank for pairs in supernet.values() if not math.isnan(rank := rank_correlation(pairs))]
    if known:
        seen = f"rank correlation of supernet and derived network on dev {format_cell(mean(known), 'difference')}"
        advice = "the supernet's figure says little of what is derived: do not prune by it"
        yield HealthFinding(
            system, "supernet", f"{seen}, mean over {len(known)} studies", advice if mean(known) < 0.2 else ""
        )


def _pruning(system: str, sweep: SweepTables, trials: Sequence[dict[str, Any]]) -> Iterator[HealthFinding]:
    pruned = [row for row in trials if row["status"] == "pruned"]
    if not pruned:
        return
    rungs = sweep.table("rungs", ["system", "study", "trial", "fraction", "value", "pruned"]).to_pylist()
    own = [row for row in rungs if row["system"] == system]
    stops = {(row["study"], row["trial"]): row["fraction"] for row in own if row["pruned"]}
    saved = sum(1 - stops.get((row["study"], row["trial"]), 1.0) for row in pruned)
    finals = {(row["study"], row["trial"]): row["values"][0] for row in trials if row["status"] == "complete"}
    pairs = [
        (row["value"], finals[row["study"], row["trial"]]) for row in own if (row["study"], row["trial"]) in finals
    ]
    rank = rank_correlation(pairs)
    seen = f"{len(pruned)} of {len(trials)} configurations pruned, which saved about {saved:.1f} whole ones"
    if not math.isnan(rank):
        seen += f"; of those that went on, rungs and end agree by {format_cell(rank, 'difference')} (rank correlation)"
    yield HealthFinding(system, "pruning", seen, "it cuts by noise: a later first rung, or none" if rank < WEAK else "")


def _time(sweep: SweepTables) -> Iterator[HealthFinding]:
    # One row a unit: each has one dev part; without dev parts the rows of one of its test sets.
    final = (pc.field("stage") == "final") & pc.field("condition").is_null()
    table = sweep.table("folds", _SECONDS, final & (pc.field("role") == "dev"), with_inner=True)
    if not len(table):
        table = sweep.table("folds", _SECONDS, final & (pc.field("role") == "test"))
    search, train = (pc.sum(table[name]).as_py() or 0 for name in _SECONDS[1:])
    if search + train == 0:
        return
    seen = f"{(search + train) / 3600:.2f} hours of units, {100 * search / (search + train):.0f} % of them searching"
    places = table.group_by("place").aggregate([(name, "mean") for name in _SECONDS[1:]]).to_pylist()
    known = sorted(
        (row["place"], sum(row[f"{name}_mean"] or 0 for name in _SECONDS[1:])) for row in places if row["place"]
    )
    if len(known) > 1:
        seen += "; s a unit: " + ", ".join(f"{place} {seconds:.0f}" for place, seconds in known)
    yield HealthFinding("all", "time", seen)


def _read_trials(sweep: SweepTables) -> list[dict[str, Any]]:
    """Configurations of the first seed, evenly spaced ones of very many, with their parameters."""
    columns = ["system", "study", "trial", "parameters", "status", "values", "reason"]
    table = sweep.table("trials", columns, pc.field("seed") == 0)
    rows: list[dict[str, Any]] = table.take(evenly_spaced(len(table), _MOST_READ)).to_pylist()
    return [{**row, "parameters": json.loads(row["parameters"])} for row in rows]
