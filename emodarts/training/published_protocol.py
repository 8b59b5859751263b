"""The published habit, for comparison alone: no dev part, and test is looked at after every epoch of the training.

Nothing that is measured here may choose anything but the labelled row which shows what such a choice is worth.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoint, Checkpoints
from emodarts.features.batches import FoldPart, training_batches
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.networks.network import DiscreteNetwork
from emodarts.records import EpochRecord
from emodarts.seeds import derive_seed
from emodarts.training.prediction import figures_of, predict
from emodarts.training.settings import TrainingSettings
from emodarts.training.train import Progress, TrainedNetwork, TrainingState, crop_frames


@dataclass(frozen=True)
class EpochPredictions:
    """Probabilities `(utterances, classes)` on a test set: after the last epoch so far, and after the one of them that
    had the best UAR there, `uar` (the first of several).
    """

    last: NDArray[np.float32]
    best: NDArray[np.float32]
    uar: float

    @classmethod
    def after(
        cls, before: "EpochPredictions | None", probabilities: NDArray[np.float32], test: FoldPart
    ) -> "EpochPredictions":
        """With one more epoch."""
        uar = figures_of(probabilities, test).uar
        if before is None or uar > before.uar:
            return cls(probabilities, probabilities, uar)
        return replace(before, last=probabilities)


def train(
    build: Callable[[], DiscreteNetwork],
    part: FoldPart,
    tests: Mapping[str, FoldPart],
    settings: TrainingSettings,
    features: FeatureSettings,
    batches: BatchSettings,
    seed: int,
    device: str = "cpu",
    progress: Progress = lambda record: None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> tuple[TrainedNetwork, dict[str, EpochPredictions]]:
    """Train as `training.train` does, step for step, to the last epoch; try each epoch on test sets with known labels.

    The epochs' dev figures are None, and the test figures stand in no record. Raises as `training.train`.
    """
    torch.manual_seed(derive_seed(seed, "training"))
    rng = np.random.default_rng(derive_seed(seed, "training batches"))
    network = build().to(device)
    course, kept = TrainingState(network, part, settings, rng, device), checkpoints.load()
    course.resume(kept)
    tried = _tried(kept)
    for record in course.records:
        progress(record)
    crop = crop_frames(settings, features)
    for epoch in range(len(course.records), settings.epochs):
        start = time.perf_counter()
        loss = course.epoch(epoch, training_batches(part, settings.batch_size, crop, rng, device, batches))
        record = EpochRecord("train", epoch, loss, None, None, None, time.perf_counter() - start)
        for name, test in tests.items():
            probabilities = predict(network, test, settings.batch_size, device)
            tried[name] = EpochPredictions.after(tried.get(name), probabilities, test)
        course.records.append(record)
        if checkpoints.due(epoch + 1):
            checkpoints.save(_with(course.checkpoint(), tried))
        progress(record)
    seconds = sum(record.seconds for record in course.records)
    return TrainedNetwork(network.eval(), settings.epochs - 1, tuple(course.records), seconds), tried


def _with(checkpoint: Checkpoint, tried: Mapping[str, EpochPredictions]) -> Checkpoint:
    """The course's checkpoint with what was found on the test sets."""
    tensors: dict[str, Tensor] = {}
    for name, found in tried.items():
        # Copies: they may be the same array, and a checkpoint keeps no two tensors of one memory.
        tensors |= {f"last on {name}": torch.tensor(found.last), f"best on {name}": torch.tensor(found.best)}
    uars: dict[str, Any] = {"tried": {name: found.uar for name, found in tried.items()}}
    return Checkpoint({**checkpoint.tensors, **tensors}, {**checkpoint.state, **uars})


def _tried(kept: Checkpoint | None) -> dict[str, EpochPredictions]:
    """The reverse of `_with`."""
    if kept is None:
        return {}
    return {
        name: EpochPredictions(kept.tensors[f"last on {name}"].numpy(), kept.tensors[f"best on {name}"].numpy(), uar)
        for name, uar in kept.state["tried"].items()
    }
