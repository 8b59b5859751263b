"""`sweep.forecast=true`: how long a sweep will take, and what it can show. A few epochs are run and nothing is written.

The cheapest and the dearest of a sample of configurations are searched and trained for some epochs on part of a fold.
The seconds of an epoch are a straight line in its multiply-accumulates through these two; the hours are those of the
sample's configurations, each handed to the slot that is free first.
"""

import heapq
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from emodarts.console import print_line
from emodarts.corpora.protocols.folds import Fold
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.fold_settings import SVM, FoldSettings
from emodarts.experiment.stages import derive, hand_designed, single_level_task
from emodarts.experiment.train_parts import subsample
from emodarts.experiment.unit import run_fold
from emodarts.features.normalisation import Standardiser
from emodarts.features.store.joined import AnyStore
from emodarts.networks.costs import count_macs, supernet_macs
from emodarts.processors import choose_device
from emodarts.search.controls import fixed_architecture
from emodarts.search.settings import SearchSettings
from emodarts.seeds import derive_seed
from emodarts.storage import Storage
from emodarts.training.train import crop_frames
from sweeps.execution.sweep_spec import SweepSpec
from sweeps.nodes.node_tasks import node_tasks
from sweeps.settings import Settings
from sweeps.study.search_space import SearchSpace
from sweeps.units.study_queue import units_per_fold
from sweeps.variants.jobs import SweepJob
from sweeps.variants.power import describe_power

SLOTS = (1, 2, 8, 64)
_SAMPLE_SIZE = 64  # configurations
_MAX_UTTERANCES = 400  # of train in the measured epochs; dev in proportion
# Measured epochs of search (alphas fixed in the first ones) and of training; the first of each is not counted.
_WARMUP_EPOCHS, _MOVING_EPOCHS, _TRAINING_EPOCHS = 2, 2, 3
_WORKER_START = 10.0  # s until a new worker has imported and read what it needs


