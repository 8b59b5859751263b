"""One unit of work: a complete search on one fold, training and test of what it found. No Ray, one process.

`run_fold` is the whole; its parts stand by themselves too: FoldData, search, derive, train, predict.
"""

import hashlib
import json
import resource
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoint, Checkpoints, StoredFile
from emodarts.corpora.protocols.folds import Fold
from emodarts.errors import EmodartsError
from emodarts.experiment.evaluations import evaluation, final_evaluations, supernet_evaluations
from emodarts.experiment.fold_data import SEARCHED, SVM, CrossCorpusTest, FoldData, FoldSettings
from emodarts.experiment.unit_spec import TransferredGenotype
from emodarts.features.batches import FoldPart
from emodarts.features.store.joined import AnyStore
from emodarts.networks import baselines
from emodarts.networks.costs import count_macs, count_parameters
from emodarts.networks.genotype import Genotype
from emodarts.networks.network import DiscreteNetwork, NetworkShape
from emodarts.provenance import git_revision, package_versions, source_digest
from emodarts.records import BEST_TEST, LAST, EpochRecord, Evaluation, GenotypeRecord, UnitRecords
from emodarts.search.bilevel_split import split_train_part
from emodarts.search.methods import run_search
from emodarts.search.task import CandidateResult, Evaluate, SearchResult, SearchTask
from emodarts.seeds import derive_seed
from emodarts.storage import Storage
from emodarts.training import prediction, published_protocol, svm
from emodarts.training import train as training
from emodarts.training.settings import TrainingSettings
from emodarts.training.train import TrainedNetwork

Progress = Callable[[EpochRecord], None]
Folder = Path | Storage  # of a unit's checkpoints
_STAGES = ("search", "searched", "training")  # each a file of a checkpoint folder


@dataclass(frozen=True)
class Architecture:
    """What is trained: a genotype, or a hand-designed network by its name, at these sizes."""

    shape: NetworkShape
    genotype: Genotype | None
    system: str = SEARCHED

    def build(self) -> DiscreteNetwork:
        """A network with new weights, drawn from torch's generator."""
        if self.genotype is not None:
            return DiscreteNetwork(self.shape, self.genotype)
        return cast(DiscreteNetwork, baselines.build(self.system, self.shape))  # alike in all that training asks of it


def _no_progress(record: EpochRecord) -> None:
    """Tell nobody."""


def run_fold(
    store: AnyStore,
    fold: Fold,
    settings: FoldSettings,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = _no_progress,
    checkpoints: Folder | None = None,
    tests: bool = True,
    foreign: Sequence[CrossCorpusTest] = (),
    transferred: TransferredGenotype | None = None,
) -> UnitRecords:
    """Search, derive, train, predict: all that one fold has to tell. What was `transferred` is not searched for here.

    The test part is not touched before the final network's epoch is chosen, and never where `tests` is False: for
    decisions on the design, which are taken on dev figures; nor are `foreign` tests, which are predicted twice, with
    the normalisation of the fold's train part and with their own. `progress` hears of each epoch.
    `checkpoints` is a folder of this unit's own, on a disk or in any storage: what stands there goes on as if it had
    never stopped (bit for bit on a CPU), and is kept until `discard_checkpoints`. Raises EmodartsError for a leaking
    fold, one without dev part and checkpoints of another unit, and FloatingPointError or RuntimeError where a loss is
    not finite.
    """
    data = FoldData.of(store, fold, settings, device)
    if settings.system == SVM:
        return _run_svm(data, seed, tests, foreign)
    if transferred is not None:
        searched: SearchResult | None = adopt_genotype(data, transferred)
    else:
        searched = search(data, seed, progress, checkpoints) if settings.searches else None
    architecture = derive(data, searched) if searched else hand_designed(data)
    trained = train(data, architecture, seed, progress, checkpoints)
    final = final_evaluations(data, lambda part: _predict(data, trained.network, part), tests, foreign)
    return _records(data, searched, trained, (*supernet_evaluations(data, searched), *final))


