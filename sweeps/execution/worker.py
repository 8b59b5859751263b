"""What a worker does with a unit: take its spec, open the stores, run it, commit it.

Dev figures are reported to the driver; test figures go to the tables alone.
"""

import socket
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from emodarts.checkpoints import CheckpointError, never
from emodarts.errors import EmodartsError
from emodarts.experiment.published_protocol import run_published_protocol
from emodarts.experiment.unit import run_fold
from emodarts.experiment.unit_checkpoints import StoppableFolder, discard_checkpoints
from emodarts.experiment.unit_spec import UnitSpec
from emodarts.processors import choose_device
from emodarts.records import EpochRecord, UnitKey, UnitRecords
from emodarts.results.commits import Commit, read_commit
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage, StorageError
from sweeps.execution.faults import STORAGE, PlaceFaultError, fault_kind
from sweeps.execution.metrics import UnitMetrics
from sweeps.execution.sweep_spec import SweepSpec
from sweeps.execution.tracking import UnitTrackers
from sweeps.units.checkpoint_folders import checkpoint_folder
from sweeps.units.outcomes import UnitOutcome, failure_reason, unit_title

Report = Callable[[dict[str, Any]], None]  # as `tune.report`


def run_unit_locally(
    unit: UnitSpec,
    sweep: SweepSpec,
    report: Report = lambda rung: None,
    place: str | None = None,
    should_stop: Callable[[], bool] = never,
) -> UnitOutcome:
    """Run a unit and commit it, without Tune. `report` takes its rungs, and may raise SystemExit to prune it.

    Where `should_stop` says so it raises StopRequested after the present batch, and goes on from there the next time.

    A mistake of the unit's own (settings, data, a loss that is not finite) commits it as failed. Raises PlaceFaultError
    for what its place did to it (memory, a GPU, results or features out of reach): it goes on elsewhere.
    """
    torch.set_num_threads(sweep.threads)
    key, attempt = unit.key, uuid.uuid4().hex[:8]
    storage = Storage.open(sweep.results)
    writer = SweepWriter(storage, sweep.sweep)
    checkpoints = checkpoint_folder(storage, key)
    metrics = UnitMetrics(unit_title(key), key.sweep, key.system, len(sweep.fold_of(key).train))
    trackers = UnitTrackers(sweep.tracking, unit, storage)
    reporter = EpochReporter(unit, metrics, report, trackers)
    end = partial(_end, checkpoints=checkpoints, metrics=metrics, trackers=trackers)
    try:
        _check_results(storage, sweep)
        commit = read_commit(storage, sweep.sweep, key.name)
        if commit is not None:  # a worker died between the unit's commit and its report
            return end(commit)
        records = _run(unit, sweep, storage, StoppableFolder(checkpoints, should_stop), reporter)
    except SystemExit:  # pruned, or stopped with the whole experiment
        _clean_up_pruned(writer, key, end)
        raise
    except (EmodartsError, ArithmeticError, RuntimeError, ValueError, MemoryError) as error:
        kind = fault_kind(error)
        if kind is not None:
            raise PlaceFaultError(kind, failure_reason(error)) from error
        return end(writer.commit_ended(key, "failed", failure_reason(error), tuple(reporter.epochs), attempt))
    else:
        return end(_commit(writer, key, records, attempt, place))
    finally:
        trackers.close()


def _commit(writer: SweepWriter, key: UnitKey, records: UnitRecords, attempt: str, place: str | None) -> Commit:
    """Commit a unit. Raises PlaceFaultError where the results are out of reach."""
    try:
        return writer.commit(key, records, attempt, place)
    except StorageError as error:
        raise PlaceFaultError(STORAGE, failure_reason(error)) from error


def _run(
    unit: UnitSpec, sweep: SweepSpec, storage: Storage, checkpoints: StoppableFolder, reporter: "EpochReporter"
) -> UnitRecords:
    """Run a unit on the features as this node has them; checkpoints that do not fit mean a new start.

    On an inner split nothing of a test part is read.
    """
    fold, store, device = sweep.fold_of(unit.key), sweep.open_stores(storage), choose_device(unit.device)
    arguments = (store, fold, unit.settings, unit.random_seed, device)
    if sweep.published_protocol:
        run = partial(run_published_protocol, *arguments)
    elif unit.key.inner is not None:
        run = partial(run_fold, *arguments, tests=False, transferred=unit.transferred)
    else:
        tests = [location.open(storage) for location in sweep.cross_corpus_tests]
        conditions = sweep.open_conditions(storage)
        run = partial(
            run_fold, *arguments, cross_corpus_tests=tests, transferred=unit.transferred, conditions=conditions
        )
    try:
        return run(reporter.on_epoch_end, checkpoints)
    except CheckpointError:  # nothing is lost but the time since the unit began
        discard_checkpoints(checkpoints)
        reporter.reset()
        return run(reporter.on_epoch_end, checkpoints)


def _end(commit: Commit, checkpoints: Storage, metrics: UnitMetrics, trackers: UnitTrackers) -> UnitOutcome:
    """Tidy up after a unit that was committed; its outcome is what the commit says."""
    discard_checkpoints(checkpoints)
    metrics.on_unit_end(commit.status)
    trackers.end(commit)
    return replace(UnitOutcome.of_commit(commit), tracker_errors=trackers.errors or None)


def _clean_up_pruned(writer: SweepWriter, key: UnitKey, end: Callable[[Commit], UnitOutcome]) -> None:
    """Discard a pruned unit's checkpoints. The driver commits before it prunes: without a commit the unit goes on."""
    with suppress(StorageError):  # the next start tidies up
        if (commit := read_commit(writer.storage, writer.sweep, key.name)) is not None:
            end(commit)


def _check_results(storage: Storage, sweep: SweepSpec) -> None:
    """Raise StorageError on a node that sees other results than the driver: its rows would be lost."""
    if not storage.exists(f"{sweep.sweep}/sweep.json"):
        raise StorageError(
            f"{socket.gethostname()} does not see sweep {sweep.sweep} in {storage.root}: results has to be a place "
            "that every node sees (s3://, or a shared folder)"
        )


class EpochReporter:
    """Collects the epochs of a unit; `report` may raise SystemExit, and the unit is pruned then.

    A unit that goes on from a checkpoint passes its old epochs again, and reports the same rungs.
    """

    def __init__(self, unit: UnitSpec, metrics: UnitMetrics, report: Report, trackers: UnitTrackers):
        self.unit, self.metrics, self.report, self.trackers = unit, metrics, report, trackers
        self._begin()

    def reset(self) -> None:
        """The unit begins anew."""
        self.trackers.reset()
        self._begin()

    def _begin(self) -> None:
        self.epochs: list[EpochRecord] = []
        self.rungs_ahead = list(enumerate(self.unit.rungs))

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Take an epoch. Raises SystemExit where the unit was pruned."""
        self.epochs.append(record)
        self.metrics.on_epoch_end(record)
        self.trackers.log_epoch(record)
        settings = self.unit.settings
        lengths = {"search": settings.search.epochs, "train": settings.training.epochs}
        for number, (phase, fraction) in tuple(self.rungs_ahead):
            if phase == record.phase and record.epoch + 1 >= fraction * lengths[phase]:
                self.rungs_ahead.remove((number, (phase, fraction)))
                epochs = tuple(self.epochs)
                self.report({"status": "running", "rung": number, "dev_uar": record.dev_uar, "epochs": epochs})
