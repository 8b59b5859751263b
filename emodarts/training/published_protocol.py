"""The published habit, for comparison alone: no dev part, and test is looked at after every epoch of the training.

Nothing that is measured here may choose anything but the labelled row which shows what such a choice is worth.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emodarts.checkpoints import NO_CHECKPOINTS, Checkpoint, Checkpoints
from emodarts.features.batches import FoldPart
from emodarts.records import OnEpochEnd, ignore_epoch
from emodarts.training.prediction import figures_of, predict
from emodarts.training.train import Build, TrainedNetwork, TrainingState, TrainingTask


@dataclass(frozen=True)
class EpochPredictions:
    """Probabilities `(utterances, classes)` on a test set: after the last epoch so far, and after the one of them that
    had the best UAR there, `uar` (the first of several).
    """

    last: NDArray[np.float32]
    best: NDArray[np.float32]
    uar: float

    @classmethod
    def updated(
        cls, previous: "EpochPredictions | None", probabilities: NDArray[np.float32], test: FoldPart
    ) -> "EpochPredictions":
        """The `previous` ones and those of one more epoch."""
        uar = figures_of(probabilities, test).uar
        if previous is None or uar > previous.uar:
            return cls(probabilities, probabilities, uar)
        return replace(previous, last=probabilities)


def train(
    build: Build,
    task: TrainingTask,
    tests: Mapping[str, FoldPart],
    on_epoch_end: OnEpochEnd = ignore_epoch,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> tuple[TrainedNetwork, dict[str, EpochPredictions]]:
    """Train as `training.train` does, step for step, to the last epoch; predict test sets with known labels after each.

    The epochs' dev figures are None, and the test figures stand in no record. Raises as `training.train`.
    """
    state = _PublishedState(build, task, tests)
    state.resume(checkpoints.load())
    state.run(task.settings.epochs, on_epoch_end, checkpoints)
    return state.trained_network(task.settings.epochs - 1), state.predictions


class _PublishedState(TrainingState):
    """A training without a dev part, and the predictions on test sets of its last epoch and of the best one there."""

    def __init__(self, build: Build, task: TrainingTask, tests: Mapping[str, FoldPart]):
        super().__init__(build, task)
        self.tests, self.predictions = tests, dict[str, EpochPredictions]()

    def update_best(self) -> None:
        """Predict each test set by the present weights: the last predictions, and the best where they are."""
        for name, test in self.tests.items():
            probabilities = predict(self.network, test, self.settings.batch_size, self.task.device)
            self.predictions[name] = EpochPredictions.updated(self.predictions.get(name), probabilities, test)

    def checkpoint(self) -> Checkpoint:
        """Everything, the predictions included."""
        tensors: dict[str, Tensor] = {}
        for name, predicted in self.predictions.items():
            # Copies: they may be the same array, and a checkpoint keeps no two tensors of one memory.
            tensors |= {
                f"last on {name}": torch.tensor(predicted.last),
                f"best on {name}": torch.tensor(predicted.best),
            }
        uars = {name: predicted.uar for name, predicted in self.predictions.items()}
        return super().checkpoint() | Checkpoint(tensors, {"test_uars": uars})

    def resume(self, checkpoint: Checkpoint | None) -> None:
        """Go back to where a checkpoint was made; None: this is the start."""
        super().resume(checkpoint)
        if checkpoint is not None:
            tensors = checkpoint.tensors
            for name, uar in checkpoint.state["test_uars"].items():
                last, best = (tensors[f"{which} on {name}"].numpy() for which in ("last", "best"))
                self.predictions[name] = EpochPredictions(last, best, uar)
