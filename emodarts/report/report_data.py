"""What a report rests on: the winners of all sweeps, their rows, and their predictions counted by speaker.

Of configurations that were not chosen only the trial and the size are read.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from emodarts.audit.facts import corpus_facts
from emodarts.errors import EmodartsError
from emodarts.records import SHARED_STUDY
from emodarts.results.ensembles import DEFAULT_TOP, Ensemble, EnsembleEvaluation, evaluate_ensembles, stored_ensembles
from emodarts.results.reader import Results, SweepTables
from emodarts.results.statistics import Tally, pooled
from emodarts.results.sweep_file import settings_of
from emodarts.results.winners import Winner, first_of_studies, rank_configurations

UNKNOWN = "(unknown)"  # utterances of unknown speakers count as those of one
_COUNTED = [
    *("system", "study", "trial", "seed", "fold", "epoch_rule"),
    *("role", "test_set", "normalisation", "speaker", "label", "predicted"),
]
_GROUP = ("system", "protocol", "classes", "train_corpora", "epoch_rule")


class EvaluatedUnit(NamedTuple):
    """What names a unit of one sweep, and the rule by which the epoch of its network was chosen."""

    system: str
    study: str
    trial: int
    fold: int
    seed: int
    epoch_rule: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "EvaluatedUnit":
        """That of a row of `folds` or `predictions`."""
        return cls(*(row[name] for name in cls._fields))


@dataclass(frozen=True)
class EvaluationPart:
    """What predictions are of: a role of a fold, a test set, and whose statistics normalised the features."""

    role: str
    test_set: str
    normalisation: str = "train"

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "EvaluationPart":
        """That of a row of `folds` or `predictions`."""
        return cls(row["role"], row["test_set"], row["normalisation"])


Tallies = dict[EvaluationPart, Tally]


@dataclass(frozen=True)
class SystemResults:
    """A system of a sweep under one protocol: the winner of each fold, its rows of `folds`, and its predictions.

    `tallies`: part -> (fold, seed) -> counts by speaker, where there are labels. `source`: the sweep whose genotypes
    were taken, or None. `shared`: one study chose for all folds. Of an ensemble the rows are those of `ensembles`, and
    a fold's winner is its first member, with the ensemble's own dev UAR.
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
    def is_ensemble(self) -> bool:
        """Whether its predictions are means over trials."""
        return "n_members" in self.rows[0]

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that have a winner with rows."""
        return tuple(sorted({fold for fold, _ in self.hashes}))

    @property
    def corpora_name(self) -> str:
        """The training corpora in one word."""
        return "+".join(self.train_corpora)

    def parts(self, role: str) -> list[EvaluationPart]:
        """Its parts of a role that have figures."""
        return sorted((part for part in self.tallies if part.role == role), key=lambda p: (p.test_set, p.normalisation))

    def folds_of(self, part: EvaluationPart) -> list[int]:
        """The folds that have figures of a part."""
        return sorted({fold for fold, _ in self.tallies[part]})

    def seeds(self, part: EvaluationPart) -> tuple[int, ...]:
        """Seeds that every fold with this part has: a figure over some of the folds would be another figure."""
        units = self.tallies.get(part, {})
        folds = {fold for fold, _ in units}
        return tuple(s for s in sorted({s for _, s in units}) if all((fold, s) in units for fold in folds))

    def pooled(self, part: EvaluationPart) -> list[Tally]:
        """A tally a seed, all folds pooled (`pool`)."""
        units, folds = self.tallies[part], self.folds_of(part)
        return [self.pool([units[fold, seed] for fold in folds]) for seed in self.seeds(part)]

    def pool(self, tallies: Sequence[Tally]) -> Tally:
        """The tallies of all folds as one.

        Where corpora with fewer folds are joined to one with more, they are tested again by further folds' models: each
        of their speakers then counts once, by the mean over these models.
        """
        is_joined = len(self.train_corpora) > 1 and "/joined" in self.protocol
        return pooled(_count_speakers_once(tallies) if is_joined else tallies)

    def models(self, part: EvaluationPart) -> list[Tally]:
        """A tally a fold model and seed, as role `cross` is counted."""
        units, seeds = self.tallies[part], self.seeds(part)
        return [units[fold, seed] for fold, seed in sorted(units) if seed in seeds]

    def rows_of(self, part: EvaluationPart, fold: int | None = None) -> list[dict[str, Any]]:
        """Its rows of a part, of all folds or one, by fold and seed; of those seeds that every fold has."""
        seeds = self.seeds(part)
        rows = [
            r for r in self.rows if EvaluationPart.of(r) == part and r["seed"] in seeds and fold in (None, r["fold"])
        ]
        return sorted(rows, key=lambda r: (r["fold"], r["seed"]))

    def by_fold(self, part: EvaluationPart, column: str) -> dict[int, float]:
        """Fold -> a column of its rows of a part, the mean over seeds."""
        values: dict[int, list[float]] = defaultdict(list)
        for row in self.rows_of(part):
            values[row["fold"]].append(row[column])
        return {fold: mean(of_seeds) for fold, of_seeds in values.items()}

    @property
    def dev_tallies(self) -> list[Tally]:
        """A tally a seed of the dev parts, all folds pooled; none where a protocol has no dev part."""
        return [tally for part in self.parts("dev") for tally in self.pooled(part)]


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as a whole: how its configurations ended, what its data were, and its settings by dotted name."""

    sweep: str
    path: str
    settings: dict[str, Any]
    statuses: dict[tuple[str, str], int]  # (system, status) -> configurations
    retries: int
    failures: tuple[str, ...]
    corpora: tuple[dict[str, Any], ...]
    importances: tuple[dict[str, Any], ...]

    @classmethod
    def read(cls, sweep: SweepTables) -> "SweepRecord":
        """Read it. Raises EmodartsError for files that are none."""
        trials = sweep.table("trials", ["system", "status", "retries"])
        counts = trials.group_by(["system", "status"]).aggregate([([], "count_all")]).to_pylist()
        failed = sweep.table(
            "trials", ["system", "study", "trial", "reason"], pc.field("status") == "failed"
        ).to_pylist()
        return cls(
            sweep.name,
            sweep.path,
            settings_of(sweep.storage, sweep.name),
            {(row["system"], row["status"]): row["count_all"] for row in counts},
            pc.sum(trials["retries"]).as_py() or 0,
            tuple(f"{t['system']}, {t['study']} trial {t['trial']}: {t['reason']}" for t in failed),
            tuple(sweep.table("corpora").to_pylist()),
            tuple(sweep.table("importances").to_pylist()),
        )


