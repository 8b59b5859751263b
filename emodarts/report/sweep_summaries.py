"""The headline figures of a sweep as a terminal shows them, recomputed from its predictions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from emodarts.records import LATE_DEV
from emodarts.report.notices import comparability_notices
from emodarts.report.report_data import EvaluationPart, ReportData, SweepRecord, SystemResults, load_report_data
from emodarts.results.reader import Results
from emodarts.results.statistics import Metrics, Spread, compute_metrics, majority, mean_metrics, spread


@dataclass(frozen=True)
class FoldSummary:
    """A fold's winner (by dev) and its figures on one test set, means over the winner's seeds."""

    fold: int
    trial: int
    seeds: int
    dev_uar: float | None  # of the first seed; None: the protocol has no dev part
    test: Metrics
    n: int


@dataclass(frozen=True)
class SystemSummary:
    """A system on one test set, fold by fold and all folds pooled."""

    results: SystemResults
    part: EvaluationPart
    folds: tuple[FoldSummary, ...]
    pooled: Metrics
    majority: Metrics  # of the answer that is always the most frequent class of the test

    @property
    def chance(self) -> float:
        """The UAR of guessing."""
        return 1 / len(self.results.classes)

    @property
    def dev_uar(self) -> Spread | None:
        """Over folds; None without a dev part."""
        values = [fold.dev_uar for fold in self.folds if fold.dev_uar is not None]
        return spread(values) if values else None

    def over_folds(self, metric: str) -> Spread:
        """Of a test figure: uar, war or macro_f1."""
        return spread([getattr(fold.test, metric) for fold in self.folds])


@dataclass(frozen=True)
class CrossCorpusSummary:
    """A system on all of another corpus: figures of each fold's winner, then the mean over these models."""

    results: SystemResults
    part: EvaluationPart
    n: int
    uar: Spread
    war: float
    macro_f1: float


@dataclass(frozen=True)
class SweepSummary:
    """All systems of a sweep on its test sets and on other corpora, and what is missing or failed."""

    record: SweepRecord
    systems: tuple[SystemSummary, ...]
    cross_corpus: tuple[CrossCorpusSummary, ...]
    counts: Counter[str]  # status -> configurations
    notices: tuple[str, ...]


def summarise(results: Results) -> list[SweepSummary]:
    """A summary of each sweep."""
    return summarise_sweeps(load_report_data(results))


def summarise_sweeps(data: ReportData) -> list[SweepSummary]:
    """The same of what was read already."""
    return [_summarise(record, [s for s in data.systems if s.sweep == record.sweep]) for record in data.sweeps]


def _summarise(record: SweepRecord, systems: Sequence[SystemResults]) -> SweepSummary:
    counts: Counter[str] = Counter()
    for (_, status), number in record.statuses.items():
        counts[status] += number
    # What no dev part chose stands in a table of its own (`published_protocol`), and never beside these.
    clean = [system for system in systems if system.epoch_rule == LATE_DEV]
    return SweepSummary(
        record,
        tuple(_summarise_system(system, part) for system in clean for part in system.parts("test")),
        tuple(_summarise_cross(system, part) for system in clean for part in system.parts("cross")),
        counts,
        tuple(comparability_notices(systems)),
    )


def _summarise_system(system: SystemResults, part: EvaluationPart) -> SystemSummary:
    pooled = system.pooled(part)
    metrics = [system.by_fold(part, name) for name in ("uar", "war", "macro_f1")]
    folds = []
    for fold in system.folds_of(part):
        rows = system.rows_of(part, fold)
        dev = [r["uar"] for p in system.parts("dev") for r in system.rows_of(p, fold) if r["seed"] == 0]
        test = Metrics(*(values[fold] for values in metrics))
        trial = system.winners[fold].trial
        folds.append(FoldSummary(fold, trial, len(rows), dev[0] if dev else None, test, rows[0]["n"]))
    constant = compute_metrics(majority(pooled[0]).confusion())
    return SystemSummary(system, part, tuple(folds), mean_metrics(pooled), constant)


def _summarise_cross(system: SystemResults, part: EvaluationPart) -> CrossCorpusSummary:
    uar, war, macro_f1 = (spread([*system.by_fold(part, name).values()]) for name in ("uar", "war", "macro_f1"))
    return CrossCorpusSummary(system, part, system.rows_of(part)[0]["n"], uar, war.mean, macro_f1.mean)
