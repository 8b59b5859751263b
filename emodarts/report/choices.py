"""What selection is worth: the nested choice beside a shared one, among the same configurations of the same sweep."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emodarts.records import LATE_DEV, SHARED_STUDY, fold_study
from emodarts.report.report_data import Entry, EvaluationPart, ReportData, tallies_of, unit_of
from emodarts.report.sections import Paragraph, Section
from emodarts.report.sheets import Cell, Column, Sheet
from emodarts.results.reader import SweepTables
from emodarts.results.statistics import Tally, nested_choice, optimism, shared_choice
from emodarts.results.statistics.tallies import Floats

_COLUMNS = (
    Column("sweep"),
    Column("system"),
    Column("tested on"),
    Column("configurations", "count"),
    Column("chosen for each fold", "figure"),
    Column("chosen for all folds", "figure"),
    Column("optimism [95 %]", "difference"),
    Column("p", "p"),
    Column("sampler"),
)
_LEAST = 2  # configurations and folds


def selection_section(evidence: ReportData) -> Section | None:
    """The optimism of a shared choice; None where no two configurations were run on all folds."""
    rows: list[tuple[Cell, ...]] = []
    for part in evidence.results.parts:
        (course,) = (c for c in evidence.courses if c.sweep == part.name)
        sampler = str(course.settings.get("sweep.sampler", "unknown"))
        for entry in evidence.entries:
            if entry.sweep == part.name and entry.epoch_rule == LATE_DEV and entry.source is None:
                rows += [(*row, sampler) for row in _rows(entry, part)]
    if not rows:
        return None
    told = (
        "Among configurations that were run on every fold: the best on each fold's own dev part (nested), and the one "
        "with the best mean over the dev parts of all folds (shared), which has seen every test speaker as a dev "
        "speaker of another fold. The optimism is what that gains on test, first seed. Samplers other than random have "
        "seen dev figures in what they propose, too."
    )
    return Section("What selection is worth", (Paragraph(told), Sheet("selection", "Optimism", _COLUMNS, tuple(rows))))


def _rows(entry: Entry, part: SweepTables) -> Iterator[tuple[Cell, ...]]:
    trials, dev, sizes = _dev(entry, part)
    if min(dev.shape) < _LEAST:
        return
    nested, shared = nested_choice(dev, sizes.tolist()), shared_choice(dev, sizes.tolist())
    folds = entry.folds
    study = (lambda fold: SHARED_STUDY) if entry.shared else fold_study
    ours = [(study(fold), int(trials[i]), fold) for fold, i in zip(folds, nested, strict=True)]
    theirs = [(study(fold), int(trials[shared]), fold) for fold in folds]
    keys = {(entry.system, s, t) for s, t, _ in (*ours, *theirs)}
    found = tallies_of(part, keys, _classes(part, keys))
    for about in entry.parts("test"):
        honest, other = (_pooled(found, entry, chosen, about) for chosen in (ours, theirs))
        gain = optimism([other], [honest])
        yield part.name, entry.system, about.test_set, len(trials), honest.uar(), other.uar(), gain, gain.p


def _dev(entry: Entry, sweep: SweepTables) -> tuple[Floats, Floats, Floats]:
    """The configurations that every fold has, alike: numbers `(n,)`, dev UAR `(n, folds)`, parameters `(n,)`."""
    mine = (pc.field("system") == entry.system) & (pc.field("seed") == 0)
    part = (pc.field("role") == "dev") & (pc.field("stage") == "final") & (pc.field("protocol") == entry.protocol)
    rows = sweep.table("folds", ["study", "trial", "fold", "uar", "parameters"], mine & part)
    rows = rows.filter(pc.equal(pc.equal(rows["study"], SHARED_STUDY), entry.shared))
    rows = rows.filter(pc.is_in(rows["fold"], pa.array(entry.folds, pa.int32())))
    whole = rows.group_by("trial").aggregate([("fold", "count_distinct"), ("parameters", "mean")])
    whole = whole.filter(pc.equal(whole["fold_count_distinct"], len(entry.folds)))
    given = sweep.table("trials", ["trial", "parameters"], mine).group_by("trial")
    alike = given.aggregate([("parameters", "count_distinct")])
    same = alike.filter(pc.equal(alike["parameters_count_distinct"], 1))["trial"]
    whole = whole.filter(pc.is_in(whole["trial"], same.combine_chunks())).sort_by("trial")
    numbers = np.asarray(whole["trial"])
    kept = rows.filter(pc.is_in(rows["trial"], whole["trial"].combine_chunks()))
    dev = np.full((len(numbers), len(entry.folds)), np.nan)
    places = np.searchsorted(numbers, np.asarray(kept["trial"])), np.searchsorted(entry.folds, np.asarray(kept["fold"]))
    dev[places] = np.asarray(kept["uar"])
    return numbers, dev, np.asarray(whole["parameters_mean"])


def _classes(part: SweepTables, keys: set[tuple[str, str, int]]) -> dict[tuple[object, ...], tuple[str, ...]]:
    columns = ["system", "study", "trial", "fold", "seed", "epoch_rule", "classes"]
    pieces = part.read_trials("folds", keys, columns, pc.field("stage") == "final")
    return {unit_of(row): tuple(row["classes"]) for piece in pieces for row in piece.to_pylist()}


def _pooled(
    found: dict[tuple[object, ...], dict[EvaluationPart, Tally]],
    entry: Entry,
    chosen: list[tuple[str, int, int]],
    about: EvaluationPart,
) -> Tally:
    units = [(entry.system, study, trial, fold, 0, entry.epoch_rule) for study, trial, fold in chosen]
    return entry.pool([found[unit][about] for unit in units if about in found[unit]])
