"""The Ray Tune trainable: settings in, one `run_fold`, dev figures out. Test figures go straight to the tables."""

import ctypes
import gc
import socket
import sys
import traceback
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from emodarts.corpora.protocols.folds import Fold
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import CrossCorpusTest, FoldSettings, subsample_name
from emodarts.experiment.unit_spec import TransferredGenotype
from emodarts.features.store.joined import AnyStore, join_stores
from emodarts.features.store.store import open_store
from emodarts.records import EpochRecord, OnEpochEnd, UnitKey, UnitRecords
from emodarts.results.commits import Commit, read_commit
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage, StorageError
from sweeps.data.placement import StoreLocation, store_on_this_node
from sweeps.execution.metrics import UnitMetrics
from sweeps.study.search_space import SearchSpace
from sweeps.units.unit import outcome_of, unit_name

CHECKPOINTS = "checkpoints"  # below the sweep
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class SystemSpec:
    """What is compared: the settings of its units before a trial's parameters are put in, and what these may be."""

    settings: FoldSettings
    space: SearchSpace

    def with_parameters(self, parameters: dict[str, Any]) -> FoldSettings:
        """The settings of a unit. Raises EmodartsError for parameters that they refuse."""
        return self.space.apply(self.settings, parameters)


@dataclass(frozen=True)
class CrossCorpusLocation:
    """A test set of another corpus, and where its features are."""

    name: str
    store: StoreLocation
    labels: dict[str, str]
    speakers: dict[str, str | None]

    def open(self, storage: Storage) -> CrossCorpusTest:
        """The test set as this node has it. Raises StorageError."""
        store = open_store(store_on_this_node(self.store, storage))
        return CrossCorpusTest(self.name, store, tuple(self.labels), self.labels, self.speakers)


@dataclass(frozen=True)
class TransferredUnit:
    """What a fold takes from another sweep: a genotype, the settings it was found and trained with, and whose it is.

    `source` is `sweep/system/study/trial/seed/fold`.
    """

    source: str
    transferred: TransferredGenotype
    settings: FoldSettings


@dataclass(frozen=True)
class SweepSpec:
    """What all units of a sweep share; the features of each of its corpora have a place of their own. `winners`: by
    fold, what is trained there without a search; `published`: the folds have no dev part.
    """

    sweep: str
    results: str
    corpora: tuple[str, ...]
    stores: tuple[StoreLocation, ...]
    folds: dict[int, Fold]
    systems: dict[str, SystemSpec]
    seed: int
    device: str
    threads: int
    foreign: tuple[CrossCorpusLocation, ...] = ()
    winners: dict[int, TransferredUnit] = field(default_factory=dict)
    published: bool = False

    def settings_of(self, unit: dict[str, Any]) -> FoldSettings:
        """The settings of a unit. Raises EmodartsError for parameters that they refuse."""
        winner = self.winners.get(unit["fold"])
        return winner.settings if winner else self.systems[unit["system"]].with_parameters(unit["parameters"])

    def key(self, unit: dict[str, Any]) -> UnitKey:
        """The key of a unit's rows. A configuration that is refused has no subsample: its run says why it fails."""
        fold, winner = self.folds[unit["fold"]], self.winners.get(unit["fold"])
        try:
            subsample = None if winner else subsample_name(fold, self.settings_of(unit))
        except EmodartsError:
            subsample = None
        return UnitKey(
            self.sweep,
            unit["system"],
            unit["study"],
            unit["trial"],
            unit["seed"],
            self.corpora,
            fold.protocol,
            fold.index,
            fold.hash,
            fold.classes,
            genotype_from=winner.source if winner else None,
            subsample=subsample,
            protocol_caveat=fold.protocol_caveat,
        )

    def open_stores(self, storage: Storage) -> AnyStore:
        """The features as this node has them, those of several corpora as one. Raises StorageError."""
        return join_stores([open_store(store_on_this_node(place, storage)) for place in self.stores])


def _to_nobody(told: dict[str, Any]) -> None:
    """Of rungs that nobody prunes at."""


def run_unit(config: dict[str, Any], plan: SweepSpec) -> None:
    """Run one unit, write its rows, report its dev figures. A mistake of the unit's own ends it as failed."""
    report = run_unit_locally(config["unit"], plan, tune.report)
    _release_memory()
    tune.report(report)


