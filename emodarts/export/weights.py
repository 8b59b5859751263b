"""Where the weights come from: result tables hold none, so the chosen units are trained again.

A unit's genotype, settings and seed stand in its rows, and training on a CPU gives the same bits again. Whether it did
is checked: the dev predictions of the new network are held against the stored ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from emodarts.corpora.protocols.folds import Fold
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.stages import Architecture, hand_designed, predict, train, training_task
from emodarts.export.data import SweepCorpus
from emodarts.export.graph import Member
from emodarts.export.units import ExportedUnit
from emodarts.features.batches import FoldPart
from emodarts.features.normalisation import Standardiser
from emodarts.records import EpochRecord
from emodarts.training.train import refit as train_on_all

Tell = Callable[[int, int], None]  # epochs done, of so many


def _nothing(done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Likeness:
    """How far a network that was trained again is from the stored one, on the dev part.

    `difference`: the largest of a probability; `labels`: of how many of `n` utterances the predicted label changed.
    """

    difference: float
    labels: int
    n: int

    def __str__(self) -> str:
        """One sentence."""
        if self.difference == 0:
            return f"the dev predictions ({self.n} utterances) equal the stored ones"
        return (
            f"the dev predictions differ from the stored ones: by up to {self.difference:.1e} of a probability, and in "
            f"{self.labels} of {self.n} labels (another machine, other versions, or a GPU)"
        )


def retrain(
    unit: ExportedUnit, data: SweepCorpus, device: str = "cpu", tell: Tell = _nothing
) -> tuple[Member, Likeness]:
    """A unit's network, trained again on its fold, and how like the stored one it is.

    Raises EmodartsError where the fold is not the one that the unit saw.
    """
    fold_data = _fold_data(unit, data, device)
    total = unit.settings.training.epochs

    def on_epoch_end(record: EpochRecord) -> None:
        tell(record.epoch + 1, total)

    trained = train(fold_data, _architecture(unit, fold_data), unit.seed, on_epoch_end)
    probabilities = predict(fold_data, trained.network, unit.dev_utterances)
    changed = probabilities.argmax(1) != unit.dev_probabilities.argmax(1)
    likeness = Likeness(
        float(np.abs(probabilities - unit.dev_probabilities).max()), int(changed.sum()), len(probabilities)
    )
    return Member(trained.network, fold_data.standardiser), likeness


def refit(unit: ExportedUnit, data: SweepCorpus, device: str = "cpu", tell: Tell = _nothing) -> tuple[Member, int]:
    """A unit's architecture, trained on all parts of its fold for the epochs that dev chose; how many utterances.

    There is no part left to measure it on. Raises EmodartsError where the fold is not the one that the unit saw.
    """
    fold_data = _fold_data(unit, data, device)
    utterances = labelled(fold_data.fold)
    standardiser = Standardiser.fit(data.store, utterances)
    part = FoldPart.of(data.store, standardiser, fold_data.fold, utterances)
    epochs = unit.epoch + 1
    task = replace(training_task(fold_data, unit.seed), part=part)
    network = train_on_all(
        _architecture(unit, fold_data).build, task, epochs, lambda record: tell(record.epoch + 1, epochs)
    )
    return Member(network, standardiser), len(utterances)


def labelled(fold: Fold) -> tuple[str, ...]:
    """The utterances of all parts of a fold whose label is known and declared."""
    tested = fold.test_ids
    return tuple(u for u in sorted({*fold.train, *fold.dev, *tested}) if fold.labels.get(u) in fold.classes)


def _fold_data(unit: ExportedUnit, data: SweepCorpus, device: str) -> FoldData:
    return FoldData.of(data.store, data.fold(unit.key), unit.settings, device)


def _architecture(unit: ExportedUnit, data: FoldData) -> Architecture:
    if unit.genotype is None or unit.shape is None:
        return hand_designed(data)
    bins, channels, classes = data.store.bins, data.store.channels, len(data.fold.classes)
    if (unit.shape.bins, unit.shape.input_channels, unit.shape.classes) != (bins, channels, classes):
        raise EmodartsError(
            f"{unit.key.name}: the network takes {unit.shape.input_channels} x {unit.shape.bins} values a frame for "
            f"{unit.shape.classes} classes, and the features have {channels} x {bins} for {classes}"
        )
    return Architecture(unit.shape, unit.genotype)
