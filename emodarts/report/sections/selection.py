"""Section "What selection is worth": the nested choice beside a shared one, among the same configurations."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emodarts.records import LATE_DEV, SHARED_STUDY, fold_study
from emodarts.report.elements import Paragraph, Section
from emodarts.report.report_data import (
    EvaluatedUnit,
    EvaluationPart,
    ReportData,
    SystemResults,
    Tallies,
    count_predictions,
)
from emodarts.report.tables import Cell, ReportTable, head
from emodarts.results.reader import SweepTables
from emodarts.results.statistics import Difference, Tally, holm, nested_choice, optimism, shared_choice
from emodarts.results.statistics.tallies import Floats

_COLUMNS = head(
    "sweep | system | tested on | configurations: count | chosen for each fold: figure | "
    "chosen for all folds: figure | optimism [95 %]: difference | p (Holm): p | sampler"
)
_LEAST = 2  # configurations and folds


def selection_section(data: ReportData) -> Section | None:
    """The optimism of a shared choice; None where no two configurations were run on all folds."""
    gains: list[tuple[tuple[Cell, ...], Difference, str]] = []
    for sweep in data.results.parts:
        settings = data.sweep_record(sweep.name).settings
        if settings.get("sweep.inner"):  # only the best ran on the folds' own dev parts, which chose nothing
            continue
        sampler = str(settings.get("sweep.sampler", "unknown"))
        for system in data.systems:
            is_chosen = system.source is None and not system.is_ensemble
            if system.sweep == sweep.name and system.epoch_rule == LATE_DEV and is_chosen:
                gains += [(about, gain, sampler) for about, gain in _optimism_rows(system, sweep)]
    if not gains:
        return None
    text = (
        "Among configurations that were run on every fold: the best on each fold's own dev part (nested), and the one "
        "with the best mean over the dev parts of all folds (shared), which has seen every test speaker as a dev "
        "speaker of another fold. The optimism is what that gains on test, first seed. Samplers other than random have "
        "seen dev figures in what they propose, too."
    )
    corrected = holm([gain.p for _, gain, _ in gains])
    rows = tuple((*about, gain, p, sampler) for (about, gain, sampler), p in zip(gains, corrected, strict=True))
    table = ReportTable("selection", "Optimism", _COLUMNS, rows)
    return Section("What selection is worth", (Paragraph(text), table))


def _optimism_rows(system: SystemResults, sweep: SweepTables) -> Iterator[tuple[tuple[Cell, ...], Difference]]:
    """A row and its optimism a test set; none with too few configurations or folds."""
    trials, dev, sizes = _read_dev(system, sweep)
    if min(dev.shape) < _LEAST:
        return
    nested = [int(trials[i]) for i in nested_choice(dev, sizes.tolist())]
    shared = [int(trials[shared_choice(dev, sizes.tolist())])] * len(nested)
    choices = [_units(system, numbers) for numbers in (nested, shared)]
    keys = {(unit.system, unit.study, unit.trial) for units in choices for unit in units}
    tallies = count_predictions(sweep, keys, _read_classes(sweep, keys))
    for part in system.parts("test"):
        honest, other = (_pool(tallies, system, units, part) for units in choices)
        gain = optimism([other], [honest])
        yield (sweep.name, system.system, part.test_set, len(trials), honest.uar(), other.uar()), gain


def _units(system: SystemResults, trials: Sequence[int]) -> list[EvaluatedUnit]:
    """The units of a configuration for each fold, first seed."""
    studies = [SHARED_STUDY if system.shared else fold_study(fold) for fold in system.folds]
    choice = zip(studies, trials, system.folds, strict=True)
    return [EvaluatedUnit(system.system, study, trial, fold, 0, system.epoch_rule) for study, trial, fold in choice]


def _read_dev(system: SystemResults, sweep: SweepTables) -> tuple[Floats, Floats, Floats]:
    """The configurations that every fold has, alike: numbers `(n,)`, dev UAR `(n, folds)`, parameters `(n,)`."""
    of_system = (pc.field("system") == system.system) & (pc.field("seed") == 0)
    is_dev = (pc.field("role") == "dev") & (pc.field("stage") == "final") & (pc.field("protocol") == system.protocol)
    rows = sweep.table("folds", ["study", "trial", "fold", "uar", "parameters"], of_system & is_dev)
    rows = rows.filter(pc.equal(pc.equal(rows["study"], SHARED_STUDY), system.shared))
    rows = rows.filter(pc.is_in(rows["fold"], pa.array(system.folds, pa.int32())))
    whole = rows.group_by("trial").aggregate([("fold", "count_distinct"), ("parameters", "mean")])
    whole = whole.filter(pc.equal(whole["fold_count_distinct"], len(system.folds)))
    configurations = sweep.table("trials", ["trial", "parameters"], of_system).group_by("trial")
    distinct = configurations.aggregate([("parameters", "count_distinct")])
    alike = distinct.filter(pc.equal(distinct["parameters_count_distinct"], 1))["trial"]
    whole = whole.filter(pc.is_in(whole["trial"], alike.combine_chunks())).sort_by("trial")
    numbers = np.asarray(whole["trial"])
    rows = rows.filter(pc.is_in(rows["trial"], whole["trial"].combine_chunks()))
    dev = np.full((len(numbers), len(system.folds)), np.nan)
    cells = np.searchsorted(numbers, np.asarray(rows["trial"])), np.searchsorted(system.folds, np.asarray(rows["fold"]))
    dev[cells] = np.asarray(rows["uar"])
    return numbers, dev, np.asarray(whole["parameters_mean"])


def _read_classes(sweep: SweepTables, trials: set[tuple[str, str, int]]) -> dict[EvaluatedUnit, tuple[str, ...]]:
    pieces = sweep.read_trials("folds", trials, [*EvaluatedUnit._fields, "classes"], pc.field("stage") == "final")
    return {EvaluatedUnit.of(row): tuple(row["classes"]) for piece in pieces for row in piece.to_pylist()}


def _pool(
    tallies: dict[EvaluatedUnit, Tallies], system: SystemResults, units: Sequence[EvaluatedUnit], part: EvaluationPart
) -> Tally:
    return system.pool([tallies[unit][part] for unit in units if part in tallies[unit]])
