"""`SweepSpec`: what all units of a sweep share. It travels once to each worker."""

from dataclasses import dataclass, field

from emodarts.corpora.protocols.folds import Fold
from emodarts.experiment.training_corpus import CrossCorpusTest
from emodarts.features.store.joined import AnyStore, join_stores
from emodarts.features.store.store import open_store
from emodarts.records import UnitKey
from emodarts.storage import Storage
from sweeps.data.placement import StoreLocation, publish, store_on_this_node
from sweeps.data.sweep_data import SweepData
from sweeps.execution.tracking import Tracking
from sweeps.settings import Settings


@dataclass(frozen=True)
class CrossCorpusLocation:
    """A test set of another corpus, and where its features are."""

    name: str
    store: StoreLocation
    labels: dict[str, str]
    speakers: dict[str, str | None]

    def open(self, storage: Storage) -> CrossCorpusTest:
        """The test set as this node has it. Raises StorageError."""
        store = open_store(store_on_this_node(self.store, storage))
        return CrossCorpusTest(self.name, store, tuple(self.labels), self.labels, self.speakers)


@dataclass(frozen=True)
class SweepSpec:
    """Where results and features are (a store for each corpus), the folds by number, and how units run.

    `published_protocol`: the folds have no dev part.
    """

    sweep: str
    results: str
    stores: tuple[StoreLocation, ...]
    folds: dict[int, Fold]
    threads: int
    cross_corpus_tests: tuple[CrossCorpusLocation, ...] = ()
    published_protocol: bool = False
    conditions: dict[str, tuple[StoreLocation, ...]] = field(default_factory=dict)
    tracking: Tracking = field(default_factory=Tracking)
    inner_folds: dict[int, tuple[Fold, ...]] = field(default_factory=dict)

    def fold_of(self, key: UnitKey) -> Fold:
        """The fold of a unit, or its inner split of that."""
        return self.folds[key.fold] if key.inner is None else self.inner_folds[key.fold][key.inner]

    @classmethod
    def publish(
        cls, settings: Settings, storage: Storage, data: SweepData, published_protocol: bool = False
    ) -> "SweepSpec":
        """The spec of a sweep, whose features are put where its workers find them. Raises StorageError."""
        joined = settings.ray.joins_cluster
        tests = [other.test for other in data.foreign]
        return cls(
            settings.sweep_name,
            settings.results if "://" in settings.results else storage.root,
            tuple(publish(trained.store, storage, joined) for trained in data.trained),
            data.folds,
            settings.resources.cpus_per_trial,
            tuple(CrossCorpusLocation(t.name, publish(t.store, storage, joined), t.labels, t.speakers) for t in tests),
            published_protocol,
            {name: tuple(publish(s, storage, joined) for s in stores) for name, stores in data.conditions.items()},
            inner_folds=data.inner_folds,
        )

    def open_stores(self, storage: Storage) -> AnyStore:
        """The features as this node has them, those of several corpora as one. Raises StorageError."""
        return self._open(self.stores, storage)

    def open_conditions(self, storage: Storage) -> dict[str, AnyStore]:
        """Condition -> the features of the degraded test recordings. Raises StorageError."""
        return {name: self._open(locations, storage) for name, locations in self.conditions.items()}

    @staticmethod
    def _open(locations: tuple[StoreLocation, ...], storage: Storage) -> AnyStore:
        return join_stores([open_store(store_on_this_node(location, storage)) for location in locations])
