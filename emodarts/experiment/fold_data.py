"""The settings of a unit of work, the features of its fold, and test sets of other corpora."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

from emodarts.corpora.protocols.folds import Fold, check_fold
from emodarts.errors import EmodartsError
from emodarts.experiment.train_parts import subsample
from emodarts.features.batches import FoldPart
from emodarts.features.normalisation import Normaliser, Standardiser
from emodarts.features.resident import ResidentFrames, keep_on_device
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.features.store.joined import AnyStore
from emodarts.features.store.store import Store
from emodarts.networks import baselines
from emodarts.search.settings import SearchSettings, SupernetSettings
from emodarts.settings import setting
from emodarts.training.settings import TrainingSettings

SEARCHED = "emodarts"
SVM = "svm"
_PENALTY = "training.svm_penalty"
_CONTROL = ("method", "scope", "match_parameters")
_DRAWN = {f"search.{name}" for name in (*_CONTROL, *(declared.name for declared in fields(SupernetSettings)))}
SYSTEMS = (SEARCHED, *baselines.DESIGNS, SVM)


@dataclass(frozen=True)
class FoldSettings:
    """Everything that shapes a unit's result beside its fold and seed."""

    features: FeatureSettings = field(default_factory=FeatureSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    batches: BatchSettings = field(default_factory=BatchSettings)
    system: str = setting(SEARCHED, "the search, or what is trained without one: a network designed by hand, an SVM")

    def __post_init__(self) -> None:
        if self.system not in SYSTEMS:
            raise EmodartsError(f"system={self.system} is unknown: {', '.join(SYSTEMS)}")

    @property
    def searches(self) -> bool:
        """Whether the network is searched."""
        return self.system == SEARCHED

    def uses(self, name: str) -> bool:
        """Whether a setting (`search.nodes`) changes what the system does.

        Only a search has those of `search`, an architecture that is drawn or fixed those of the network alone; an SVM
        has its penalty.
        """
        if self.system == SVM or name == _PENALTY:
            return self.system == SVM and name == _PENALTY
        if not name.startswith("search."):
            return True
        if self.searches and self.search.method in ("random_architecture", "fixed"):
            return name in _DRAWN
        return self.searches


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


@dataclass(frozen=True)
class CrossCorpusTest:
    """A test set of a corpus that is not trained on: features by the same settings, labels among the fold's classes."""

    name: str
    store: Store
    utterances: tuple[str, ...]
    labels: dict[str, str]
    speakers: dict[str, str | None]


def subsample_name(fold: Fold, settings: FoldSettings) -> str | None:
    """The name of the part of train that a search sees, `size@seed:hash of the ids`; None: all of it, or no search."""
    s = settings.search
    return subsample(fold, s.subsample, s.subsample_seed).name if settings.searches and s.subsample else None