def run_unit_locally(unit: dict[str, Any], plan: SweepSpec, report: Report = _to_nobody) -> dict[str, Any]:
    """The same without Tune; what would be reported. `report` hears of rungs, and may raise SystemExit to prune."""
    import torch

    from emodarts.checkpoints import CheckpointError
    from emodarts.experiment.unit_checkpoints import discard_checkpoints

    torch.set_num_threads(plan.threads)
    attempt = uuid.uuid4().hex[:8]
    fold = plan.folds[unit["fold"]]
    key = plan.key(unit)
    storage = Storage.open(plan.results)
    writer = SweepWriter(storage, plan.sweep)
    folder = _checkpoint_folder(storage, key)
    telemetry = UnitMetrics(unit_name(unit), plan.sweep, unit["system"], len(fold.train))
    course = None
    try:
        _check_shared(storage, plan)
        if (standing := read_commit(storage, plan.sweep, key.name)) is not None:  # its worker died before it could tell
            return _end(standing, folder, telemetry)
        settings = plan.settings_of(unit)
        course = _Course(unit["rungs"], settings, telemetry, report)
        work = _work(unit, settings, plan, storage)
        try:
            records = work(course.hear, folder)
        except CheckpointError:  # of no use any more; nothing else is lost than the time since the unit began
            discard_checkpoints(folder)
            course = _Course(unit["rungs"], settings, telemetry, report)
            records = work(course.hear, folder)
    except SystemExit:  # pruned, or stopped with the whole experiment
        _forget_pruned(writer, key, folder, telemetry)
        raise
    except StorageError:
        raise  # not the unit's failure: Tune begins it again
    except (EmodartsError, ArithmeticError, RuntimeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error} ({_where(error)})"
        epochs = tuple(course.epochs) if course else ()
        return _end(writer.commit_ended(key, "failed", reason, epochs, attempt), folder, telemetry)
    return _end(writer.commit(key, records, attempt), folder, telemetry)


def _work(
    unit: dict[str, Any], settings: FoldSettings, plan: SweepSpec, storage: Storage
) -> Callable[[OnEpochEnd, Path | Storage], UnitRecords]:
    """What a unit runs, on the features as this node has them. Raises StorageError."""
    from emodarts.experiment.published_protocol import run_published_protocol
    from emodarts.experiment.unit import run_fold
    from emodarts.processors import choose_device
    from emodarts.seeds import unit_seed

    fold, winner = plan.folds[unit["fold"]], plan.winners.get(unit["fold"])
    store = plan.open_stores(storage)
    seed = unit_seed(plan.seed, fold.index, unit["trial"], unit["seed"])
    device = choose_device(plan.device)
    if plan.published:
        return partial(run_published_protocol, store, fold, settings, seed, device)
    more: dict[str, Any] = {"cross_corpus_tests": [place.open(storage) for place in plan.foreign]}
    if winner is not None:
        more["transferred"] = winner.transferred
    return partial(run_fold, store, fold, settings, seed, device, **more)


def _end(stands: Commit, folder: Path | Storage, telemetry: UnitMetrics) -> dict[str, Any]:
    """Tidy up behind a unit that was committed; what is reported of it, as its commit says."""
    from emodarts.experiment.unit_checkpoints import discard_checkpoints

    discard_checkpoints(folder)
    telemetry.end(stands.status)
    return asdict(outcome_of(stands))


class _Course:
    """The epochs of a unit so far; at its rungs they are reported, and the driver may end the unit there.

    A unit that was taken up again hears its old epochs again, and reports the same rungs.
    """

    def __init__(
        self, rungs: Sequence[tuple[str, float]], settings: FoldSettings, telemetry: UnitMetrics, report: Report
    ):
        self.epochs: list[EpochRecord] = []
        self.telemetry, self.report = telemetry, report
        lengths = {"search": settings.search.epochs, "train": settings.training.epochs}
        self.rungs = [(number, phase, share * lengths[phase]) for number, (phase, share) in enumerate(rungs)]

    def hear(self, record: EpochRecord) -> None:
        """Take an epoch. Raises SystemExit where the unit was pruned."""
        self.epochs.append(record)
        self.telemetry.epoch(record)
        reached = [r for r in self.rungs if r[1] == record.phase and record.epoch + 1 >= r[2]]
        for rung in reached:
            self.rungs.remove(rung)
            told = [asdict(epoch) for epoch in self.epochs]
            self.report({"status": "running", "rung": rung[0], "dev_uar": record.dev_uar, "epochs": told})


def _forget_pruned(writer: SweepWriter, key: UnitKey, folder: Path | Storage, telemetry: UnitMetrics) -> None:
    """Discard what a pruned unit kept. The driver commits before it prunes: without a commit the unit goes on later."""
    from emodarts.experiment.unit_checkpoints import discard_checkpoints

    with suppress(StorageError):  # the next start tidies up
        if read_commit(writer.storage, writer.sweep, key.name) is not None:
            discard_checkpoints(folder)
            telemetry.end("pruned")


def _checkpoint_folder(storage: Storage, key: UnitKey) -> Path | Storage:
    """Where a unit keeps what it needs to go on: with the results, so that any node can take it up."""
    relative = f"{key.sweep}/{CHECKPOINTS}/{key.name}"
    return Path(storage.path(relative)) if storage.is_local else storage.below(relative)


def _check_shared(storage: Storage, plan: SweepSpec) -> None:
    """Raise StorageError on a node that sees other results than the driver: its rows would be lost."""
    if not storage.exists(f"{plan.sweep}/sweep.json"):
        raise StorageError(
            f"{socket.gethostname()} does not see sweep {plan.sweep} in {storage.root}: results has to be a place that "
            "every node sees (s3://, or a shared folder)"
        )


def _release_memory() -> None:
    """Give back what the last unit left: a worker runs many, and batches of ever new lengths fragment the heap."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
        if trim is not None:
            trim(0)


def _where(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
