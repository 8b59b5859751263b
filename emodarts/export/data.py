"""The data that a sweep's units saw, made again from its corpus: labels, folds and features."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow.compute as pc

from emodarts import corpora
from emodarts.corpora import labels as labelling
from emodarts.corpora import protocols
from emodarts.corpora.protocols import Fold
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.features import store as features
from emodarts.features.settings import FeatureSettings
from emodarts.features.store import Store
from emodarts.results.records import UnitKey

Say = Callable[[str], None]


@dataclass(frozen=True)
class SweepCorpus:
    """The corpus of a sweep with its folds and features; title and licence as its reader knows them."""

    settings: CorpusSettings
    folds: tuple[Fold, ...]
    store: Store
    title: str
    licence: str

    def fold(self, key: UnitKey) -> Fold:
        """The fold of a unit. Raises EmodartsError where the data are not those that the unit saw."""
        found = next((fold for fold in self.folds if fold.index == key.fold), None)
        if found is None or found.protocol != key.protocol or found.hash != key.fold_hash:
            now = "is not there" if found is None else f"is {found.hash} ({found.protocol})"
            raise EmodartsError(
                f"fold {key.fold} of {key.protocol} was {key.fold_hash} in the sweep and {now} in this copy of "
                f"{self.settings.name}: files have come or gone since, or --root names another copy; the networks "
                "cannot be trained again on other data"
            )
        return found

    def seconds(self, utterances: tuple[str, ...], per_second: float) -> tuple[float, float, float]:
        """The 5th, 50th and 95th percentile of the utterances' durations, in s of sound without silent ends."""
        lengths = self.store.lengths(self.store.positions(utterances)) / per_second
        low, middle, high = (float(x) for x in np.percentile(lengths, (5, 50, 95)))
        return low, middle, high


def corpus_settings(sweep: dict[str, Any], root: str | None, protocol: str | None) -> CorpusSettings:
    """The settings of the corpus from those of a sweep (dotted names); `protocol` the path of a split of one's own.

    Raises EmodartsError for those of another version, and where such a path is needed.
    """
    names = {field.name for field in fields(CorpusSettings)}
    given: dict[str, Any] = {}
    for name, value in sweep.items():
        room, _, rest = name.partition(".")
        if room != "corpus":
            continue
        setting, _, entry = rest.partition(".")
        if setting not in names:
            raise EmodartsError(f"sweep.json has a setting {name}, which this version of emodarts does not know")
        if entry:
            given.setdefault(setting, {})[entry] = value
        else:
            given[setting] = value
    known = given.get("protocol")
    if protocol is None and known is not None and str(known).lower().endswith(".csv"):
        raise EmodartsError(f"the sweep's split is a file, {known}: say where it lies with --protocol FILE")
    return CorpusSettings(**{**given, "root": root, "protocol": protocol or known})


def read(settings: CorpusSettings, wanted: FeatureSettings, device: str, say: Say) -> SweepCorpus:
    """Read, label, divide and extract, as a sweep does before its first unit. Raises EmodartsError."""
    corpus = corpora.read(settings, say)
    cache = corpora.cache_folder() / "features"
    store = features.build(corpus.utterances, corpus.root, wanted, cache, device, say=say)
    kept = corpus.utterances.filter(pc.is_in(corpus.utterances["utterance"], store.utterances))
    folds = protocols.make(settings, kept, labelling.label(kept, settings))
    about = {k.decode(): v.decode() for k, v in (corpus.utterances.schema.metadata or {}).items()}
    return SweepCorpus(settings, folds, store, about.get("corpus", settings.name), about.get("licence", ""))
