"""The stages of a unit of work, each by itself: search, derive, train, predict. Their data are a `FoldData`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.fold_settings import SEARCHED
from emodarts.experiment.train_parts import split_train_part
from emodarts.experiment.unit_checkpoints import Folder, search_checkpoints, training_checkpoints
from emodarts.experiment.unit_spec import TransferredGenotype
from emodarts.features.batches import FoldPart
from emodarts.features.normalisation import Normaliser, Standardiser
from emodarts.networks import baselines
from emodarts.networks.genotype import Genotype
from emodarts.networks.matching import match_parameters
from emodarts.networks.network import DiscreteNetwork, NetworkShape, layers_of_cells
from emodarts.networks.sizes import scale_widths
from emodarts.records import OnEpochEnd, ignore_epoch
from emodarts.search.loop import run_search
from emodarts.search.task import CandidateResult, Evaluate, SearchResult, SearchTask
from emodarts.seeds import derive_seed
from emodarts.training import prediction
from emodarts.training import train as training
from emodarts.training.settings import TrainingSettings
from emodarts.training.train import TrainedNetwork, TrainingTask


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
        return cast(
            DiscreteNetwork, baselines.build_network(self.system, self.shape)
        )  # alike in all that training asks of it


def search(
    data: FoldData, seed: int = 0, on_epoch_end: OnEpochEnd = ignore_epoch, checkpoints: Folder | None = None
) -> SearchResult:
    """Search an architecture on the fold's train part by `settings.search.method`; dev chooses the epoch.

    `on_epoch_end` and `checkpoints` as in `run_fold`.
    """
    unfinished, finished = search_checkpoints(checkpoints, data, seed)
    checkpoint = finished.load()
    if checkpoint is not None:
        search_result = SearchResult.from_checkpoint(checkpoint)
        for record in search_result.epochs:
            on_epoch_end(record)
        return search_result
    task = search_task(data, seed)
    search_result = run_search(task, _candidate_trainer(data, task), on_epoch_end, unfinished)
    finished.save(search_result.to_checkpoint())
    if unfinished.storage is not None and unfinished.storage.is_local:  # elsewhere it is deleted with the others
        unfinished.delete()
    return search_result


def adopt_genotype(data: FoldData, transferred: TransferredGenotype) -> SearchResult:
    """What a search on other data found, as if it had been found here: no epochs, no time, and sizes for these data.

    Raises EmodartsError for settings whose network is not searched, or has other numbers of nodes or of layers.
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
    layers_of_cells(shape, genotype)
    return SearchResult(genotype, transferred.derived_at, (), None, shape, 0.0)


def derive(data: FoldData, search_result: SearchResult) -> Architecture:
    """The architecture that a search found, at the sizes of the training.

    `search.match_parameters` changes these for the fixed architecture; raises EmodartsError where it cannot.
    """
    search, shape = data.settings.search, _training_shape(search_result.shape, data.settings.training)
    unsearched = {*shape.kinds} - {*search_result.shape.kinds}
    if unsearched and search.method not in ("fixed", "random_architecture", "sampler"):
        raise EmodartsError(
            f"training.depth={shape.cells} needs a reduction cell, and a search of {search_result.shape.cells} cell "
            "has none: set search.cells to 2 or more"
        )
    if search.method == "fixed" and search.match_parameters is not None:
        shape = match_parameters(shape, search_result.genotype, search.match_parameters)
    return Architecture(shape, search_result.genotype)


def hand_designed(data: FoldData) -> Architecture:
    """The hand-designed network that `settings.system` names, at the sizes of the training."""
    return Architecture(_training_shape(_supernet_shape(data), data.settings.training), None, data.settings.system)


def train(
    data: FoldData,
    architecture: Architecture,
    seed: int = 0,
    on_epoch_end: OnEpochEnd = ignore_epoch,
    checkpoints: Folder | None = None,
) -> TrainedNetwork:
    """Train the architecture's network from scratch on the fold's train part; dev chooses the epoch."""
    files = training_checkpoints(checkpoints, data, architecture.genotype, seed)
    return training.train(architecture.build, training_task(data, seed), data.dev, on_epoch_end, files)


