"""What a worker does with a unit: take its spec, open the stores, run it, commit it.

Dev figures are reported to the driver; test figures go to the tables alone.
"""

import ctypes
import gc
import socket
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from ray import tune

from emodarts.checkpoints import CheckpointError
from emodarts.errors import EmodartsError
from emodarts.experiment.published_protocol import run_published_protocol
from emodarts.experiment.unit import run_fold
from emodarts.experiment.unit_checkpoints import discard_checkpoints
from emodarts.experiment.unit_spec import UnitSpec
from emodarts.processors import choose_device
from emodarts.records import EpochRecord, UnitKey, UnitRecords
from emodarts.results.commits import Commit, read_commit
from emodarts.results.reader import Results
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage, StorageError
from sweeps.execution.metrics import UnitMetrics
from sweeps.execution.sweep_spec import SweepSpec
from sweeps.units.outcomes import UnitOutcome, failure_reason, unit_title

Report = Callable[[dict[str, Any]], None]  # as `tune.report`
CHECKPOINTS = "checkpoints"  # below the sweep


def run_unit(config: dict[str, Any], sweep: SweepSpec) -> None:
    """The trainable of Ray Tune: runs and commits `config["unit"]` (a UnitSpec), and reports how it ended."""
    outcome = run_unit_locally(config["unit"], sweep, tune.report)
    _release_memory()
    tune.report(asdict(outcome))


def run_unit_locally(unit: UnitSpec, sweep: SweepSpec, report: Report = lambda rung: None) -> UnitOutcome:
    """Run a unit and commit it, without Tune. `report` takes its rungs, and may raise SystemExit to prune it.

    A mistake of the unit's own (settings, data, a loss that is not finite) commits it as failed. Raises StorageError
    for results or features that are out of reach, which is not the unit's failure: it is begun again.
    """
    torch.set_num_threads(sweep.threads)
    key, attempt = unit.key, uuid.uuid4().hex[:8]
    storage = Storage.open(sweep.results)
    writer = SweepWriter(storage, sweep.sweep)
    checkpoints = checkpoint_folder(storage, key)
    metrics = UnitMetrics(unit_title(key), key.sweep, key.system, len(sweep.folds[key.fold].train))
    reporter = EpochReporter(unit, metrics, report)
    try:
        _check_results(storage, sweep)
        commit = read_commit(storage, sweep.sweep, key.name)
        if commit is not None:  # a worker died between the unit's commit and its report
            return _end(commit, checkpoints, metrics)
        records = _run(unit, sweep, storage, checkpoints, reporter)
    except SystemExit:  # pruned, or stopped with the whole experiment
        _clean_up_pruned(writer, key, checkpoints, metrics)
        raise
    except StorageError:
        raise
    except (EmodartsError, ArithmeticError, RuntimeError, ValueError) as error:
        commit = writer.commit_ended(key, "failed", failure_reason(error), tuple(reporter.epochs), attempt)
        return _end(commit, checkpoints, metrics)
    return _end(writer.commit(key, records, attempt), checkpoints, metrics)


def _run(
    unit: UnitSpec, sweep: SweepSpec, storage: Storage, checkpoints: Storage, reporter: "EpochReporter"
) -> UnitRecords:
    """Run a unit on the features as this node has them; checkpoints that do not fit mean a new start."""
    fold, store, device = sweep.folds[unit.key.fold], sweep.open_stores(storage), choose_device(unit.device)
    arguments = (store, fold, unit.settings, unit.random_seed, device)
    if sweep.published_protocol:
        run = partial(run_published_protocol, *arguments)
    else:
        tests = [location.open(storage) for location in sweep.cross_corpus_tests]
        run = partial(run_fold, *arguments, cross_corpus_tests=tests, transferred=unit.transferred)
    try:
        return run(reporter.on_epoch_end, checkpoints)
    except CheckpointError:  # nothing is lost but the time since the unit began
        discard_checkpoints(checkpoints)
        reporter.reset()
        return run(reporter.on_epoch_end, checkpoints)


def _end(commit: Commit, checkpoints: Storage, metrics: UnitMetrics) -> UnitOutcome:
    """Tidy up after a unit that was committed; its outcome is what the commit says."""
    discard_checkpoints(checkpoints)
    metrics.on_unit_end(commit.status)
    return UnitOutcome.of_commit(commit)


def _clean_up_pruned(writer: SweepWriter, key: UnitKey, checkpoints: Storage, metrics: UnitMetrics) -> None:
    """Discard a pruned unit's checkpoints. The driver commits before it prunes: without a commit the unit goes on."""
    with suppress(StorageError):  # the next start tidies up
        if read_commit(writer.storage, writer.sweep, key.name) is not None:
            discard_checkpoints(checkpoints)
            metrics.on_unit_end("pruned")


def _check_results(storage: Storage, sweep: SweepSpec) -> None:
    """Raise StorageError on a node that sees other results than the driver: its rows would be lost."""
    if not storage.exists(f"{sweep.sweep}/sweep.json"):
        raise StorageError(
            f"{socket.gethostname()} does not see sweep {sweep.sweep} in {storage.root}: results has to be a place "
            "that every node sees (s3://, or a shared folder)"
        )


def _release_memory() -> None:
    """Give back what the last unit left: a worker runs many, and batches of ever new lengths fragment the heap."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
        if trim is not None:
            trim(0)


class EpochReporter:
    """Collects the epochs of a unit; `report` may raise SystemExit, and the unit is pruned then.

    A unit that goes on from a checkpoint passes its old epochs again, and reports the same rungs.
    """

    def __init__(self, unit: UnitSpec, metrics: UnitMetrics, report: Report):
        self.unit, self.metrics, self.report = unit, metrics, report
        self.reset()

    def reset(self) -> None:
        """The unit begins anew."""
        self.epochs: list[EpochRecord] = []
        self.rungs_ahead = list(enumerate(self.unit.rungs))

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Take an epoch. Raises SystemExit where the unit was pruned."""
        self.epochs.append(record)
        self.metrics.on_epoch_end(record)
        settings = self.unit.settings
        lengths = {"search": settings.search.epochs, "train": settings.training.epochs}
        for number, (phase, fraction) in tuple(self.rungs_ahead):
            if phase == record.phase and record.epoch + 1 >= fraction * lengths[phase]:
                self.rungs_ahead.remove((number, (phase, fraction)))
                epochs = tuple(self.epochs)
                self.report({"status": "running", "rung": number, "dev_uar": record.dev_uar, "epochs": epochs})


def checkpoint_folder(storage: Storage, key: UnitKey) -> Storage:
    """The folder of a unit's checkpoints."""
    return storage.below(f"{key.sweep}/{CHECKPOINTS}/{key.name}")


def delete_checkpoints_of_ended_units(storage: Storage, results: Results) -> None:
    """Delete what workers left that were killed between a unit's commit and the end of its checkpoints."""
    ended = {commit.key.name for commit in results.commits}
    for sweep in results.sweeps:
        for unit in storage.list(f"{sweep}/{CHECKPOINTS}"):
            if unit in ended:
                storage.delete_folder(f"{sweep}/{CHECKPOINTS}/{unit}")