Point = tuple[float, float]  # multiply-accumulates, and the seconds of an epoch on all of the fold


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates for one utterance: of the supernet, and of the final network; 0 where there is none."""

    supernet: float
    network: float


@dataclass(frozen=True)
class Measured:
    """An epoch of search with the alphas fixed, one with them moving, one of training; and the seconds in which a
    genotype is selected.
    """

    search: tuple[Point, Point]
    training: Point
    selection: float


class _TimeModel:
    """Seconds of an epoch as straight lines in multiply-accumulates through what was measured."""

    def __init__(self, measured: list[Measured]):
        self.search = _fit_line([point for m in measured for point in m.search])
        self.training = _fit_line([m.training for m in measured])
        self.selection = max(m.selection for m in measured)

    def seconds(self, settings: FoldSettings, macs: Macs) -> float:
        """Seconds of a unit with these settings."""
        s, (intercept, slope) = settings.search, self.search
        moving_epochs = s.epochs - s.warmup if s.method == "darts" else 0
        warmup, moving = (intercept + slope * macs.supernet * passes for passes in _passes(s))
        search = (s.epochs - moving_epochs) * warmup + moving_epochs * moving
        training = settings.training.epochs * (self.training[0] + self.training[1] * macs.network)
        return (search + self.selection if settings.searches else 0.0) + training


@dataclass(frozen=True)
class Forecast:
    """Seconds of each unit of a system, and what they were measured on: the `device` by its name, and `utterances` of
    `of` of a fold's train part.

    `measuring`: the seconds that it took.
    """

    seconds: NDArray[np.float64]
    device: str
    utterances: int
    of: int
    memory_mb: float
    measuring: float

    def hours(self, slots: int) -> float:
        """Until the last unit has ended, each handed to the slot that is free first."""
        free_at = [_WORKER_START] * slots
        for unit in self.seconds:
            heapq.heappush(free_at, heapq.heappop(free_at) + float(unit))
        return max(free_at) / 3600


class FoldsWithFeatures(Protocol):
    """Folds by number, and the features of their utterances."""

    @property
    def folds(self) -> dict[int, Fold]:
        """The folds."""

    @property
    def store(self) -> AnyStore:
        """The features."""


@dataclass(frozen=True)
class NodeData:
    """`FoldsWithFeatures` as a node has them."""

    store: AnyStore
    folds: dict[int, Fold]

    @classmethod
    def of(cls, sweep: SweepSpec) -> "NodeData":
        """Those of a sweep. Raises StorageError where its features are out of reach."""
        return cls(sweep.open_stores(Storage.open(sweep.results)), sweep.folds)


def forecast_units(settings: Settings, space: SearchSpace, data: FoldsWithFeatures) -> Forecast:
    """Measure, and forecast the seconds of each unit of a system. Raises EmodartsError for a search by candidates."""
    sweep, method, start = settings.sweep, space.settings.search.method, time.perf_counter()
    if space.settings.searches and method not in ("darts", "frozen", "random_architecture", "fixed", "sampler"):
        raise EmodartsError(f"search.method={method} has no supernet of alphas to measure")
    device = choose_device(settings.resources.device)
    torch.set_num_threads(settings.resources.cpus_per_trial)
    fold = next(iter(data.folds.values()))
    part = part_of(fold)
    sample = _sample(settings, space)
    macs = [macs_of(fold_settings, data) for fold_settings in sample]
    work = [_work(fold_settings, m) for fold_settings, m in zip(sample, macs, strict=True)]
    extremes = dict.fromkeys((int(np.argmin(work)), int(np.argmax(work))))
    model = _TimeModel([measure(sample[i], macs[i], data, part, device) for i in extremes])
    seconds = np.array([model.seconds(fold_settings, m) for fold_settings, m in zip(sample, macs, strict=True)])
    folds = len(data.folds)
    count = folds * units_per_fold(sweep)  # a race on inner splits may need fewer
    # The preset's own configuration comes first on every fold.
    units = np.concatenate([np.full(folds, seconds[0]), np.resize(seconds[1:], max(0, count - folds))])[:count]
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "this machine's CPU"
    return Forecast(units, name, len(part.train), len(fold.train), _memory_mb(device), time.perf_counter() - start)


def forecast_on_node(settings: Settings, space: SearchSpace, sweep: SweepSpec) -> Forecast:
    """`forecast_units` as a task on a node. Raises EmodartsError."""
    return forecast_units(settings, space, NodeData.of(sweep))


def print_forecasts(jobs: Sequence[SweepJob], storage: Storage, console: Console) -> None:
    """Forecast the first sweep; of the published protocol beside it, which costs little, the units are counted.

    Raises EmodartsError for a search by candidates, unless there are several systems.
    """
    first, *others = jobs
    settings = first.settings
    with node_tasks(settings, console) as tasks:
        sweep = SweepSpec.publish(settings, storage, first.data) if tasks is not None else None
        for name, space in first.systems.items():
            try:
                forecast = (
                    forecast_units(settings, space, first.data)
                    if tasks is None
                    else tasks.run(forecast_on_node, settings, space, sweep)
                )
                print_forecast(name, forecast, console)
            except EmodartsError as error:
                if len(first.systems) == 1:
                    raise
                print_line(console, f"{name}: no forecast: {error}")
    for line in describe_power(first.data.folds.values(), settings.sweep.seeds):
        print_line(console, line)
    for job in others:
        units = len(job.systems) * len(job.data.folds) * job.settings.sweep.seeds
        console.print(f"beside it {units} units of the preset's own configuration by {job.data.protocol}")


def print_forecast(system: str, forecast: Forecast, console: Console) -> None:
    """Print hours and memory of a system, and what they rest on."""
    console.print(f"{system}: {len(forecast.seconds)} units", highlight=False)
    table = Table()
    for name in ("slots", "time"):
        table.add_column(name, justify="right")
    for slots in SLOTS:
        hours = forecast.hours(slots)
        table.add_row(str(slots), f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min")
    console.print(table)
    low, high, mean = forecast.seconds.min(), forecast.seconds.max(), forecast.seconds.mean()
    for line in (
        f"a unit: {mean:.0f} s on average, {low:.0f} to {high:.0f} s; memory of a worker about "
        f"{forecast.memory_mb:.0f} MB",
        f"measured in {forecast.measuring:.0f} s on {forecast.device}, with {forecast.utterances} of {forecast.of} "
        "utterances of train, alone: slots that share its cores or its GPU are slower; nothing is said of other "
        "devices",
        "assumed: configurations are drawn evenly, no unit is pruned or fails, every slot is like this one",
    ):
        print_line(console, line)


def _sample(settings: Settings, space: SearchSpace) -> list[FoldSettings]:
    """The preset's own configuration, and others drawn evenly."""
    sampler = optuna.samplers.RandomSampler(seed=derive_seed(settings.sweep.seed, "plan") % 2**31)
    study = optuna.create_study(sampler=sampler)
    drawn = [space.suggest(study.ask()) for _ in range(_SAMPLE_SIZE - 1 if space.free else 0)]
    return [space.apply(parameters) for parameters in (space.default_parameters(), *drawn)]


