"""Which finished units of a sweep are exported: winners, chosen on dev alone, and all that the tables say of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import SVM, FoldSettings
from emodarts.experiment.unit_spec import settings_from_json
from emodarts.networks.genotype import Genotype
from emodarts.networks.network import NetworkShape
from emodarts.records import EpochRecord, TrialRecord, UnitKey, full_name, late_dev_epoch
from emodarts.results.commits import Commit
from emodarts.results.ensembles import Ensemble, evaluate_ensemble
from emodarts.results.reader import Results, SweepTables
from emodarts.results.winners import rank_configurations
from emodarts.seeds import unit_seed


@dataclass(frozen=True)
class ReportedFigures:
    """What a unit reached on one part: role dev or test, and UAR, WAR and macro-F1 (None where labels are hidden)."""

    role: str
    test_set: str
    n: int
    uar: float | None
    war: float | None
    macro_f1: float | None


@dataclass(frozen=True)
class ExportedUnit:
    """A finished unit of work: how it was made and what it reached.

    `genotype` and `shape` are None for a hand-designed network. `epoch` (from 0) is the one that dev chose.
    `dev_probabilities (utterances, classes)` are those of `dev_utterances`.
    """

    key: UnitKey
    settings: FoldSettings
    seed: int
    genotype: Genotype | None
    shape: NetworkShape | None
    epoch: int
    figures: tuple[ReportedFigures, ...]
    dev_utterances: tuple[str, ...]
    dev_probabilities: NDArray[np.float32]
    parameters: int
    macs: int
    git_revision: str | None

    @property
    def dev_uar(self) -> float:
        """UAR on dev, by which it was chosen."""
        return next(f.uar or 0.0 for f in self.figures if f.role == "dev")


def chosen_units(
    results: Results, sweep_settings: dict[str, Any], system: str | None, fold: int | None, top: int = 1
) -> list[ExportedUnit]:
    """The winner of each fold, or of one, by dev UAR, or the `top` best of each; ordered by fold, the best first.

    `results` are those of one sweep. Raises EmodartsError where a system has to be named, or nothing is finished.
    """
    trials = results.trials()
    system = _choose_system(results, trials, system)
    studies = {trial.study for trial in trials if trial.system == system}
    (sweep,) = results.parts
    ranking = rank_configurations(sweep)
    ranks: dict[str, list[int]] = {}
    for row in ranking.filter(pc.is_finite(ranking["value"])).to_pylist():
        if row["system"] == system and len(ranks.setdefault(row["study"], [])) < top:
            ranks[row["study"]].append(row["trial"])
    without_dev = {t.study for t in trials if t.system == system and t.status == "complete" and not t.values}
    if without_dev:
        raise EmodartsError(
            f"sweep '{results.sweeps[0]}': {', '.join(sorted(without_dev))} ran without dev part, so nothing of it was "
            "chosen, and nothing is exported"
        )
    commits = [
        commit
        for commit in results.commits
        if (commit.status, commit.key.system, commit.key.seed, commit.key.inner) == ("complete", system, 0, None)
        and commit.key.trial in ranks.get(commit.key.study, [])
    ]
    ended = {(commit.key.study, commit.key.trial) for commit in commits}
    judged = {
        (commit.key.study, commit.key.trial)
        for commit in results.commits
        if commit.key.system == system and commit.key.inner is not None and fold in (None, commit.key.fold)
    }
    waiting = sorted({(study, trial) for study, best in ranks.items() for trial in best} & judged - ended)
    if waiting:
        raise EmodartsError(
            f"sweep '{results.sweeps[0]}': trial {waiting[0][1]} of {waiting[0][0]} has run on inner splits alone; let "
            "the sweep go on, which trains the best on the folds' own parts, or export fewer with --top"
        )
    commits = [commit for commit in commits if fold in (None, commit.key.fold)]
    _check_choice(results, commits, sorted(studies - ranks.keys()) if fold is None else [], fold)
    commits.sort(key=lambda commit: (commit.key.fold, ranks[commit.key.study].index(commit.key.trial)))
    sweep_seed = int(sweep_settings.get("sweep.seed", 0))
    return [_read_unit(sweep, commit, sweep_seed) for commit in commits]


def ensemble_figures(results: Results, units: Sequence[ExportedUnit]) -> tuple[ReportedFigures, ...]:
    """What the mean of several units of one fold reached on its dev and test parts; of other units nothing is known."""
    first = units[0].key
    if len(units) == 1 or {unit.key.fold for unit in units} != {first.fold}:
        return ()
    members = tuple((unit.key.system, unit.key.study, unit.key.trial) for unit in units)
    (sweep,) = results.parts
    rows = [e.row for e in evaluate_ensemble(sweep, Ensemble("the ensemble", first.study, members))]
    rows = [r for r in rows if (r["fold"], r["seed"]) == (first.fold, first.seed) and r["role"] != "cross"]
    return tuple(ReportedFigures(**{field.name: row[field.name] for field in fields(ReportedFigures)}) for row in rows)


def _check_choice(results: Results, commits: list[Commit], unfinished: list[str], fold: int | None) -> None:
    where, folds = f"sweep '{results.sweeps[0]}'", {commit.key.fold for commit in commits}
    if unfinished:
        raise EmodartsError(
            f"{where}: no configuration of {', '.join(unfinished)} is finished yet; let the sweep go on, or export the "
            "winner of another fold with --fold"
        )
    if not commits:
        have = sorted(
            {commit.key.fold for commit in results.commits if (commit.status, commit.key.inner) == ("complete", None)}
        )
        which = "no fold" if fold is None else f"fold {fold}"
        finished = ", ".join(map(str, have)) or "none"
        raise EmodartsError(f"{where}: {which} has a finished winner; folds with finished units: {finished}")
    if len({(commit.key.study, commit.key.fold) for commit in commits}) > len(folds):
        studies = ", ".join(sorted({commit.key.study for commit in commits}))
        raise EmodartsError(
            f"{where} has several winners of one fold ({studies}): it was run with both ways of sweep.study_per; take "
            "another sweep.name for each"
        )


def _choose_system(results: Results, trials: list[TrialRecord], system: str | None) -> str:
    """The system that was named, or the only one. Raises EmodartsError where that is none."""
    systems, where = sorted({trial.system for trial in trials}), f"sweep '{results.sweeps[0]}'"
    if system is not None and (system := full_name(system)) not in systems:
        raise EmodartsError(f"--system {system}: {where} has {', '.join(systems) or 'none yet'}")
    if not systems:
        raise EmodartsError(f"{where} has no trials yet")
    if system is None and len(systems) > 1:
        raise EmodartsError(f"{where} has several systems: name one with --system: {', '.join(systems)}")
    return system or systems[0]


def _read_unit(sweep: SweepTables, commit: Commit, sweep_seed: int) -> ExportedUnit:
    key = commit.key
    rows, genotypes, predictions, epochs = (
        sweep.read_unit(table, commit).to_pylist() for table in ("folds", "genotypes", "predictions", "epochs")
    )
    rows = [row for row in rows if row["stage"] == "final" and row["condition"] is None]
    dev = [row for row in predictions if row["stage"] == "final" and row["role"] == "dev"]
    settings = settings_from_json(rows[0]["settings"])
    if settings.system == SVM:
        raise EmodartsError("system=svm is no network that could be exported: name another with --system")
    figures = [{field.name: row[field.name] for field in fields(ReportedFigures)} for row in rows]
    return ExportedUnit(
        key=key,
        settings=settings,
        seed=unit_seed(sweep_seed, key.fold, key.trial, key.seed),
        genotype=Genotype.from_json(genotypes[0]["genotype"]) if genotypes else None,
        shape=NetworkShape.from_json(genotypes[0]["network"]) if genotypes else None,
        epoch=_chosen_epoch([row for row in epochs if row["phase"] == "train"], settings.training.epochs),
        figures=tuple(ReportedFigures(**part) for part in figures if part["role"] != "cross"),
        dev_utterances=tuple(row["utterance"] for row in dev),
        dev_probabilities=np.array([row["probabilities"] for row in dev], np.float32),
        parameters=rows[0]["parameters"],
        macs=rows[0]["macs"],
        git_revision=rows[0]["git_revision"],
    )


def _chosen_epoch(rows: list[dict[str, Any]], epochs: int) -> int:
    """The epoch that the training chose, by its rows of the table `epochs`."""
    records = [EpochRecord(**{field.name: row[field.name] for field in fields(EpochRecord)}) for row in rows]
    epoch = late_dev_epoch(sorted(records, key=lambda record: record.epoch), epochs)
    assert epoch is not None  # a unit that is complete has all its epochs
    return epoch
