"""The checkpoints of a unit of work: a file for each stage, and what the result of a stage depends on."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoints, never, within_name
from emodarts.experiment.fold_data import FoldData
from emodarts.networks.genotype import Genotype
from emodarts.provenance import package_versions, source_digest
from emodarts.storage import Storage


@dataclass(frozen=True)
class StoppableFolder:
    """A folder of a unit's checkpoints, and what is asked after each batch: whether the unit is to stop there."""

    storage: Storage
    should_stop: Callable[[], bool]


Folder = Path | Storage | StoppableFolder  # of a unit's checkpoints
_REMOTE_SECONDS = 60.0  # of work that a stop may cost on an object store, where each file is a request that costs money
_STAGES = _SEARCH, _SEARCH_RESULT, _TRAINING = "search", "searched", "training"


def search_checkpoints(folder: Folder | None, data: FoldData, seed: int) -> tuple[Checkpoints, Checkpoints]:
    """Those of a running search, and that of its result."""
    return _checkpoints(folder, _SEARCH, data, seed), _checkpoints(folder, _SEARCH_RESULT, data, seed)


def training_checkpoints(folder: Folder | None, data: FoldData, genotype: Genotype | None, seed: int) -> Checkpoints:
    """Those of the training of a genotype (None: of a hand-designed network)."""
    return _checkpoints(folder, _TRAINING, data, seed, genotype=None if genotype is None else genotype.to_json())


def discard_checkpoints(folder: Folder) -> None:
    """Delete a unit's checkpoints, and their folder if nothing else is in it: its records are written."""
    storage = _storage(folder)
    files = [_file(stage) for stage in _STAGES]
    names, own = set(storage.list("")), {*files, *map(within_name, files)}
    if names <= own:
        if names or storage.is_local:
            storage.delete_folder("")
        return
    for name in names & own:
        storage.delete(name)


def _checkpoints(folder: Folder | None, stage: str, data: FoldData, seed: int, **identity: str | None) -> Checkpoints:
    if folder is None:
        return NO_CHECKPOINTS
    storage = _storage(folder)
    seconds = 0.0 if storage.is_local else _REMOTE_SECONDS
    should_stop = folder.should_stop if isinstance(folder, StoppableFolder) else never
    return Checkpoints(storage, _file(stage), {**_unit_identity(data, seed), **identity}, seconds, should_stop)


def _file(stage: str) -> str:
    return f"{stage}.safetensors"


def _storage(folder: Folder) -> Storage:
    if isinstance(folder, StoppableFolder):
        return folder.storage
    return folder if isinstance(folder, Storage) else Storage.open(folder)


def _unit_identity(data: FoldData, seed: int) -> dict[str, Any]:
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
