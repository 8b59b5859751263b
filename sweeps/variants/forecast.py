"""`sweep.forecast=true`: what a sweep will take, told before it is paid for. A few epochs are run, nothing is written.

The cheapest and the dearest of a sample of configurations are searched and trained for some epochs on part of a fold.
What an epoch takes is a straight line in its multiply-accumulates through these; the hours are those of the sample's
configurations, each handed to the slot that is free first.
"""

import heapq
import resource
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from emodarts.corpora.protocols.folds import Fold
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import SVM, FoldData, FoldSettings
from emodarts.experiment.stages import derive, hand_designed, search, train
from emodarts.experiment.subsample import subsample
from emodarts.experiment.unit import run_fold
from emodarts.features.batches import FoldPart
from emodarts.features.normalisation import Standardiser
from emodarts.networks.costs import supernet_macs
from emodarts.processors import choose_device
from emodarts.records import EpochRecord
from emodarts.search.settings import SearchSettings
from emodarts.search.task import SearchTask
from emodarts.seeds import derive_seed
from sweeps.data.sweep_data import SweepData
from sweeps.execution.worker import SystemSpec
from sweeps.settings import Settings

SLOTS = (1, 2, 8, 64)
_SAMPLE = 64  # configurations
_MOST = 400  # utterances of train in the trial epochs; dev in proportion
_WARM, _MOVING, _TRAINING = 2, 2, 3  # trial epochs: alphas held, alphas moving, training; the first is not counted
_START = 10.0  # s until a new worker has imported and read what it needs


@dataclass(frozen=True)
class _Measured:
    """Seconds of an epoch of one configuration on all of the fold; `macs` of an utterance through its supernet.

    `passes` as `_passes` tells them.
    """

    macs: float
    warm: float
    moving: float
    passes: tuple[float, float]
    training: float
    selection: float


@dataclass(frozen=True)
class _Model:
    """Seconds of an epoch as straight lines in multiply-accumulates: (intercept, slope), neither below 0."""

    search: tuple[float, float]
    training: tuple[float, float]
    selection: float

    @classmethod
    def of(cls, measured: list[_Measured]) -> "_Model":
        """The lines through what was measured."""
        search = [(m.macs * p, t) for m in measured for p, t in zip(m.passes, (m.warm, m.moving), strict=True)]
        training = [(m.macs, m.training) for m in measured]
        return cls(_line(search), _line(training), max(m.selection for m in measured))

    def seconds(self, made: FoldSettings, macs: float) -> float:
        """Of a unit with these settings."""
        s, (begin, slope) = made.search, self.search
        moving = s.epochs - s.warmup if s.method == "darts" else 0
        of_warm, of_moving = (begin + slope * macs * passes for passes in _passes(s))
        search = (s.epochs - moving) * of_warm + moving * of_moving
        training = made.training.epochs * (self.training[0] + self.training[1] * macs)
        return (search + self.selection if made.searches else 0.0) + training


@dataclass(frozen=True)
class Forecast:
    """Seconds of each unit of a sweep, and what was measured to tell."""

    seconds: NDArray[np.float64]
    device: str
    utterances: int
    of: int
    memory_mb: float
    measuring: float

    def hours(self, slots: int) -> float:
        """Until the last unit has ended, each handed to the slot that is free first."""
        free = [_START] * slots
        for unit in self.seconds:
            heapq.heappush(free, heapq.heappop(free) + float(unit))
        return max(free) / 3600


def forecast_units(settings: Settings, system: SystemSpec, data: SweepData) -> Forecast:
    """Measure, and foretell each unit's seconds of a system. Raises EmodartsError for a search by candidates."""
    fold_settings, begin = system.settings, time.perf_counter()
    if fold_settings.searches and fold_settings.search.method not in ("darts", "frozen", "random_architecture"):
        raise EmodartsError(f"search.method={fold_settings.search.method} has no supernet to measure")
    device = choose_device(settings.resources.device)
    torch.set_num_threads(settings.resources.cpus_per_trial)
    fold = next(iter(data.folds.values()))
    part = _part_of(fold)
    sample = _sample(settings, system)
    macs = [_macs(made, data) for made in sample]
    work = [_work(made, m) for made, m in zip(sample, macs, strict=True)]
    measured = []
    for number in dict.fromkeys((int(np.argmin(work)), int(np.argmax(work)))):
        seen = FoldData.of(data.store, part, sample[number], device)
        measured.append(_measure(sample[number], macs[number], seen, len(fold.train)))
    model = _Model.of(measured)
    seconds = np.array([model.seconds(made, m) for made, m in zip(sample, macs, strict=True)])
    count = len(data.folds) * settings.sweep.trials + (settings.sweep.seeds - 1) * len(data.folds)
    # The preset's own configuration comes first on every fold.
    firsts = len(data.folds)
    order = np.concatenate([np.full(firsts, seconds[0]), np.resize(seconds[1:], max(0, count - firsts))])[:count]
    return Forecast(order, device, len(part.train), len(fold.train), _memory(device), time.perf_counter() - begin)


