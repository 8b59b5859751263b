"""A sweep's study queue without Ray, and units whose dev figure depends on their names and numbers only."""

import time

import numpy as np

from emodarts.experiment.fold_data import FoldSettings
from emodarts.records import UnitKey, UnitRecords
from emodarts.results import reader
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from sweeps.execution.dashboard_journal import DashboardJournal
from sweeps.settings import Settings, SweepSettings
from sweeps.study.search_space import SearchSpace
from sweeps.units.study_queue import StudyQueue
from sweeps.units.system_queues import SystemQueues
from sweeps.units.unit import UnitOutcome
from tests.support.unit_records import evaluation, records

SPACE = SearchSpace.of(
    Settings(
        sweep=SweepSettings(
            space={
                "search": {
                    "nodes": {"low": 1, "high": 3},
                    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
                    "seqnn": {"choices": ["all", "lstm"]},
                }
            }
        )
    )
)
DEFAULT = SPACE.default_parameters(FoldSettings())
RUNGS = (("search", 0.5), ("train", 0.5))


def key_of(unit, system="emodarts"):
    return UnitKey("s", system, unit.study, unit.trial, unit.seed, ("x",), "x/speaker3", unit.fold, "h", ("a", "b"))


def begin(root, known=True, folds=(0, 1, 2), clock=time.time, system="emodarts", on_told=lambda *told: None, **sweep):
    storage = Storage.open(root)
    register(storage, "s", {})
    writer = SweepWriter(storage, "s")
    found = reader.open(root) if known else None
    settings = SweepSettings(**sweep)
    rungs = RUNGS if settings.pruner == "asha" else ()
    return StudyQueue(settings, SPACE, DEFAULT, folds, writer, found, key_of, rungs, system, clock, on_told)


def begin_with_journal(root, folds=(0,), **sweep):
    storage = Storage.open(root)
    register(storage, "s", {})
    settings = SweepSettings(sampler="random", **sweep)
    rungs = RUNGS if settings.pruner == "asha" else ()
    journal = DashboardJournal(storage, "s")
    studies = StudyQueue(
        settings, SPACE, DEFAULT, folds, SweepWriter(storage, "s"), reader.open(root), key_of, rungs,
        on_told=journal.add,
    )  # fmt: skip
    journal.begin(SystemQueues([studies]))
    return studies


def commit(studies, unit):
    """What a worker writes: a dev figure that depends on names and numbers only."""
    right = (unit.trial * 7 + unit.fold + unit.seed) % 5
    base = records(fold=unit.fold)
    evaluations = (evaluation("dev", right, fold=unit.fold), evaluation("test", 2, fold=unit.fold))
    studies.writer.commit(
        key_of(unit, studies.system), UnitRecords(**{**base.__dict__, "evaluations": evaluations}), "x"
    )
    return UnitOutcome("complete", _uar(right), 10)


def _uar(right):
    labels = np.arange(4) % 2
    predicted = np.where(np.arange(4) < right, labels, 1 - labels)
    return float(np.mean([(predicted[labels == c] == c).mean() for c in (0, 1)]))


def run_all(studies, limit=10_000):
    while (unit := studies.next_unit()) is not None and limit > 0:
        studies.end(unit, commit(studies, unit))
        limit -= 1
    return studies


def rows(root):
    return [(t.study, t.trial, t.seed, t.parameters, t.status, t.values) for t in reader.open(root).trials()]


def rows_of(studies):
    return [
        (t.study, t.trial, t.seed, t.parameters, t.status, t.values)
        for study in studies.trials.values()
        for _, t in sorted(study.items())
    ]
