"""The data of a sweep: what was read, labelled, extracted and divided, and what the corpora table keeps of it."""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property

from emodarts.audit.model import SCHEMA_VERSION
from emodarts.corpora.labels import Labels
from emodarts.corpora.protocols import Fold
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus, Dropped, dropped_table
from emodarts.experiment import ForeignTest
from emodarts.features.store import Store
from emodarts.results.reader import Results
from emodarts.results.writer import SweepWriter


@dataclass(frozen=True)
class Foreign:
    """Another corpus, all of whose labelled utterances are a test set; `labels` of what could be decoded."""

    corpus: Corpus
    labels: Labels
    test: ForeignTest

    @property
    def dropped(self) -> list[dict[str, str]]:
        """Path and reason of everything that did not become a test utterance."""
        blank = [Dropped(path, "it has no label") for path in self.labels.unlabelled.values()]
        read = [Dropped(**row) for row in self.corpus.dropped.to_pylist()]
        rows: list[dict[str, str]] = dropped_table(
            [*read, *self.test.store.dropped, *self.labels.unknown, *blank]
        ).to_pylist()
        return rows


@dataclass(frozen=True)
class SweepData:
    """A corpus with labels (of what could be decoded), the sweep's folds, all folds of the protocol, and features."""

    corpus: Corpus
    labels: Labels
    folds: dict[int, Fold]
    all_folds: tuple[Fold, ...]
    store: Store
    foreign: tuple[Foreign, ...] = ()

    @property
    def protocol(self) -> str:
        """The protocol's full name."""
        return self.all_folds[0].protocol

    @cached_property
    def recordings(self) -> str:
        """A hash of the utterances' ids and decoded audio: fold hashes speak of ids and labels alone."""
        mark = hashlib.sha256()
        for store in (self.store, *(other.test.store for other in self.foreign)):
            measures = store.measures()
            for name in ("utterance", "audio_hash"):
                mark.update("\0".join(measures[name].to_pylist()).encode())
        return mark.hexdigest()[:16]

    @cached_property
    def dropped(self) -> list[dict[str, str]]:
        """Path and reason of everything that did not become a usable row, in reading, decoding and labelling."""
        tested = {u for fold in self.all_folds for ids in fold.tests.values() for u in ids}
        why = "it has no label, and stands in no test set with hidden labels"
        blank = [Dropped(path, why) for u, path in self.labels.unlabelled.items() if u not in tested]
        read = [Dropped(**row) for row in self.corpus.dropped.to_pylist()]
        rows: list[dict[str, str]] = dropped_table(
            [*read, *self.store.dropped, *self.labels.unknown, *blank]
        ).to_pylist()
        return rows


def write_corpus(writer: SweepWriter, known: Results, data: SweepData, settings: CorpusSettings) -> list[str]:
    """Write the row of the corpora table with its audit; what the audit warns of, a line each.

    An audit that is there already is kept where the rest of the row and the folds are the same; the sweep's file holds
    a hash of the recordings.
    """
    utterances, left_out = len(data.labels.by_utterance), data.labels.left_out
    row = {
        "corpus": data.corpus.name,
        "utterances": utterances,
        "dropped": data.dropped,
        "left_out": json.dumps(left_out, sort_keys=True),
    }
    for old in known.table("corpora").to_pylist():
        if old["audit"] and all(old[name] == value for name, value in row.items()) and _same_folds(old["audit"], data):
            return _warnings(old["audit"])
    from emodarts.audit.audit import audit  # scikit-learn takes a second to import

    unread = [Dropped(**row) for row in data.corpus.dropped.to_pylist()]
    whole = replace(data.corpus, dropped=dropped_table([*unread, *data.store.dropped]))
    made = audit(whole, data.labels, data.all_folds, data.store.measures(), settings).to_json()
    writer.write_corpus(data.corpus.name, utterances, data.dropped, left_out, made)
    return _warnings(made)


def write_foreign(writer: SweepWriter, data: SweepData) -> None:
    """Write the rows of the corpora table of corpora that are tested on alone; they have no folds to audit."""
    for other in data.foreign:
        writer.write_corpus(other.corpus.name, len(other.test.utterances), other.dropped, other.labels.left_out)


def _same_folds(audit: str, data: SweepData) -> bool:
    content = json.loads(audit)
    hashes = [fold["hash"] for fold in content["protocol"]["folds"]]
    return content["schema_version"] == SCHEMA_VERSION and hashes == [fold.hash for fold in data.all_folds]


def _warnings(audit: str) -> list[str]:
    severe = [f for f in json.loads(audit)["findings"] if f["severity"] in ("leak", "warning")]
    return [f"  audit, {f['severity']}: {f['subject']}: {f['found']}" for f in severe]