def part_of(fold: Fold) -> Fold:
    """At most `_MAX_UTTERANCES` of train with the classes in proportion, and the same fraction of dev."""
    train = subsample(fold, _MAX_UTTERANCES).ids
    count = max(1, round(len(train) / len(fold.train) * len(fold.dev)))
    positions = np.random.default_rng(0).permutation(len(fold.dev))[:count].tolist()
    return replace(fold, train=train, dev=tuple(fold.dev[position] for position in sorted(positions)))


def macs_of(settings: FoldSettings, data: FoldsWithFeatures) -> Macs:
    """Of a configuration: where a search will choose the final network, the plain architecture stands for it."""
    if settings.system == SVM:
        return Macs(0.0, 0.0)
    s, fold = settings.search, next(iter(data.folds.values()))
    fold = replace(fold, train=fold.train[:2], dev=(), tests={})
    few = FoldData(data.store, fold, settings, "cpu", Standardiser.fit(data.store, fold.train), None)
    supernet, architecture = 0, None if settings.searches else hand_designed(few)
    if architecture is None:
        task = single_level_task(few, few.train, 0)
        architecture = derive(few, fixed_architecture(task))
        supernet = supernet_macs(task.shape, s.all_cnn_operations, s.seqnn_operations, task.crop)
    crop = crop_frames(settings.training.crop_seconds, settings.features)
    return Macs(float(supernet), float(count_macs(architecture.build(), crop)))


def _work(settings: FoldSettings, macs: Macs) -> float:
    """What orders configurations from cheap to dear."""
    s, (warmup, moving) = settings.search, _passes(settings.search)
    search = macs.supernet * (s.warmup * warmup + (s.epochs - s.warmup) * moving)
    return search + macs.network * settings.training.epochs


def _passes(s: SearchSettings) -> tuple[float, float]:
    """Passes forward and backward for each utterance of train: in an epoch with the alphas fixed, and moving."""
    fraction = 1.0 if s.optimisation == "single" else 0.5  # of train, what the weights learn from
    return fraction, fraction * s.passes_per_utterance


def measure(settings: FoldSettings, macs: Macs, data: FoldsWithFeatures, part: Fold, device: str) -> Measured:
    """Run a unit of some epochs of search and training on part of a fold; the first of each is not counted."""
    s, epochs = settings.search, _WARMUP_EPOCHS + _MOVING_EPOCHS
    shortened = replace(
        settings,
        search=replace(s, epochs=epochs, warmup_epochs=_WARMUP_EPOCHS, subsample=None, stop="none", proposals=1),
        training=replace(settings.training, epochs=_TRAINING_EPOCHS),
    )
    if s.method == "sampler":  # any architecture of its space
        shortened = replace(shortened, search=replace(shortened.search, method="fixed"))
    records = run_fold(data.store, part, shortened, device=device, tests=False)
    searched, trained = ([e.seconds for e in records.epochs if e.phase == phase] for phase in ("search", "train"))
    utterances = len(data.folds[part.index].train)
    scale, search_scale = utterances / len(part.train), min(utterances, s.subsample or utterances) / len(part.train)
    training = np.mean(trained[1:]) if trained else records.train_seconds / settings.training.epochs  # an SVM has none
    warmup, moving = (np.mean(x) if x else 0.0 for x in (searched[1:_WARMUP_EPOCHS], searched[_WARMUP_EPOCHS:]))
    seconds = search_scale * float(warmup), search_scale * float(moving)
    points = [(macs.supernet * passes, x) for passes, x in zip(_passes(s), seconds, strict=True)]
    return Measured(
        (points[0], points[1]), (macs.network, scale * float(training)), records.search_seconds - sum(searched)
    )


def _fit_line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Intercept and slope by least squares, neither below 0."""
    x, y = np.array(points).T
    spread = np.square(x - x.mean()).sum()
    slope = max(0.0, float(((x - x.mean()) * (y - y.mean())).sum() / spread)) if spread > 0 else 0.0
    intercept = float(y.mean() - slope * x.mean())
    if intercept >= 0:
        return intercept, slope
    return 0.0, float((x * y).sum() / np.square(x).sum())


def _memory_mb(device: str) -> float:
    """The most that this process, or its GPU, has held so far."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)
