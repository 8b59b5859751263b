"""What a report rests on: the winners of all sweeps, their rows, and their predictions counted by speaker.

Nothing of a configuration that was not chosen is read but its trial and its size.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from emodarts.errors import EmodartsError
from emodarts.records import SHARED_STUDY
from emodarts.results.reader import Results, SweepTables
from emodarts.results.statistics import Tally, pooled
from emodarts.results.sweep_file import settings_of
from emodarts.results.winners import Winner, first_of_studies, rank_configurations

UNKNOWN = "(unknown)"  # utterances of unknown speakers count as those of one
_COUNTED = [
    *("system", "study", "trial", "seed", "fold", "epoch_rule"),
    *("role", "test_set", "normalisation", "speaker", "label", "predicted"),
]
_PLACE = ("system", "protocol", "classes", "train_corpora", "epoch_rule")


@dataclass(frozen=True)
class EvaluationPart:
    """What predictions are of: a role of a fold, a test set, and whose statistics normalised the features."""

    role: str
    test_set: str
    normalisation: str = "train"


@dataclass(frozen=True)
class Entry:
    """A system of a sweep under one protocol: the winner of each fold, its rows of `folds`, and its predictions.

    `tallies`: part -> (fold, seed) -> counts by speaker, where there are labels. `source`: the sweep whose genotypes
    were taken, or None.
    """

    sweep: str
    system: str
    protocol: str
    protocol_caveat: str | None
    classes: tuple[str, ...]
    train_corpora: tuple[str, ...]
    epoch_rule: str
    source: str | None
    shared: bool
    winners: dict[int, Winner]
    rows: tuple[dict[str, Any], ...]
    tallies: dict[EvaluationPart, dict[tuple[int, int], Tally]] = field(repr=False)

    @cached_property
    def hashes(self) -> tuple[tuple[int, str], ...]:
        """Fold and its hash; more than one of a fold where the data changed on the way."""
        return tuple(sorted({(row["fold"], row["fold_hash"]) for row in self.rows}))

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that have a winner with rows."""
        return tuple(sorted({fold for fold, _ in self.hashes}))

    def parts(self, role: str) -> list[EvaluationPart]:
        """Its parts of a role that have figures."""
        return sorted((part for part in self.tallies if part.role == role), key=lambda p: (p.test_set, p.normalisation))

    def seeds(self, part: EvaluationPart) -> tuple[int, ...]:
        """Seeds that every fold with this part has: a figure over some of the folds would be another figure."""
        found = self.tallies.get(part, {})
        folds = {fold for fold, _ in found}
        return tuple(s for s in sorted({s for _, s in found}) if all((fold, s) in found for fold in folds))

    def pooled(self, part: EvaluationPart) -> list[Tally]:
        """A tally a seed, all folds pooled (`pool`)."""
        found = self.tallies[part]
        folds = sorted({fold for fold, _ in found})
        return [self.pool([found[fold, seed] for fold in folds]) for seed in self.seeds(part)]

    def pool(self, tallies: Sequence[Tally]) -> Tally:
        """The tallies of all folds as one.

        Where corpora with fewer folds are joined to one with more, they are tested again by further folds' models: each
        of their speakers then counts once, by the mean over these models.
        """
        joined = len(self.train_corpora) > 1 and "/joined" in self.protocol
        return pooled(_once(tallies) if joined else tallies)

    def models(self, part: EvaluationPart) -> list[Tally]:
        """A tally a fold model and seed, as role `cross` is counted."""
        found = self.tallies[part]
        return [found[place] for place in sorted(found) if place[1] in self.seeds(part)]

    def rows_of(self, part: EvaluationPart, fold: int | None = None) -> list[dict[str, Any]]:
        """Its rows of a part, of all folds or one, by fold and seed; of those seeds that every fold has."""
        seeds = self.seeds(part)
        mine = [r for r in self.rows if EvaluationPart(r["role"], r["test_set"], r["normalisation"]) == part]
        mine = [r for r in mine if r["seed"] in seeds]
        return sorted((r for r in mine if fold in (None, r["fold"])), key=lambda r: (r["fold"], r["seed"]))

    @property
    def dev_tallies(self) -> list[Tally]:
        """A tally a seed of the dev parts, all folds pooled; none where a protocol has no dev part."""
        return [tally for part in self.parts("dev") for tally in self.pooled(part)]