def print_forecast(system: str, plan: Forecast, console: Console) -> None:
    """Print hours and memory of a system, and what they rest on."""
    console.print(f"{system}: {len(plan.seconds)} units", highlight=False)
    table = Table()
    for name in ("slots", "time"):
        table.add_column(name, justify="right")
    for slots in SLOTS:
        table.add_row(str(slots), _told(plan.hours(slots)))
    console.print(table)
    low, high, mean = plan.seconds.min(), plan.seconds.max(), plan.seconds.mean()
    for line in (
        f"a unit: {mean:.0f} s on average, {low:.0f} to {high:.0f} s; memory of a worker about {plan.memory_mb:.0f} MB",
        f"measured in {plan.measuring:.0f} s on {_named(plan.device)}, with {plan.utterances} of {plan.of} utterances "
        "of train, alone: slots that share its cores or its GPU are slower; nothing is said of other devices",
        "assumed: configurations are drawn evenly, no unit is pruned or fails, every slot is like this one",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def _sample(settings: Settings, system: SystemSpec) -> list[FoldSettings]:
    """The preset's own configuration, and others drawn evenly."""
    sampler = optuna.samplers.RandomSampler(seed=derive_seed(settings.sweep.seed, "plan") % 2**31)
    study = optuna.create_study(sampler=sampler)
    space = system.space
    drawn = [space.suggest(study.ask()) for _ in range(_SAMPLE - 1 if space.free else 0)]
    return [system.with_parameters(p) for p in (space.default_parameters(system.settings), *drawn)]


def _part_of(fold: Fold) -> Fold:
    """At most so many utterances of train with the classes in proportion, and the same share of dev."""
    train = subsample(fold, _MOST).ids
    share = len(train) / len(fold.train)
    rng = np.random.default_rng(0)
    dev = [fold.dev[i] for i in sorted(rng.permutation(len(fold.dev))[: max(1, round(share * len(fold.dev)))].tolist())]
    return replace(fold, train=train, dev=tuple(dev))


def _macs(made: FoldSettings, data: SweepData) -> float:
    """Of a forward pass of one utterance through the supernet; 0 for a network that is not searched."""
    if not made.searches:
        return 0.0
    fold = next(iter(data.folds.values()))
    some = FoldPart.of(data.store, Standardiser.fit(data.store, fold.train[:2]), fold, fold.train[:2], None)
    task = SearchTask(some, some, some, some, len(fold.classes), made.search, made.features, made.batches, 0)
    s = made.search
    return float(supernet_macs(task.shape, s.all_cnn_operations, s.seqnn_operations, task.crop))


def _work(made: FoldSettings, macs: float) -> float:
    """What orders configurations from cheap to dear."""
    s, (warm, moving) = made.search, _passes(made.search)
    return macs * (s.warmup * warm + (s.epochs - s.warmup) * moving + made.training.epochs)


def _passes(s: SearchSettings) -> tuple[float, float]:
    """Passes forward and backward for each utterance of train: of an epoch with the alphas held, and moving."""
    share = 1.0 if s.optimisation == "single" else 0.5  # of train, what the weights learn from
    return share, share * s.passes_per_utterance


def _measure(made: FoldSettings, macs: float, data: FoldData, utterances: int) -> _Measured:
    """Run some epochs of search and training, the first of each not counted; the fold's train has `utterances`."""
    s = made.search
    shortened = replace(
        made,
        search=replace(s, epochs=_WARM + _MOVING, warmup_epochs=_WARM, subsample=None, stop="none"),
        training=replace(made.training, epochs=_TRAINING),
    )
    data = replace(data, settings=shortened)
    training_times = utterances / len(data.fold.train)
    search_times = min(utterances, s.subsample or utterances) / len(data.fold.train)
    warm = moving = selection = 0.0
    architecture = None
    if made.system == SVM:
        fitted = run_fold(data.store, data.fold, shortened, device=data.device, tests=False)
        return _Measured(macs, 0.0, 0.0, (1.0, 1.0), training_times * fitted.train_seconds / made.training.epochs, 0.0)
    if made.searches:
        found = search(data)
        if found.epochs:  # none of a random architecture
            warm, moving = (search_times * _mean(found.epochs[a:b]) for a, b in ((1, _WARM), (_WARM, None)))
        selection = found.seconds - sum(e.seconds for e in found.epochs)
        architecture = derive(data, found)
    trained = train(data, architecture or hand_designed(data))
    training = training_times * _mean(trained.epochs[1:])
    return _Measured(macs, warm, moving, _passes(s), training, selection)


def _line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Least squares with neither intercept nor slope below 0."""
    x, y = np.array(points).T
    spread = np.square(x - x.mean()).sum()
    slope = max(0.0, float(((x - x.mean()) * (y - y.mean())).sum() / spread)) if spread > 0 else 0.0
    intercept = float(y.mean() - slope * x.mean())
    if intercept >= 0:
        return intercept, slope
    return 0.0, float((x * y).sum() / np.square(x).sum())


def _mean(records: tuple[EpochRecord, ...]) -> float:
    return float(np.mean([record.seconds for record in records]))


def _memory(device: str) -> float:
    """The most that this process, or its GPU, has held so far, in MB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def _told(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def _named(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else "this machine's CPU"