@dataclass(frozen=True)
class ReportData:
    """All systems and sweeps, in the order in which the results were named."""

    results: Results
    winners: tuple[Winner, ...]
    systems: tuple[SystemResults, ...]
    sweeps: tuple[SweepRecord, ...]
    rankings: dict[str, pa.Table]  # sweep -> `rank_configurations`

    @property
    def system_names(self) -> tuple[str, ...]:
        """Names of the systems, the searched one first, and of ensembles."""
        names = {(s.is_ensemble, s.system != "emodarts", s.system) for s in self.systems}
        return tuple(dict.fromkeys(name for _, _, name in sorted(names)))

    def colour_number(self, system: SystemResults) -> int:
        """The number of a system's colour; with genotypes from elsewhere it has its own."""
        names = self.system_names
        return names.index(system.system) + (0 if system.source is None else len(names))

    def sweep_record(self, sweep: str) -> SweepRecord:
        """The sweep of a name."""
        return next(record for record in self.sweeps if record.sweep == sweep)

    def winner_rows(self, table: str, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of the winners' first seed in a unit table; `sweep` is among the columns."""
        rows: list[dict[str, Any]] = []
        for sweep in self.results.parts:
            keys = {winner.key for winner in self.winners if winner.sweep == sweep.name}
            needed = sorted({*columns, "system", "study", "trial", "seed"})
            for piece in sweep.read_trials(table, keys, needed, pc.field("seed") == 0):
                rows += [{**row, "sweep": sweep.name} for row in piece.to_pylist()]
        return rows


def facts_of(corpus: dict[str, Any]) -> tuple[str, str]:
    """Language and licence of a row of the table `corpora`: from its audit, else as this version knows them."""
    audit = json.loads(corpus["audit"]) if corpus["audit"] else {}
    known = corpus_facts(corpus["corpus"])
    return audit.get("language") or known[0], audit.get("licence") or known[1]


def load_report_data(results: Results, top: int | None = None, ensemble: Sequence[str] = ()) -> ReportData:
    """Read what a report needs. Raises EmodartsError for files that are none, and sweeps of one name that differ.

    `top`: members of an ensemble in each study, 0 for none; None: as many as the sweep's table `ensembles` has, else 5.
    `ensemble`: systems whose members also make one together; none: as that table has it.
    """
    doubled = [name for name, count in Counter(results.sweeps).items() if count > 1]
    if doubled:
        raise EmodartsError(
            f"the results hold several sweeps named {', '.join(doubled)}: their rows could not be told apart; report "
            "on one of them, or rename a copy's folder and its sweep column"
        )
    rankings = {sweep.name: rank_configurations(sweep) for sweep in results.parts}
    winners = {sweep.name: first_of_studies(sweep, rankings[sweep.name]) for sweep in results.parts}
    systems = [s for sweep in results.parts for s in read_systems(sweep, {w.key: w for w in winners[sweep.name]})]
    for sweep in results.parts:
        stored_top, stored_systems = stored_ensembles(sweep) or (DEFAULT_TOP, ())
        chosen = stored_top if top is None else top, ensemble or stored_systems
        systems += _group_ensembles(sweep.name, list(evaluate_ensembles(sweep, *chosen, rankings[sweep.name])))
    sweeps = tuple(map(SweepRecord.read, results.parts))
    return ReportData(results, tuple(w for ws in winners.values() for w in ws), tuple(systems), sweeps, rankings)


def read_systems(sweep: SweepTables, winners: dict[tuple[str, str, int], Winner]) -> Iterator[SystemResults]:
    """The systems of a sweep with these configurations (by system, study and trial) for their winners."""
    final = (pc.field("stage") == "final") & pc.field("condition").is_null()
    rows = [row for piece in sweep.read_trials("folds", set(winners), None, final) for row in piece.to_pylist()]
    tallies = count_predictions(sweep, set(winners), {EvaluatedUnit.of(row): tuple(row["classes"]) for row in rows})
    return _group_rows(sweep.name, rows, tallies, winners)


def _group_ensembles(sweep: str, evaluations: Sequence[EnsembleEvaluation]) -> Iterator[SystemResults]:
    tallies: dict[EvaluatedUnit, Tallies] = defaultdict(dict)
    dev_uars: dict[Ensemble, list[float]] = defaultdict(list)
    for e in evaluations:
        predictions, classes = e.evaluation, tuple(e.row["classes"])
        labelled = [i for i, label in enumerate(predictions.labels) if label is not None]
        speakers = [predictions.speakers[i] or UNKNOWN for i in labelled]
        labels = [classes.index(str(predictions.labels[i])) for i in labelled]
        if labelled:
            predicted = predictions.probabilities[labelled].argmax(1)
            tally = Tally.of(speakers, labels, predicted, len(classes))
            tallies[EvaluatedUnit.of(e.row)][EvaluationPart.of(e.row)] = tally
        if predictions.role == "dev" and e.row["seed"] == 0:
            dev_uars[e.ensemble].append(e.row["uar"])
    first_members = {
        (e.system, e.study, None): Winner(sweep, e.system, e.study, e.members[0][2], mean(uars), {}, len(e.members))
        for e, uars in dev_uars.items()
    }
    return _group_rows(sweep, [e.row for e in evaluations], tallies, first_members)


def _group_rows(
    sweep: str, rows: Sequence[dict[str, Any]], tallies: Mapping[EvaluatedUnit, Tallies], winners: Mapping[Any, Winner]
) -> Iterator[SystemResults]:
    """The systems of rows of `folds` or `ensembles`; `winners` by system, study and trial."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        group = [tuple(value) if isinstance(value := row[name], list) else value for name in _GROUP]
        source = None if row["genotype_from"] is None else row["genotype_from"].split("/")[0]
        groups[(*group, row["study"] == SHARED_STUDY, source)].append(row)
    for (system, protocol, classes, corpora, rule, shared, source), members in sorted(groups.items(), key=str):
        by_part: dict[EvaluationPart, dict[tuple[int, int], Tally]] = defaultdict(dict)
        for unit in {EvaluatedUnit.of(row) for row in members}:
            for part, tally in tallies.get(unit, {}).items():
                by_part[part][unit.fold, unit.seed] = tally
        best = {row["fold"]: winners[row["system"], row["study"], row["trial"]] for row in members}
        caveat = members[0]["protocol_caveat"]
        about = (sweep, system, protocol, caveat, classes, corpora, rule, source, shared)
        yield SystemResults(*about, best, tuple(members), dict(by_part))


def _count_speakers_once(tallies: Sequence[Tally]) -> list[Tally]:
    """The same with the counts of a speaker divided by the number of tallies that hold it."""
    times = Counter(speaker for tally in tallies for speaker in tally.speakers)
    times[UNKNOWN] = 1  # many speakers under one name, who are not tested again
    fractions = [np.array([1 / times[speaker] for speaker in tally.speakers]) for tally in tallies]
    return [Tally(t.speakers, t.counts * part[:, None, None]) for t, part in zip(tallies, fractions, strict=True)]


def count_predictions(
    sweep: SweepTables,
    trials: set[tuple[str, str, int]],
    classes: Mapping[EvaluatedUnit, tuple[str, ...]],
    condition: str | None = None,
) -> dict[EvaluatedUnit, Tallies]:
    """The labelled predictions of some configurations' units, counted by speaker for each part.

    `classes` of each unit; `condition`: on recordings that were made noisy, say, instead of those as they are. Raises
    EmodartsError for predictions of another unit, or of a class that it has not.
    """
    is_counted = (pc.field("stage") == "final") & pc.field("label").is_valid()
    is_counted &= pc.field("condition").is_null() if condition is None else pc.field("condition") == condition
    counts: dict[EvaluatedUnit, dict[EvaluationPart, dict[str, NDArray[np.float64]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for piece in sweep.read_trials("predictions", trials, _COUNTED, is_counted):
        for row in piece.group_by(_COUNTED).aggregate([([], "count_all")]).to_pylist():
            unit = EvaluatedUnit.of(row)
            if unit not in classes:
                raise EmodartsError(f"sweep '{sweep.name}': {unit} has predictions and no row in folds; restore them")
            names = classes[unit]
            label, predicted = (_class_index(row, column, names, sweep.name) for column in ("label", "predicted"))
            by_speaker = counts[unit][EvaluationPart.of(row)]
            matrix = by_speaker.setdefault(row["speaker"] or UNKNOWN, np.zeros((len(names), len(names))))
            matrix[label, predicted] += row["count_all"]
    return defaultdict(dict, {u: {p: _tally(m) for p, m in parts.items()} for u, parts in counts.items()})


def _class_index(row: Mapping[str, Any], column: str, classes: tuple[str, ...], sweep: str) -> int:
    if row[column] not in classes:
        name = row[column]
        raise EmodartsError(f"sweep '{sweep}': {column} {name} in the predictions is none of {', '.join(classes)}")
    return classes.index(row[column])


def _tally(by_speaker: dict[str, NDArray[np.float64]]) -> Tally:
    speakers = tuple(sorted(by_speaker))
    return Tally(speakers, np.stack([by_speaker[speaker] for speaker in speakers]))