def run_published_protocol(
    store: AnyStore,
    fold: Fold,
    settings: FoldSettings,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = _no_progress,
    checkpoints: Folder | None = None,
) -> UnitRecords:
    """The published protocol on one fold without dev part, for comparison alone: no figure that could choose anything.

    Search and training take their last epoch: rows of epoch rule `last`. Beside them stand rows of rule `best_test`,
    the published habit: the epoch of the training with the best UAR on test, found by looking there after each one.
    Arguments as in `run_fold`. Raises EmodartsError for a fold with a dev part, and what `check_published` refuses.
    """
    check_runnable_without_dev(settings)
    if fold.dev:
        raise EmodartsError(f"{fold.protocol} fold {fold.index} has a dev part: run_fold chooses the epoch by it")
    data = FoldData.of(store, fold, settings, device, needs_dev=False)
    searched = search(data, seed, progress, checkpoints) if settings.searches else None
    architecture = derive(data, searched) if searched else hand_designed(data)
    trained, tests = _train_published(data, architecture, seed, progress, checkpoints)
    evaluations = [
        evaluation(fold, fold.tests[name], "final", "test", name, probabilities, rule)
        for name, tried in tests.items()
        for rule, probabilities in ((LAST, tried.last), (BEST_TEST, tried.best))
    ]
    return _records(data, searched, trained, tuple(evaluations))


def check_runnable_without_dev(settings: FoldSettings) -> None:
    """Raise EmodartsError for what cannot be run without dev part: no epochs to choose among, or a choice by dev."""
    method = settings.search.method
    if settings.system == SVM:
        raise EmodartsError("system=svm has no epochs that the published protocol could choose among")
    if settings.searches and method in ("random_search", "evolution"):
        raise EmodartsError(f"search.method={method} chooses by dev, and the published protocol has no dev part")


def search(
    data: FoldData, seed: int = 0, progress: Progress = _no_progress, checkpoints: Folder | None = None
) -> SearchResult:
    """Search an architecture on the fold's train part by `settings.search.method`; dev chooses the epoch.

    `progress` and `checkpoints` as in `run_fold`.
    """
    running, outcome = (_checkpoints(checkpoints, stage, data, seed) for stage in ("search", "searched"))
    kept = outcome.load()
    if kept is not None:
        searched = _searched(kept)
        for record in searched.epochs:
            progress(record)
        return searched
    task = _task(data, seed)
    searched = run_search(task, _evaluate(data, task), progress, running)
    outcome.save(_kept(searched))
    running.delete()
    return searched


def adopt_genotype(data: FoldData, transferred: TransferredGenotype) -> SearchResult:
    """What a search on other data found, as if it had been found here: no epochs, no time, and sizes for these data.

    Raises EmodartsError for settings whose network is not searched, or has other numbers of nodes.
    """
    shape, genotype = _supernet_shape(data), transferred.genotype
    if not data.settings.searches:
        raise EmodartsError(f"system={data.settings.system} is not searched, so that no genotype can be its network")
    nodes = len(genotype.normal), len(genotype.sequence) if shape.sequence_cells else shape.sequence_nodes
    if nodes != (shape.nodes, shape.sequence_nodes):
        raise EmodartsError(
            f"a genotype of {nodes[0]} nodes a cell and {nodes[1]} a sequence cell does not fit search.nodes="
            f"{shape.nodes} and search.sequence_nodes={shape.sequence_nodes}: take the settings that it was found with"
        )
    return SearchResult(genotype, transferred.derived_at, (), None, shape, 0.0)


def derive(data: FoldData, searched: SearchResult) -> Architecture:
    """The architecture that a search found, at the sizes of the training."""
    return Architecture(_training_shape(searched.shape, data.settings.training), searched.genotype)


def hand_designed(data: FoldData) -> Architecture:
    """The hand-designed network that `settings.system` names, at the sizes of the training."""
    return Architecture(_training_shape(_supernet_shape(data), data.settings.training), None, data.settings.system)


def train(
    data: FoldData,
    architecture: Architecture,
    seed: int = 0,
    progress: Progress = _no_progress,
    checkpoints: Folder | None = None,
) -> TrainedNetwork:
    """Train the architecture's network from scratch on the fold's train part; dev chooses the epoch."""
    kept = _training_checkpoints(checkpoints, data, architecture, seed)
    return _train(data, architecture, data.train, data.settings.training, seed, progress, kept)


