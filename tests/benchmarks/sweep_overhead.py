"""What the sweep costs beside its units: one worker against a plain loop, two workers against two plain processes.

    python tests/benchmarks/sweep_overhead.py [--trials 8] [--repeats 1] [--workers 1 2]

8 trials x 2 folds of the demo corpus, one thread each, with so many epochs that a run has at least 5
minutes of work; Ray is started before the clock. Each comparison runs the very
same units (settings, seeds, folds) both ways, features extracted before. The last line is JSON:
overhead_ratio    = sweep on one worker / `run_fold` in a loop (at most 1.05 is wanted)
two_worker_ratio  = units an hour of two workers / of two plain processes at once (at least .97 is wanted)
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import ray
import torch
from ray import tune
from rich.console import Console

from emodarts.corpora.settings import CorpusSettings
from emodarts.experiment.unit_spec import UnitSpec
from emodarts.results import reader
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.search.settings import SearchSettings
from emodarts.storage import Storage
from emodarts.training.settings import TrainingSettings
from sweeps.execution.dashboard_journal import DashboardJournal
from sweeps.execution.sweep_spec import SweepSpec
from sweeps.execution.trainable import run_unit
from sweeps.execution.tune_fit import fit
from sweeps.execution.worker import run_unit_locally
from sweeps.nodes.session import session
from sweeps.settings import RaySettings, ResourceSettings, Settings, SweepSettings
from sweeps.units.system_queues import SystemQueues
from sweeps.variants.jobs import make_jobs

FOLDS = [0, 1]
SEARCH_EPOCHS, TRAINING_EPOCHS = 7, 16


def settings_of(results: Path, trials: int) -> Settings:
    """The demo sweep on two folds with proposals that do not depend on timing."""
    space = {"search": {"nodes": {"low": 1, "high": 2}, "learning_rate": {"low": 0.001, "high": 0.01, "log": True}}}
    sweep = SweepSettings(name="overhead", trials=trials, folds=FOLDS, sampler="random", space=space)
    return Settings(
        corpus=CorpusSettings(name="demo"),
        search=SearchSettings(epochs=SEARCH_EPOCHS),
        training=TrainingSettings(epochs=TRAINING_EPOCHS),
        sweep=sweep,
        system="emodarts",
        results=str(results),
    )


def begin(results: Path, trials: int) -> tuple[SweepSpec, SystemQueues]:
    """A sweep that is ready to run: what all of its units share, and its queues."""
    settings = settings_of(results, trials)
    storage = Storage.open(results)
    (job,) = make_jobs(settings, storage, Console(quiet=True), [])
    register(storage, settings.sweep_name, {})
    sweep = SweepSpec.publish(settings, storage, job.data)
    writer, journal = SweepWriter(storage, sweep.sweep), DashboardJournal(storage, sweep.sweep)
    return sweep, job.make_queues(writer, reader.open(results), journal.add)


def by_sweep(trials: int, workers: int) -> float:
    """Seconds of the sweep on so many workers."""
    with tempfile.TemporaryDirectory() as folder:
        sweep, queues = begin(Path(folder), trials)
        start = time.perf_counter()
        fit(tune.with_parameters(run_unit, sweep=sweep), queues, {"cpu": 1}, [], workers)
        seconds = time.perf_counter() - start
        assert queues.complete
    return seconds


@cache
def _begun(trials: int) -> tuple[SweepSpec, list[UnitSpec]]:
    """A process's own copy of the sweep: its spec and all of its units."""
    sweep, queues = begin(Path(tempfile.mkdtemp(dir=os.environ["PLAIN_RESULTS"])), trials)
    units = []
    while (unit := queues.next_unit()) is not None:
        units.append(unit)
    return sweep, units


def _warm(trials: int) -> None:
    torch.set_num_threads(1)
    _begun(trials)


def _plain_units(trials: int, first: int, step: int) -> None:
    """Some of the sweep's units, one after the other, without Ray."""
    sweep, units = _begun(trials)
    for unit in units[first::step]:
        run_unit_locally(unit, sweep)


def by_loop(trials: int, processes: int) -> float:
    """Seconds of so many plain processes that share the units; imports and data are outside the clock, as Ray's are."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PLAIN_RESULTS"] = folder
        # Not `Pool`, which starts a dead process again and again: these say that it died.
        pools = [ProcessPoolExecutor(1, context, _warm, (trials,)) for _ in range(processes)]
        for warmed in [pool.submit(_warm, trials) for pool in pools]:
            warmed.result()
        start = time.perf_counter()
        jobs = [pool.submit(_plain_units, trials, n, processes) for n, pool in enumerate(pools)]
        for job in jobs:
            job.result()
        seconds = time.perf_counter() - start
        for pool in pools:
            pool.shutdown()
    return seconds


def main() -> None:
    """Both comparisons, alternating."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], choices=[1, 2])
    given = parser.parse_args()
    times: dict[str, list[float]] = {f"{way}{n}": [] for n in given.workers for way in ("loop", "sweep")}
    with session(RaySettings(dashboard=False), ResourceSettings(), Console(quiet=True)):
        assert ray.is_initialized()
        for _ in range(given.repeats):
            for workers in given.workers:
                times[f"loop{workers}"].append(by_loop(given.trials, workers))
                times[f"sweep{workers}"].append(by_sweep(given.trials, workers))
                print({name: [round(t, 1) for t in found] for name, found in times.items()}, flush=True)
    best = {name: min(found) for name, found in times.items()}
    ratios = {}
    if 1 in given.workers:
        ratios["overhead_ratio"] = round(best["sweep1"] / best["loop1"], 3)
    if 2 in given.workers:
        ratios["two_worker_ratio"] = round(best["loop2"] / best["sweep2"], 3)
    seconds = {name: round(value, 1) for name, value in best.items()}
    print(json.dumps({**ratios, "seconds": seconds, "units": given.trials * len(FOLDS)}))


if __name__ == "__main__":
    main()
