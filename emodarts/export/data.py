"""The data that a sweep's units saw, made again from its corpora: labels, folds and features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emodarts import corpora
from emodarts.corpora.protocols.folds import Fold, folds_of_corpora
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus
from emodarts.errors import EmodartsError
from emodarts.experiment.training_corpus import TrainingCorpus, extract_features
from emodarts.features.audio import Samples, at_speed, decode, prepare
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.joined import AnyStore, join_stores
from emodarts.records import UnitKey


@dataclass(frozen=True)
class CorpusCredit:
    """A corpus that was trained on: title and licence as its reader knows them."""

    title: str
    licence: str

    @classmethod
    def of(cls, corpus: Corpus) -> "CorpusCredit":
        """What a corpus says of itself."""
        about = {k.decode(): v.decode() for k, v in (corpus.utterances.schema.metadata or {}).items()}
        return cls(about.get("corpus", corpus.name), about.get("licence", ""))


@dataclass(frozen=True)
class SweepCorpus:
    """What a sweep trained on, one corpus or several joined: its folds and features. `settings` are those of the first
    corpus; class set and policies are those of all.
    """

    settings: CorpusSettings
    folds: tuple[Fold, ...]
    store: AnyStore
    sources: tuple[CorpusCredit, ...]
    corpora: tuple[Corpus, ...]

    def fold(self, key: UnitKey) -> Fold:
        """The fold of a unit. Raises EmodartsError where the data are not those that the unit saw."""
        fold = next((fold for fold in self.folds if fold.index == key.fold), None)
        if fold is None or fold.protocol != key.protocol or fold.hash != key.fold_hash:
            now = "is not there" if fold is None else f"is {fold.hash} ({fold.protocol})"
            copy = " and ".join(key.train_corpora)
            raise EmodartsError(
                f"fold {key.fold} of {key.protocol} was {key.fold_hash} in the sweep and {now} in this copy of {copy}: "
                "files have come or gone since, or --root names another copy; the networks cannot be trained again on "
                "other data"
            )
        return fold

    def sounds(self, utterances: Sequence[str], features: FeatureSettings) -> list[Samples]:
        """Samples of recordings as features are taken from them: trimmed, at the features' rate."""
        columns = ["utterance", "path", "start", "end"]
        rows = {
            row.pop("utterance"): (corpus.root, row)
            for corpus in self.corpora
            for row in corpus.utterances.filter(pc.is_in(corpus.utterances["utterance"], pa.array(utterances)))
            .select(columns)
            .to_pylist()
        }
        sounds = []
        for root, row in (rows[utterance] for utterance in utterances):
            samples, rate = decode(root / row["path"], row["start"], row["end"])
            sounds.append(at_speed(prepare(samples, rate, features), rate, features.sample_rate, 1.0))
        return sounds

    def seconds(self, utterances: tuple[str, ...], per_second: float) -> tuple[float, float, float]:
        """The 5th, 50th and 95th percentile of the utterances' durations, in s of sound without silent ends."""
        lengths = self.store.lengths(self.store.positions(utterances)) / per_second
        low, middle, high = (float(x) for x in np.percentile(lengths, (5, 50, 95)))
        return low, middle, high


def corpora_settings(
    sweep: dict[str, Any], roots: Sequence[str] = (), protocol: str | None = None
) -> tuple[CorpusSettings, ...]:
    """The settings of each corpus that a sweep (settings by dotted names) trained on, in the order that it had.

    `roots`: the folder of its one corpus (the last one given), or `name=folder` for some of several; `protocol`: the
    path of a split of one's own. Raises EmodartsError for roots that do not fit, and as `corpus_settings`.
    """
    names = sweep.get("train_corpora")
    if names is None:
        return (corpus_settings(sweep, roots[-1] if roots else None, protocol),)
    if protocol is not None:
        raise EmodartsError(f"--protocol {protocol}: the sweep joins the default protocols of its corpora; omit it")
    shared, folders = corpus_settings({**sweep, "corpus.protocol": None}, None, None), _folders(roots, names)
    return tuple(shared.for_corpus(name, folders.get(name)) for name in names)


def _folders(roots: Sequence[str], names: Sequence[str]) -> Mapping[str, str]:
    folders = {}
    for root in roots:
        name, mark, folder = root.partition("=")
        if not mark or name not in names:
            raise EmodartsError(
                f"--root {root}: the sweep trained on {', '.join(names)}; give --root NAME=FOLDER for each that is "
                "not in $EMODARTS_CORPORA"
            )
        folders[name] = folder
    return folders


def corpus_settings(sweep: dict[str, Any], root: str | None, protocol: str | None) -> CorpusSettings:
    """The settings of the corpus from those of a sweep (dotted names); `protocol` the path of a split of one's own.

    Raises EmodartsError for those of another version, and where such a path is needed.
    """
    names = {field.name for field in fields(CorpusSettings)}
    values: dict[str, Any] = {}
    for name, value in sweep.items():
        room, _, rest = name.partition(".")
        if room != "corpus":
            continue
        setting, _, entry = rest.partition(".")
        if setting not in names:
            raise EmodartsError(f"sweep.json has a setting {name}, which this version of emodarts does not know")
        if entry:
            values.setdefault(setting, {})[entry] = value
        else:
            values[setting] = value
    stored = values.get("protocol")
    if protocol is None and str(stored).lower().endswith(".csv"):
        raise EmodartsError(f"the sweep's split is a file, {stored}: say where it lies with --protocol FILE")
    return CorpusSettings(**{**values, "root": root, "protocol": protocol or stored})


def read_sweep_corpus(corpora_read: Sequence[CorpusSettings], features: FeatureSettings, device: str) -> SweepCorpus:
    """Read, label, divide and extract each corpus, as a sweep does before its first unit. Raises EmodartsError."""
    trained = []
    for settings in corpora_read:
        corpus = corpora.read(settings)
        trained.append(TrainingCorpus.of(settings, corpus, *extract_features(corpus, features, device)))
    folds = folds_of_corpora({t.corpus.name: t.folds for t in trained})
    sources = tuple(CorpusCredit.of(t.corpus) for t in trained)
    store, read = join_stores([t.store for t in trained]), tuple(t.corpus for t in trained)
    return SweepCorpus(corpora_read[0], folds, store, sources, read)