@dataclass(frozen=True)
class SweepSummary:
    """How the units of a sweep ended, and what the data were."""

    sweep: str
    path: str
    settings: dict[str, Any]
    statuses: dict[tuple[str, str], int]  # (system, status) -> configurations
    retries: int
    failures: tuple[str, ...]
    corpora: tuple[dict[str, Any], ...]
    importances: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class ReportData:
    """All entries and courses, in the order in which the results were given."""

    results: Results
    winners: tuple[Winner, ...]
    entries: tuple[Entry, ...]
    courses: tuple[SweepSummary, ...]
    rankings: dict[str, pa.Table]  # sweep -> `winners.rank_configurations`

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of the systems, the searched one first."""
        return tuple(sorted({e.system for e in self.entries}, key=lambda name: (name != "emodarts", name)))

    def number(self, entry: Entry) -> int:
        """The number of an entry's system, by which it has its colour; with genotypes from elsewhere it has its own."""
        return self.systems.index(entry.system) + (0 if entry.source is None else len(self.systems))

    def of_winners(self, table: str, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of the winners' first seed in a unit table; `sweep` is among the columns."""
        rows: list[dict[str, Any]] = []
        for part in self.results.parts:
            mine = {w.key for w in self.winners if w.sweep == part.name}
            asked = sorted({*columns, "system", "study", "trial", "seed"})
            for piece in part.read_trials(table, mine, asked, pc.field("seed") == 0):
                rows += [{**row, "sweep": part.name} for row in piece.to_pylist()]
        return rows


def load_report_data(results: Results) -> ReportData:
    """Read what a report needs. Raises EmodartsError for files that are none, and sweeps of one name that differ."""
    doubled = [name for name, count in Counter(results.sweeps).items() if count > 1]
    if doubled:
        raise EmodartsError(
            f"the results hold several sweeps named {', '.join(doubled)}: their rows could not be told apart; report "
            "on one of them, or rename a copy's folder and its sweep column"
        )
    rankings = {part.name: rank_configurations(part) for part in results.parts}
    chosen = [w for part in results.parts for w in first_of_studies(part, rankings[part.name])]
    entries = [e for part in results.parts for e in _entries(part, {w.key: w for w in chosen if w.sweep == part.name})]
    courses = tuple(_course(part) for part in results.parts)
    return ReportData(results, tuple(chosen), tuple(entries), courses, rankings)


def _entries(part: SweepTables, chosen: dict[tuple[str, str, int], Winner]) -> Iterator[Entry]:
    final = pc.field("stage") == "final"
    rows = [row for piece in part.read_trials("folds", set(chosen), None, final) for row in piece.to_pylist()]
    classes = {unit_of(row): tuple(row["classes"]) for row in rows}
    tallies = tallies_of(part, set(chosen), classes)
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[(*(_plain(row[name]) for name in _PLACE), row["study"] == SHARED_STUDY, _source(row))].append(row)
    for (system, protocol, named, corpora, rule, shared, source), mine in sorted(groups.items(), key=str):
        counted: dict[EvaluationPart, dict[tuple[int, int], Tally]] = defaultdict(dict)
        for unit in {unit_of(row) for row in mine}:
            for about, tally in tallies[unit].items():
                counted[about][unit[3], unit[4]] = tally
        best = {r["fold"]: chosen[r["system"], r["study"], r["trial"]] for r in mine}
        protocol_caveat, kept = mine[0]["protocol_caveat"], dict(counted)
        yield Entry(
            part.name, system, protocol, protocol_caveat, named, corpora, rule, source, shared, best, tuple(mine), kept
        )


def _once(tallies: Sequence[Tally]) -> list[Tally]:
    """The same with the counts of a speaker divided by the number of tallies that hold it."""
    times = Counter(speaker for tally in tallies for speaker in tally.speakers)
    times[UNKNOWN] = 1  # many speakers under one name, who are not tested again
    shares = [np.array([1 / times[speaker] for speaker in tally.speakers]) for tally in tallies]
    return [Tally(t.speakers, t.counts * share[:, None, None]) for t, share in zip(tallies, shares, strict=True)]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _source(row: dict[str, Any]) -> str | None:
    """The sweep that a genotype was taken from."""
    return None if row["genotype_from"] is None else row["genotype_from"].split("/")[0]


def unit_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What names a unit and its epoch rule in a row: system, study, trial, fold, seed, epoch rule."""
    return tuple(row[name] for name in ("system", "study", "trial", "fold", "seed", "epoch_rule"))


def tallies_of(
    part: SweepTables, chosen: set[tuple[str, str, int]], classes: dict[tuple[Any, ...], tuple[str, ...]]
) -> dict[tuple[Any, ...], dict[EvaluationPart, Tally]]:
    """Unit (`unit_of`) -> part -> its labelled predictions, counted by speaker.

    `classes` of each unit. Raises EmodartsError for predictions of another unit, or of a class that it has not.
    """
    wanted = (pc.field("stage") == "final") & pc.field("label").is_valid()
    counts: dict[tuple[Any, ...], dict[EvaluationPart, dict[str, NDArray[np.float64]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for piece in part.read_trials("predictions", chosen, _COUNTED, wanted):
        for row in piece.group_by(_COUNTED).aggregate([([], "count_all")]).to_pylist():
            unit, about = unit_of(row), EvaluationPart(row["role"], row["test_set"], row["normalisation"])
            if unit not in classes:
                raise EmodartsError(f"sweep '{part.name}': {unit} has predictions and no row in folds; restore them")
            names = classes[unit]
            label, predicted = (_index(row[column], names, column, part.name) for column in ("label", "predicted"))
            by_speaker = counts[unit][about]
            matrix = by_speaker.setdefault(row["speaker"] or UNKNOWN, np.zeros((len(names), len(names))))
            matrix[label, predicted] += row["count_all"]
    return defaultdict(dict, {u: {a: _tally(m) for a, m in parts.items()} for u, parts in counts.items()})


def _index(name: str, classes: tuple[str, ...], column: str, sweep: str) -> int:
    if name not in classes:
        raise EmodartsError(f"sweep '{sweep}': {column} {name} in the predictions is none of {', '.join(classes)}")
    return classes.index(name)


def _tally(by_speaker: dict[str, NDArray[np.float64]]) -> Tally:
    speakers = tuple(sorted(by_speaker))
    return Tally(speakers, np.stack([by_speaker[speaker] for speaker in speakers]))


def _course(part: SweepTables) -> SweepSummary:
    trials = part.table("trials", ["system", "status", "retries"])
    counted = trials.group_by(["system", "status"]).aggregate([([], "count_all")]).to_pylist()
    columns = ["system", "study", "trial", "seed", "reason"]
    failed = part.table("trials", columns, pc.field("status") == "failed").to_pylist()
    return SweepSummary(
        part.name,
        part.path,
        settings_of(part.storage, part.name),
        {(row["system"], row["status"]): row["count_all"] for row in counted},
        pc.sum(trials["retries"]).as_py() or 0,
        tuple(f"{t['system']}, {t['study']} trial {t['trial']}: {t['reason']}" for t in failed),
        tuple(part.table("corpora").to_pylist()),
        tuple(part.table("importances").to_pylist()),
    )
