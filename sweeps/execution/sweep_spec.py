"""`SweepSpec`: what all units of a sweep share. It travels once to each worker."""

from dataclasses import dataclass

from emodarts.corpora.protocols.folds import Fold
from emodarts.experiment.fold_data import CrossCorpusTest
from emodarts.features.store.joined import AnyStore, join_stores
from emodarts.features.store.store import open_store
from emodarts.storage import Storage
from sweeps.data.placement import StoreLocation, publish, store_on_this_node
from sweeps.data.sweep_data import SweepData
from sweeps.execution.ray_session import joins_cluster
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

    @classmethod
    def publish(
        cls, settings: Settings, storage: Storage, data: SweepData, published_protocol: bool = False
    ) -> "SweepSpec":
        """The spec of a sweep, whose features are put where its workers find them. Raises StorageError."""
        joined = joins_cluster(settings.ray)
        tests = [other.test for other in data.foreign]
        return cls(
            settings.sweep_name,
            settings.results if "://" in settings.results else storage.root,
            tuple(publish(trained.store, storage, joined) for trained in data.trained),
            data.folds,
            settings.resources.cpus_per_trial,
            tuple(CrossCorpusLocation(t.name, publish(t.store, storage, joined), t.labels, t.speakers) for t in tests),
            published_protocol,
        )

    def open_stores(self, storage: Storage) -> AnyStore:
        """The features as this node has them, those of several corpora as one. Raises StorageError."""
        return join_stores([open_store(store_on_this_node(location, storage)) for location in self.stores])
