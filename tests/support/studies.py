"""A sweep's study queue without Ray, and units whose dev figure depends on their names and numbers only."""

import time
from collections import Counter
from dataclasses import replace

import numpy as np

from emodarts.corpora.protocols.folds import Fold
from emodarts.records import UnitRecords
from emodarts.results import reader
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from sweeps.execution.dashboard_journal import DashboardJournal
from sweeps.settings import Settings, SweepSettings
from sweeps.study.search_space import SearchSpace
from sweeps.units.outcomes import UnitOutcome
from sweeps.units.spec_factory import UnitSpecFactory
from sweeps.units.study_queue import StudyQueue
from sweeps.units.system_queues import SystemQueues
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
        ),
        system="emodarts",
    )
)
DEFAULT = SPACE.default_parameters()
RUNGS = (("search", 0.5), ("train", 0.5))


def make_specs(folds=(0,), system="emodarts", rungs=(), inner=0):
    """Makes units on folds, and inner splits of them, that nobody reads."""
    by_number = {number: Fold("x/speaker3", number, (), (), {}, {}, ("a", "b"), {}, {}, "h") for number in folds}
    splits = {n: tuple(replace(fold, hash=f"h{i}") for i in range(inner)) for n, fold in by_number.items()}
    return UnitSpecFactory("s", system, SPACE, by_number, ("x",), rungs=rungs, inner_folds=splits)


def begin(root, folds=(0, 1, 2), clock=time.time, system="emodarts", on_trial_end=None, **sweep):
    storage = Storage.open(root)
    register(storage, "s", {})
    settings = SweepSettings(**sweep)
    specs = make_specs(folds, system, RUNGS if settings.pruner == "asha" else (), settings.inner)
    on_trial_end = on_trial_end or (lambda system, study, trial: None)
    return StudyQueue(settings, specs, SweepWriter(storage, "s"), reader.open(root), clock, on_trial_end)


def begin_with_journal(root, folds=(0,), **sweep):
    storage = Storage.open(root)
    register(storage, "s", {})
    journal = DashboardJournal(storage, "s")
    queue = begin(root, folds=folds, sampler="random", on_trial_end=journal.add, **sweep)
    journal.begin(SystemQueues([queue]))
    return queue


def commit(studies, unit, right=None):
    """What a worker writes: a dev figure that depends on names and numbers only, or that of so many right of four."""
    key = unit.key
    if right is None:
        right = (key.trial * 7 + key.fold + key.seed + 3 * (key.inner or 0)) % 5
    base = records(fold=key.fold)
    tests = (evaluation("test", 2, fold=key.fold),) if key.inner is None else ()
    evaluations = (evaluation("dev", right, fold=key.fold), *tests)
    studies.writer.commit(key, UnitRecords(**{**base.__dict__, "evaluations": evaluations}), "x")
    return UnitOutcome("complete", _uar(right), 10)


def fault_counts(queue):
    """How often workers were restarted, and how many units failed or were pruned."""
    counts = Counter(outcome.status for outcome in queue.outcomes.values())
    retries = sum(t.retries for trials in queue.trials.values() for t in trials.values())
    return {"retries": retries, "failed": counts["failed"], "pruned": counts["pruned"]}


def _uar(right):
    labels = np.arange(4) % 2
    predicted = np.where(np.arange(4) < right, labels, 1 - labels)
    return float(np.mean([(predicted[labels == c] == c).mean() for c in (0, 1)]))


def run_all(studies, limit=10_000):
    while (unit := studies.next_unit()) is not None and limit > 0:
        studies.on_unit_end(unit, commit(studies, unit))
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