def _train_published(
    data: FoldData, architecture: Architecture, seed: int, progress: Progress, checkpoints: Folder | None
) -> tuple[TrainedNetwork, dict[str, published_protocol.EpochPredictions]]:
    """Train to the last epoch on the fold's train part; what each test set says of the last epoch and the best one."""
    s, tests = data.settings, {name: data.part(ids) for name, ids in data.fold.tests.items()}
    kept = _training_checkpoints(checkpoints, data, architecture, seed)
    return published_protocol.train(
        architecture.build,
        data.train,
        tests,
        s.training,
        s.features,
        s.batches,
        seed,
        data.device,
        progress,
        kept,
    )


def predict(data: FoldData, network: DiscreteNetwork, utterances: Sequence[str]) -> NDArray[np.float32]:
    """Class probabilities `(utterances, classes)` of utterances of the fold; the classes are `fold.classes`."""
    return _predict(data, network, data.part(utterances))


def _predict(data: FoldData, network: DiscreteNetwork, part: FoldPart) -> NDArray[np.float32]:
    return prediction.predict(network, part, data.settings.training.batch_size, data.device)


def discard_checkpoints(folder: Folder) -> None:
    """Delete a unit's checkpoints, and their folder if nothing else is in it: its records are written."""
    for stage in _STAGES:
        Checkpoints(_file(folder, stage)).delete()
    if isinstance(folder, Storage):
        if not folder.list(""):
            folder.delete_folder("")
    elif folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _task(data: FoldData, seed: int) -> SearchTask:
    if data.settings.search.optimisation == "single":
        return _undivided(data, seed)
    halves = split_train_part(data.search_fold, derive_seed(seed, "split"))
    weight_part, alpha_part = (data.part(ids) for ids in halves)
    return replace(_undivided(data, seed), weight_part=weight_part, alpha_part=alpha_part)


def _undivided(data: FoldData, seed: int) -> SearchTask:
    """The task of a search, with all that it sees of train in the place of either half."""
    return _task_on(data, data.part(data.search_fold.train), seed)


def _task_on(data: FoldData, train: FoldPart, seed: int) -> SearchTask:
    s, classes = data.settings, len(data.fold.classes)
    dev = data.dev if data.fold.dev else None
    return SearchTask(train, train, train, dev, classes, s.search, s.features, s.batches, seed, data.device)


def _supernet_shape(data: FoldData) -> NetworkShape:
    """The sizes of a search's networks; a part of train that is too small to search with does not matter."""
    return _task_on(data, data.train, 0).shape


def _evaluate(data: FoldData, task: SearchTask) -> Evaluate:
    """How a search without a supernet learns what a genotype is worth: trained like a final network, judged on dev."""

    def evaluate(genotype: Genotype, epochs: int, seed: int) -> CandidateResult:
        settings = replace(data.settings.training, epochs=epochs)
        architecture = Architecture(task.shape, genotype)
        trained = _train(data, architecture, task.train_part, settings, seed, _no_progress, NO_CHECKPOINTS)
        uar, minus_loss = trained.epochs[trained.epoch].dev_rank
        return CandidateResult(uar, -minus_loss, count_parameters(trained.network), trained.seconds)

    return evaluate


def _train(
    data: FoldData,
    architecture: Architecture,
    part: FoldPart,
    settings: TrainingSettings,
    seed: int,
    progress: Progress,
    checkpoints: Checkpoints,
) -> TrainedNetwork:
    features, batches = data.settings.features, data.settings.batches
    return training.train(
        architecture.build, part, data.dev, settings, features, batches, seed, data.device, progress, checkpoints
    )


def _training_shape(shape: NetworkShape, s: TrainingSettings) -> NetworkShape:
    return replace(
        shape,
        channels=s.channels or shape.channels,
        sequence_width=s.sequence_width or shape.sequence_width,
        stem_strides=(s.stem_strides[0], s.stem_strides[1]) if s.stem_strides else shape.stem_strides,
        dropout=s.dropout,
    )


def _checkpoints(folder: Folder | None, stage: str, data: FoldData, seed: int, **more: str | None) -> Checkpoints:
    if folder is None:
        return NO_CHECKPOINTS
    return Checkpoints(_file(folder, stage), {**_identity(data, seed), **more})


