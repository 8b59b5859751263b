"""The checkpoints of a unit of work: a file for each stage, and what the result of a stage depends on."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoint, Checkpoints
from emodarts.experiment.fold_data import FoldData
from emodarts.networks.genotype import Genotype
from emodarts.networks.network import NetworkShape
from emodarts.provenance import package_versions, source_digest
from emodarts.records import EpochRecord
from emodarts.search.task import SearchResult
from emodarts.storage import Storage

Folder = Path | Storage  # of a unit's checkpoints
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
    for stage in _STAGES:
        Checkpoints(storage, _file(stage)).delete()
    if not storage.list(""):
        storage.delete_folder("")


def search_to_checkpoint(search_result: SearchResult) -> Checkpoint:
    """The result of a search, to be kept until the unit is done."""
    probabilities = search_result.dev_probabilities
    return Checkpoint(
        {} if probabilities is None else {"dev_probabilities": torch.from_numpy(probabilities)},
        {
            "genotype": search_result.genotype.to_json(),
            "epoch": search_result.epoch,
            "records": [asdict(record) for record in search_result.epochs],
            "shape": asdict(search_result.shape),
            "seconds": search_result.seconds,
        },
    )


def search_from_checkpoint(checkpoint: Checkpoint) -> SearchResult:
    """The reverse of `search_to_checkpoint`."""
    state, probabilities = checkpoint.state, checkpoint.tensors.get("dev_probabilities")
    shape = {**state["shape"], "stem_strides": tuple(state["shape"]["stem_strides"])}
    return SearchResult(
        genotype=Genotype.from_json(state["genotype"]),
        epoch=state["epoch"],
        epochs=tuple(EpochRecord(**record) for record in state["records"]),
        dev_probabilities=None if probabilities is None else probabilities.numpy(),
        shape=NetworkShape(**shape),
        seconds=state["seconds"],
    )


def _checkpoints(folder: Folder | None, stage: str, data: FoldData, seed: int, **identity: str | None) -> Checkpoints:
    if folder is None:
        return NO_CHECKPOINTS
    return Checkpoints(_storage(folder), _file(stage), {**_unit_identity(data, seed), **identity})


def _file(stage: str) -> str:
    return f"{stage}.safetensors"


def _storage(folder: Folder) -> Storage:
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
