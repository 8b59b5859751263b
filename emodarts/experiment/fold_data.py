"""The features of a unit's fold, standardised and divided into parts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from emodarts.corpora.protocols.folds import Fold, check_fold
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.experiment.train_parts import subsample
from emodarts.features.batches import FoldPart
from emodarts.features.normalisation import Normaliser, Standardiser
from emodarts.features.resident import ResidentFrames, keep_on_device
from emodarts.features.store.joined import AnyStore


@dataclass(frozen=True)
class FoldData:
    """A fold's features, standardised as `features.normalisation` says; train and dev on the device where they fit.

    `standardiser` has the statistics of the train part. No features of a test part are read before it is predicted on.
    """

    store: AnyStore
    fold: Fold
    settings: FoldSettings
    device: str
    standardiser: Standardiser
    resident: ResidentFrames | None

    @classmethod
    def of(
        cls, store: AnyStore, fold: Fold, settings: FoldSettings, device: str = "cpu", needs_dev: bool = True
    ) -> "FoldData":
        """The data of a fold. Raises EmodartsError for a leaking fold, and, if it `needs_dev`, one without dev part."""
        check_fold(fold)
        if needs_dev and not fold.dev:
            raise EmodartsError(
                f"{fold.protocol} fold {fold.index} has no dev part, and the search and the choice of an epoch need "
                f"one: choose a protocol with dev"
            )
        train, dev = store.positions(fold.train), store.positions(fold.dev)
        resident = keep_on_device(store, train, dev, device, settings.batches.device_memory_fraction)
        return cls(store, fold, settings, device, Standardiser.fit(store, fold.train), resident)

    @cached_property
    def train(self) -> FoldPart:
        """The train part."""
        return self.part(self.fold.train)

    @cached_property
    def dev(self) -> FoldPart:
        """The dev part."""
        return self.part(self.fold.dev)

    @cached_property
    def normaliser(self) -> Normaliser:
        """Whose statistics standardise the fold's utterances."""
        roles = {"train": self.fold.train, "dev": self.fold.dev, "test": self.fold.test_ids}
        rule = self.settings.features.normalisation
        return Normaliser(self.store, rule, roles, self.fold.speakers, self.standardiser)

    @cached_property
    def search_fold(self) -> Fold:
        """The fold as the search sees it: with a part of train alone where `search.subsample` says so."""
        s = self.settings.search
        if s.subsample is None:
            return self.fold
        return replace(self.fold, train=subsample(self.fold, s.subsample, s.subsample_seed).ids)

    def part(self, utterances: Sequence[str]) -> FoldPart:
        """Any utterances of the fold, ready to be drawn from, in this order."""
        resident = self.resident if set(utterances) <= {*self.fold.train, *self.fold.dev} else None
        return FoldPart.of(self.store, self.normaliser.standardiser(utterances), self.fold, utterances, resident)