def refit(
    data: FoldData,
    architecture: Architecture,
    utterances: Sequence[str],
    epochs: int,
    seed: int = 0,
    on_epoch_end: OnEpochEnd = ignore_epoch,
) -> tuple[DiscreteNetwork, Standardiser]:
    """Train the architecture's network on any utterances of the fold, for so many epochs: nothing chooses one of them.

    Returned with the statistics of these utterances, by which its inputs are standardised where the normalisation is
    `train`; by the others, each speaker has those of all its recordings among them.
    """
    standardiser, rule = Standardiser.fit(data.store, utterances), data.settings.features.normalisation
    normaliser = Normaliser(data.store, rule, {"train": utterances}, data.fold.speakers, standardiser)
    part = FoldPart.of(data.store, normaliser.standardiser(utterances), data.fold, utterances)
    task = replace(training_task(data, seed), part=part)
    return training.refit(architecture.build, task, epochs, on_epoch_end), standardiser


def training_task(data: FoldData, seed: int) -> TrainingTask:
    """The training of a final network: on all of the fold's train part."""
    s = data.settings
    return TrainingTask(data.train, s.training, s.features, s.batches, seed, data.device)


def predict(data: FoldData, network: DiscreteNetwork, utterances: Sequence[str]) -> NDArray[np.float32]:
    """Class probabilities `(utterances, classes)` of utterances of the fold; the classes are `fold.classes`."""
    return predict_part(data, network, data.part(utterances))


def predict_part(data: FoldData, network: DiscreteNetwork, part: FoldPart) -> NDArray[np.float32]:
    """Class probabilities `(utterances, classes)` of a part."""
    return prediction.predict(network, part, data.settings.training.batch_size, data.device)


def search_task(data: FoldData, seed: int) -> SearchTask:
    """The search's task: its weights and alphas learn from the two halves of train, or both from all of it."""
    task = single_level_task(data, data.part(data.search_fold.train), seed)
    if data.settings.search.optimisation == "single":
        return task
    halves = split_train_part(data.search_fold, derive_seed(seed, "split"))
    weight_part, alpha_part = (data.part(ids) for ids in halves)
    return replace(task, weight_part=weight_part, alpha_part=alpha_part)


def single_level_task(data: FoldData, train: FoldPart, seed: int) -> SearchTask:
    """A task whose weights and alphas learn from all of `train`."""
    s, classes = data.settings, len(data.fold.classes)
    dev = data.dev if data.fold.dev else None
    sizes = s.training.sequence_rate, s.training.layer
    return SearchTask(train, train, train, dev, classes, s.search, s.features, s.batches, seed, data.device, *sizes)


def _supernet_shape(data: FoldData) -> NetworkShape:
    """The sizes of a search's networks; a part of train that is too small to search with does not matter."""
    return single_level_task(data, data.train, 0).shape


def _candidate_trainer(data: FoldData, task: SearchTask) -> Evaluate:
    """How a search without a supernet evaluates a genotype: trained like a final network, and measured on dev."""

    def evaluate(genotype: Genotype, epochs: int, seed: int) -> CandidateResult:
        settings = replace(data.settings.training, epochs=epochs)
        candidate = replace(training_task(data, seed), part=task.train_part, settings=settings)
        trained = training.train(Architecture(task.shape, genotype).build, candidate, data.dev)
        uar, minus_loss = trained.epochs[trained.epoch].dev_rank
        return CandidateResult(uar, -minus_loss)

    return evaluate


def _training_shape(shape: NetworkShape, s: TrainingSettings) -> NetworkShape:
    channels, width = s.channels or shape.channels, s.sequence_width or shape.sequence_width
    channels, width = scale_widths(channels, width, s.width)
    strides = (s.stem_strides[0], s.stem_strides[1]) if s.stem_strides else shape.stem_strides
    return replace(
        shape,
        cells=s.depth or shape.cells,
        depth=s.depth,
        channels=channels,
        sequence_width=width,
        stem_strides=strides
        if shape.reductions and shape.frame_layers is None
        else (strides[0], shape.stem_strides[1]),
        dropout=s.dropout,
    )
