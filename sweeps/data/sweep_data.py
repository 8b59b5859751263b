"""The data of a sweep: what was read, labelled, extracted and divided, and what the corpora table keeps of it."""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

from emodarts.audit.findings import of_copies, ordered
from emodarts.audit.model import SCHEMA_VERSION, Finding
from emodarts.corpora.labels import Labels
from emodarts.corpora.protocols.folds import Fold
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus, Dropped, dropped_table
from emodarts.experiment.fold_data import CrossCorpusTest
from emodarts.features.store.joined import AnyStore, join_stores
from emodarts.features.store.store import Store
from emodarts.results.reader import Results
from emodarts.results.writer import SweepWriter


@dataclass(frozen=True)
class TestCorpus:
    """Another corpus, all of whose labelled utterances are a test set; `labels` of what could be decoded."""

    corpus: Corpus
    labels: Labels
    test: CrossCorpusTest

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
class TrainingCorpus:
    """A corpus that is trained on: labels (of what could be decoded), all folds of its own protocol, and features."""

    settings: CorpusSettings
    corpus: Corpus
    labels: Labels
    folds: tuple[Fold, ...]
    store: Store

    @cached_property
    def dropped(self) -> list[dict[str, str]]:
        """Path and reason of everything that did not become a usable row, in reading, decoding and labelling."""
        tested = {u for fold in self.folds for ids in fold.tests.values() for u in ids}
        why = "it has no label, and stands in no test set with hidden labels"
        blank = [Dropped(path, why) for u, path in self.labels.unlabelled.items() if u not in tested]
        read = [Dropped(**row) for row in self.corpus.dropped.to_pylist()]
        rows: list[dict[str, str]] = dropped_table(
            [*read, *self.store.dropped, *self.labels.unknown, *blank]
        ).to_pylist()
        return rows


@dataclass(frozen=True)
class SweepData:
    """The corpora that are trained on, in the order of their names, the sweep's folds over all of them (by number),
    all folds of its protocol, and the corpora that are tested on alone.
    """

    trained: tuple[TrainingCorpus, ...]
    folds: dict[int, Fold]
    all_folds: tuple[Fold, ...]
    foreign: tuple[TestCorpus, ...] = ()

    @property
    def protocol(self) -> str:
        """The protocol's full name."""
        return self.all_folds[0].protocol

    @property
    def names(self) -> tuple[str, ...]:
        """The corpora that are trained on."""
        return tuple(one.corpus.name for one in self.trained)

    @cached_property
    def store(self) -> AnyStore:
        """The features of all that is trained on; each corpus's lie in a store of their own, as in a sweep of it."""
        return join_stores([one.store for one in self.trained])

    @cached_property
    def copies(self) -> list[tuple[str, str, int]]:
        """What trains, another corpus with some of its recordings (equal decoded audio), and how many these are."""
        stores = [*((one.corpus.name, one.store) for one in self.trained)]
        stores += [(other.corpus.name, other.test.store) for other in self.foreign]
        heard = {name: set(store.measures()["audio_hash"].to_pylist()) for name, store in stores}
        pairs = [(a, b) for a, b in combinations(heard, 2) if a in self.names]
        return [(a, b, len(heard[a] & heard[b])) for a, b in pairs if heard[a] & heard[b]]

    @cached_property
    def recordings(self) -> str:
        """A hash of the utterances' ids and decoded audio: fold hashes speak of ids and labels alone."""
        mark = hashlib.sha256()
        for store in (*(one.store for one in self.trained), *(other.test.store for other in self.foreign)):
            measures = store.measures()
            for name in ("utterance", "audio_hash"):
                mark.update("\0".join(measures[name].to_pylist()).encode())
        return mark.hexdigest()[:16]


def write_trained(writer: SweepWriter, known: Results, data: SweepData) -> list[str]:
    """Write the rows of the corpora table of what is trained on, each audited by the protocol of its own; what the
    audits warn of, a line each.
    """
    copies = {one: [of_copies(other, n) for a, other, n in data.copies if a == one] for one in data.names}
    audits = {one.corpus.name: _audited(writer, known, one, copies[one.corpus.name]) for one in data.trained}
    found = [(name, line) for name, audit in audits.items() for line in _warnings(audit)]
    return [f"  {name}, {line}" if len(data.trained) > 1 else f"  {line}" for name, line in found]


def _audited(writer: SweepWriter, known: Results, one: TrainingCorpus, copies: list[Finding]) -> str:
    """Write the row of a corpus; its audit, and in it the `copies` that stand in other corpora of the sweep.

    An audit that is there already is kept where the rest of the row and the folds are the same; the sweep's file holds
    a hash of the recordings.
    """
    utterances, left_out = len(one.labels.by_utterance), one.labels.left_out
    row = {
        "corpus": one.corpus.name,
        "utterances": utterances,
        "dropped": one.dropped,
        "left_out": json.dumps(left_out, sort_keys=True),
    }
    for old in known.table("corpora").to_pylist():
        if old["audit"] and all(old[name] == value for name, value in row.items()) and _same_folds(old["audit"], one):
            return str(old["audit"])
    from emodarts.audit.audit import audit  # scikit-learn takes a second to import

    unread = [Dropped(**row) for row in one.corpus.dropped.to_pylist()]
    whole = replace(one.corpus, dropped=dropped_table([*unread, *one.store.dropped]))
    made = audit(whole, one.labels, one.folds, one.store.measures(), one.settings)
    told = replace(made, findings=ordered([*made.findings, *copies])).to_json()
    writer.write_corpus(one.corpus.name, utterances, one.dropped, left_out, told)
    return told


def write_foreign(writer: SweepWriter, data: SweepData) -> None:
    """Write the rows of the corpora table of corpora that are tested on alone; they have no folds to audit."""
    for other in data.foreign:
        writer.write_corpus(other.corpus.name, len(other.test.utterances), other.dropped, other.labels.left_out)


def _same_folds(audit: str, one: TrainingCorpus) -> bool:
    content = json.loads(audit)
    hashes = [fold["hash"] for fold in content["protocol"]["folds"]]
    return content["schema_version"] == SCHEMA_VERSION and hashes == [fold.hash for fold in one.folds]


def _warnings(audit: str) -> list[str]:
    severe = [f for f in json.loads(audit)["findings"] if f["severity"] in ("leak", "warning")]
    return [f"audit, {f['severity']}: {f['subject']}: {f['found']}" for f in severe]
