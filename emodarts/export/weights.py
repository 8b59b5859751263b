"""Where the weights come from: result tables hold none, so the chosen units are trained again.

A unit's genotype, settings and seed stand in its rows, and training on a CPU gives the same bits again. Whether it did
is checked: the dev predictions of the new network are held against the stored ones.
"""

from dataclasses import dataclass

import numpy as np

from emodarts.corpora.protocols.folds import Fold
from emodarts.errors import EmodartsError
from emodarts.experiment import stages
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.stages import Architecture, hand_designed, predict, train
from emodarts.export.data import SweepCorpus
from emodarts.export.graph import Member
from emodarts.export.units import ExportedUnit
from emodarts.records import OnEpochEnd, ignore_epoch


@dataclass(frozen=True)
class DevAgreement:
    """How far a network that was trained again is from the stored one, on the dev part.

    `difference`: the largest of a probability; `changed_labels`: of how many of `n` utterances the predicted label is
    another.
    """

    difference: float
    changed_labels: int
    n: int

    def __str__(self) -> str:
        """One sentence."""
        if self.difference == 0:
            return f"the dev predictions ({self.n} utterances) equal the stored ones"
        return (
            f"the dev predictions differ from the stored ones: by up to {self.difference:.1e} of a probability, and in "
            f"{self.changed_labels} of {self.n} labels (another machine, other versions, or a GPU)"
        )


def retrain(
    unit: ExportedUnit, data: SweepCorpus, device: str = "cpu", on_epoch_end: OnEpochEnd = ignore_epoch
) -> tuple[Member, DevAgreement]:
    """A unit's network, trained again on its fold, and how far it agrees with the stored one.

    Raises EmodartsError where the fold is not the one that the unit saw.
    """
    fold_data = _fold_data(unit, data, device)
    trained = train(fold_data, _architecture(unit, fold_data), unit.seed, on_epoch_end)
    probabilities = predict(fold_data, trained.network, unit.dev_utterances)
    difference = float(np.abs(probabilities - unit.dev_probabilities).max())
    changed = int((probabilities.argmax(1) != unit.dev_probabilities.argmax(1)).sum())
    return Member(trained.network, fold_data.standardiser), DevAgreement(difference, changed, len(probabilities))


def refit(
    unit: ExportedUnit, data: SweepCorpus, device: str = "cpu", on_epoch_end: OnEpochEnd = ignore_epoch
) -> tuple[Member, int]:
    """A unit's architecture, trained on all parts of its fold for the epochs that dev chose; how many utterances.

    There is no part left to measure it on. Raises EmodartsError where the fold is not the one that the unit saw.
    """
    fold_data = _fold_data(unit, data, device)
    utterances = labelled(fold_data.fold)
    architecture = _architecture(unit, fold_data)
    network, standardiser = stages.refit(fold_data, architecture, utterances, unit.epoch + 1, unit.seed, on_epoch_end)
    return Member(network, standardiser), len(utterances)


def labelled(fold: Fold) -> tuple[str, ...]:
    """The utterances of all parts of a fold whose label is known and declared."""
    return tuple(u for u in sorted({*fold.train, *fold.dev, *fold.test_ids}) if fold.labels.get(u) in fold.classes)


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
