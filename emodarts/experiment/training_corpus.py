"""Corpora from their recordings on: extracted, labelled and divided to train on, or a test set as a whole."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from emodarts import corpora
from emodarts.corpora.labels import Labels, label_utterances
from emodarts.corpora.protocols.folds import Fold, make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus, Dropped, dropped_table
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.building import Extraction, build_store
from emodarts.features.store.store import Store


def extract_features(
    corpus: Corpus,
    features: FeatureSettings,
    device: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
    extraction: Extraction = lambda plan, folder, missing: None,
) -> tuple[Store, pa.Table]:
    """The features of a corpus, from the cache where they are there, and those utterances that could be decoded.

    Raises EmodartsError.
    """
    cache = corpora.cache_folder() / "features"
    store = build_store(corpus.utterances, corpus.root, features, cache, device, None, progress, extraction)
    return store, corpus.utterances.filter(pc.is_in(corpus.utterances["utterance"], store.utterances))


@dataclass(frozen=True)
class TrainingCorpus:
    """A corpus that is trained on: labels (of what could be decoded), all folds of its own protocol, and features."""

    settings: CorpusSettings
    corpus: Corpus
    labels: Labels
    folds: tuple[Fold, ...]
    store: Store

    @classmethod
    def of(cls, settings: CorpusSettings, corpus: Corpus, store: Store, decoded: pa.Table) -> "TrainingCorpus":
        """Label and divide the utterances that could be decoded. Raises EmodartsError."""
        labels = label_utterances(decoded, settings)
        return cls(settings, corpus, labels, make_folds(settings, decoded, labels), store)

    @cached_property
    def dropped(self) -> list[dict[str, str]]:
        """Path and reason of everything that did not become a usable row, in reading, decoding and labelling."""
        tested = {u for fold in self.folds for u in fold.test_ids}
        reason = "it has no label, and stands in no test set with hidden labels"
        unlabelled = [Dropped(path, reason) for u, path in self.labels.unlabelled.items() if u not in tested]
        return dropped_rows(self.corpus, self.store, [*self.labels.unknown, *unlabelled])


def dropped_rows(corpus: Corpus, store: Store, unlabelled: list[Dropped]) -> list[dict[str, str]]:
    """Sorted rows of what was dropped in reading, in decoding, and for its label."""
    in_reading = [Dropped(**row) for row in corpus.dropped.to_pylist()]
    rows: list[dict[str, str]] = dropped_table([*in_reading, *store.dropped, *unlabelled]).to_pylist()
    return rows


@dataclass(frozen=True)
class CrossCorpusTest:
    """A test set of a corpus that is not trained on: features by the same settings, labels among the fold's classes."""

    name: str
    store: Store
    utterances: tuple[str, ...]
    labels: dict[str, str]
    speakers: dict[str, str | None]
