"""One unit of work: a complete search on one fold, training and test of what it found. No Ray, one process."""

import importlib.metadata
import json
import resource
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch

from emodarts.corpora.protocols import Fold, check
from emodarts.features.batches import Part, Standardiser
from emodarts.features.settings import FeatureSettings
from emodarts.features.store import Store
from emodarts.networks.costs import count_macs, count_parameters
from emodarts.results.records import EpochRecord, Evaluation, GenotypeRecord, UnitRecords
from emodarts.search.loop import Searched, search, split_train_part
from emodarts.search.settings import SearchSettings
from emodarts.seeds import derive_seed
from emodarts.training.prediction import predict
from emodarts.training.settings import TrainingSettings
from emodarts.training.train import Trained, train

Progress = Callable[[EpochRecord], None]
EPOCH_RULE = "late_dev"


@dataclass(frozen=True)
class FoldSettings:
    """Everything that shapes a unit's result beside its fold and seed."""

    features: FeatureSettings = field(default_factory=FeatureSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)


def run_fold(
    store: Store,
    fold: Fold,
    settings: FoldSettings,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = lambda record: None,
) -> UnitRecords:
    """Search, derive, train, predict: all that one fold has to tell.

    The test part is not touched before the final network's epoch is chosen. Raises EmodartsError for a leaking fold
    and FloatingPointError where a loss is not finite.
    """
    check(fold)
    standardiser = Standardiser.fit(store, fold.train)
    dev = Part.of(store, standardiser, fold, fold.dev)
    searched = _search(store, standardiser, fold, dev, settings, seed, device, progress)
    trained = _train(store, standardiser, fold, dev, searched, settings, seed, device, progress)
    evaluations = [_evaluation(fold, fold.dev, "supernet", "dev", "dev", searched.dev_probabilities)]
    tests = [("dev", "dev", fold.dev), *(("test", name, ids) for name, ids in fold.tests.items())]
    for role, name, utterances in tests:
        part = Part.of(store, standardiser, fold, utterances)
        probabilities = predict(trained.network, part, settings.training.batch_size, device)
        evaluations.append(_evaluation(fold, utterances, "final", role, name, probabilities))
    return _records(searched, trained, evaluations, settings)


def _frames_per_second(settings: FoldSettings) -> float:
    return 1000 / settings.features.hop_ms


def _search(
    store: Store,
    standardiser: Standardiser,
    fold: Fold,
    dev: Part,
    settings: FoldSettings,
    seed: int,
    device: str,
    progress: Progress,
) -> Searched:
    halves = split_train_part(fold, derive_seed(seed, "split"))
    weight_part, alpha_part = (Part.of(store, standardiser, fold, ids) for ids in halves)
    speeds = list(settings.features.speeds)
    return search(
        weight_part,
        alpha_part,
        dev,
        len(fold.classes),
        settings.search,
        speeds,
        _frames_per_second(settings),
        seed,
        device,
        progress,
    )


def _train(
    store: Store,
    standardiser: Standardiser,
    fold: Fold,
    dev: Part,
    searched: Searched,
    settings: FoldSettings,
    seed: int,
    device: str,
    progress: Progress,
) -> Trained:
    s = settings.training
    shape = replace(
        searched.shape,
        channels=s.channels or searched.shape.channels,
        sequence_width=s.sequence_width or searched.shape.sequence_width,
        dropout=s.dropout,
    )
    part = Part.of(store, standardiser, fold, fold.train)
    speeds = list(settings.features.speeds)
    return train(searched.genotype, shape, part, dev, s, speeds, _frames_per_second(settings), seed, device, progress)


def _evaluation(
    fold: Fold, utterances: tuple[str, ...], stage: str, role: str, test_set: str, probabilities: object
) -> Evaluation:
    return Evaluation(
        stage=stage,
        epoch_rule=EPOCH_RULE,
        role=role,
        test_set=test_set,
        normalisation="train",
        utterances=utterances,
        speakers=tuple(fold.speakers.get(u) for u in utterances),
        labels=tuple(fold.labels.get(u) for u in utterances),
        probabilities=probabilities,
    )


def _records(
    searched: Searched, trained: Trained, evaluations: list[Evaluation], settings: FoldSettings
) -> UnitRecords:
    network = trained.network
    shape = json.dumps({**asdict(network.shape), "layout": network.shape.layout}, sort_keys=True)
    frames = round(settings.training.crop_seconds * _frames_per_second(settings))
    return UnitRecords(
        evaluations=tuple(evaluations),
        epochs=searched.epochs + trained.epochs,
        genotypes=(GenotypeRecord("final", searched.genotype.to_json(), shape, searched.epoch),),
        parameters=count_parameters(network),
        macs=count_macs(network, frames),
        search_seconds=searched.seconds,
        train_seconds=trained.seconds,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        settings_json=json.dumps(asdict(settings), sort_keys=True),
        git_revision=git_revision(),
        packages_json=package_versions(),
    )


@lru_cache
def git_revision() -> str | None:
    """The checked-out commit (`-dirty` where files were changed), or None outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


@lru_cache
def package_versions() -> str:
    """Versions of what shapes a number, as JSON."""
    names = ("emodarts", "torch", "torchaudio", "numpy", "pyarrow", "soundfile", "soxr")
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return json.dumps(found, sort_keys=True)


def choose_device(name: str) -> str:
    """`auto` -> cuda where there is one, else cpu; other names as they are."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