def _training_checkpoints(folder: Folder | None, data: FoldData, architecture: Architecture, seed: int) -> Checkpoints:
    genotype = None if architecture.genotype is None else architecture.genotype.to_json()
    return _checkpoints(folder, "training", data, seed, genotype=genotype)


def _file(folder: Folder, stage: str) -> Path | StoredFile:
    name = f"{stage}.safetensors"
    return folder / name if isinstance(folder, Path) else StoredFile(folder, name)


def _identity(data: FoldData, seed: int) -> dict[str, Any]:
    """What a unit's result depends on; of the features, their settings and the recordings they were made of."""
    fold = data.fold
    rows = data.store.positions(sorted((*fold.train, *fold.dev)))
    audio = data.store.measures()["audio_hash"].take(rows).to_pylist()
    return {
        "code": source_digest(),
        "packages": package_versions(),
        "settings": asdict(data.settings),
        "protocol": fold.protocol,
        "fold": fold.index,
        "fold_hash": fold.hash,
        "classes": list(fold.classes),
        "recordings": hashlib.sha256("\0".join(audio).encode()).hexdigest()[:16],
        "seed": seed,
    }


def _kept(searched: SearchResult) -> Checkpoint:
    """What a search found, to be kept until the unit is done."""
    state = {
        "genotype": searched.genotype.to_json(),
        "epoch": searched.epoch,
        "records": [asdict(record) for record in searched.epochs],
        "shape": asdict(searched.shape),
        "seconds": searched.seconds,
    }
    found = searched.dev_probabilities
    return Checkpoint({} if found is None else {"dev_probabilities": torch.from_numpy(found)}, state)


def _searched(kept: Checkpoint) -> SearchResult:
    """The reverse of `_kept`."""
    state, found = kept.state, kept.tensors.get("dev_probabilities")
    shape = {**state["shape"], "stem_strides": tuple(state["shape"]["stem_strides"])}
    return SearchResult(
        genotype=Genotype.from_json(state["genotype"]),
        epoch=state["epoch"],
        epochs=tuple(EpochRecord(**record) for record in state["records"]),
        dev_probabilities=None if found is None else found.numpy(),
        shape=NetworkShape(**shape),
        seconds=state["seconds"],
    )


def _run_svm(data: FoldData, seed: int, tests: bool, foreign: Sequence[CrossCorpusTest]) -> UnitRecords:
    machine = svm.fit(data.train, len(data.fold.classes), data.settings.training.svm_penalty, seed)
    evaluations = final_evaluations(data, machine.predict, tests, foreign)
    return UnitRecords(
        evaluations=tuple(evaluations),
        epochs=(),
        genotypes=(),
        parameters=machine.parameters,
        macs=machine.macs,
        search_seconds=0.0,
        train_seconds=machine.seconds,
        **_made_by(data.settings),
    )


def _records(
    data: FoldData, searched: SearchResult | None, trained: TrainedNetwork, evaluations: tuple[Evaluation, ...]
) -> UnitRecords:
    settings, network = data.settings, trained.network
    frames = max(1, round(settings.training.crop_seconds * settings.features.frames_per_second))
    return UnitRecords(
        evaluations=evaluations,
        epochs=(searched.epochs if searched else ()) + trained.epochs,
        genotypes=(_genotype_record(searched, network.shape),) if searched else (),
        parameters=count_parameters(network),
        macs=count_macs(network, frames),
        search_seconds=searched.seconds if searched else 0.0,
        train_seconds=trained.seconds,
        **_made_by(settings),
    )


def _made_by(settings: FoldSettings) -> dict[str, Any]:
    """What every unit tells of how it came about."""
    return {
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "settings_json": json.dumps(asdict(settings), sort_keys=True),
        "git_revision": git_revision(),
        "packages_json": package_versions(),
    }


def _genotype_record(searched: SearchResult, shape: NetworkShape) -> GenotypeRecord:
    network = json.dumps({**asdict(shape), "layout": shape.layout}, sort_keys=True)
    return GenotypeRecord("final", searched.genotype.to_json(), network, searched.epoch)


def choose_device(name: str) -> str:
    """`auto` -> cuda where there is one, else cpu; other names as they are."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
