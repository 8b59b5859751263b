"""One unit of work: a complete search on one fold, training and test of what it found. No Ray, one process."""

import importlib.metadata
import json
import resource
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch

from emodarts.corpora.protocols import Fold, check
from emodarts.errors import EmodartsError
from emodarts.features.batches import Part, Standardiser
from emodarts.features.resident import Resident, keep
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.features.store import Store
from emodarts.networks.costs import count_macs, count_parameters
from emodarts.results.records import EpochRecord, Evaluation, GenotypeRecord, UnitRecords
from emodarts.search.loop import Searched, search, split_train_part
from emodarts.search.settings import SearchSettings
from emodarts.search.subsample import subsample
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
    batches: BatchSettings = field(default_factory=BatchSettings)


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
    or one without dev part, and FloatingPointError where a loss is not finite.
    """
    check(fold)
    if not fold.dev:
        raise EmodartsError(
            f"{fold.protocol} fold {fold.index} has no dev part, and the search and the choice of an epoch need one: "
            f"choose a protocol with dev"
        )
    data = _Data.of(store, fold, settings.batches, device)
    dev = data.part(fold.dev)
    searched = _search(data, dev, settings, seed, device, progress)
    trained = _train(data, dev, searched, settings, seed, device, progress)
    evaluations = [_evaluation(fold, fold.dev, "supernet", "dev", "dev", searched.dev_probabilities)]
    tests = [("dev", "dev", fold.dev), *(("test", name, ids) for name, ids in fold.tests.items())]
    for role, name, utterances in tests:
        part = dev if role == "dev" else data.test_part(utterances)
        probabilities = predict(trained.network, part, settings.training.batch_size, device)
        evaluations.append(_evaluation(fold, utterances, "final", role, name, probabilities))
    return _records(searched, trained, evaluations, settings)


def subsample_name(fold: Fold, settings: FoldSettings) -> str | None:
    """The name of the part of train that the search sees, `size@seed:hash of the ids`; None: all of it."""
    s = settings.search
    return None if s.subsample is None else subsample(fold, s.subsample, s.subsample_seed).name


@dataclass(frozen=True)
class _Data:
    """A fold's features: standardised by its train part, train and dev on the device where they fit."""

    store: Store
    fold: Fold
    standardiser: Standardiser
    resident: Resident | None

    @classmethod
    def of(cls, store: Store, fold: Fold, batches: BatchSettings, device: str) -> "_Data":
        train, dev = store.positions(fold.train), store.positions(fold.dev)
        resident = keep(store, train, dev, device, batches.device_memory_share)
        return cls(store, fold, Standardiser.fit(store, fold.train), resident)

    def part(self, utterances: Sequence[str]) -> Part:
        """Utterances of train or dev."""
        return Part.of(self.store, self.standardiser, self.fold, utterances, self.resident)

    def test_part(self, utterances: Sequence[str]) -> Part:
        """Utterances of a test set, which are read once, at the end."""
        return Part.of(self.store, self.standardiser, self.fold, utterances)


def _search(data: _Data, dev: Part, settings: FoldSettings, seed: int, device: str, progress: Progress) -> Searched:
    fold, s = data.fold, settings.search
    seen = fold if s.subsample is None else replace(fold, train=subsample(fold, s.subsample, s.subsample_seed).ids)
    weight_part, alpha_part = (data.part(ids) for ids in split_train_part(seen, derive_seed(seed, "split")))
    classes = len(fold.classes)
    return search(weight_part, alpha_part, dev, classes, s, settings.features, settings.batches, seed, device, progress)


def _train(
    data: _Data, dev: Part, searched: Searched, settings: FoldSettings, seed: int, device: str, progress: Progress
) -> Trained:
    s = settings.training
    shape = replace(
        searched.shape,
        channels=s.channels or searched.shape.channels,
        sequence_width=s.sequence_width or searched.shape.sequence_width,
        dropout=s.dropout,
    )
    part = data.part(data.fold.train)
    return train(searched.genotype, shape, part, dev, s, settings.features, settings.batches, seed, device, progress)


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
    frames = max(1, round(settings.training.crop_seconds * settings.features.frames_per_second))
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
