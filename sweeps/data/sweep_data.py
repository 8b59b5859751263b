"""The data of a sweep: what was read, labelled, extracted and divided, and the rows of the corpora table on it."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

from emodarts.audit.findings import copies_finding, sort_findings
from emodarts.audit.model import SCHEMA_VERSION, Finding
from emodarts.corpora.labels import Labels
from emodarts.corpora.protocols.folds import Fold
from emodarts.corpora.table import Corpus, Dropped, dropped_table
from emodarts.experiment.training_corpus import CrossCorpusTest, TrainingCorpus, dropped_rows
from emodarts.features.store.joined import AnyStore, join_stores
from emodarts.features.store.store import Store
from emodarts.results.reader import Results
from emodarts.results.schemas import TABLES
from emodarts.results.writer import SweepWriter


@dataclass(frozen=True)
class TestCorpus:
    """Another corpus, all of whose labelled utterances are a test set; `labels` of what could be decoded."""

    corpus: Corpus
    labels: Labels
    test: CrossCorpusTest

    @cached_property
    def dropped(self) -> list[dict[str, str]]:
        """Path and reason of everything that did not become a test utterance."""
        unlabelled = [Dropped(path, "it has no label") for path in self.labels.unlabelled.values()]
        return dropped_rows(self.corpus, self.test.store, [*self.labels.unknown, *unlabelled])


@dataclass(frozen=True)
class SweepData:
    """The corpora that are trained on, in the order of their names, the sweep's folds over all of them (by number),
    all folds of its protocol, and the corpora that are tested on alone.
    """

    trained: tuple[TrainingCorpus, ...]
    folds: dict[int, Fold]
    all_folds: tuple[Fold, ...]
    foreign: tuple[TestCorpus, ...] = ()
    conditions: dict[str, tuple[Store, ...]] = field(default_factory=dict)  # features of degraded recordings, by corpus
    inner_folds: dict[int, tuple[Fold, ...]] = field(default_factory=dict)  # of each fold, with `sweep.inner`

    @property
    def protocol(self) -> str:
        """The protocol's full name."""
        return self.all_folds[0].protocol

    @property
    def names(self) -> tuple[str, ...]:
        """The corpora that are trained on."""
        return tuple(trained.corpus.name for trained in self.trained)

    @cached_property
    def store(self) -> AnyStore:
        """The features of all that is trained on; each corpus has a store of its own, as in a sweep of it alone."""
        return join_stores([trained.store for trained in self.trained])

    @cached_property
    def copies(self) -> list[tuple[str, str, int]]:
        """What trains, another corpus with some of its recordings (equal decoded audio), and how many these are."""
        stores = [(trained.corpus.name, trained.store) for trained in self.trained]
        stores += [(other.corpus.name, other.test.store) for other in self.foreign]
        hashes = {name: set(store.measures()["audio_hash"].to_pylist()) for name, store in stores}
        pairs = [(a, b, len(hashes[a] & hashes[b])) for a, b in combinations(hashes, 2) if a in self.names]
        return [(a, b, count) for a, b, count in pairs if count]

    @cached_property
    def recordings(self) -> str:
        """A hash of the utterances' ids and decoded audio: fold hashes cover ids and labels alone."""
        digest = hashlib.sha256()
        for store in (*(t.store for t in self.trained), *(other.test.store for other in self.foreign)):
            measures = store.measures()
            for name in ("utterance", "audio_hash"):
                digest.update("\0".join(measures[name].to_pylist()).encode())
        return digest.hexdigest()[:16]


def is_audited(results: Results, data: SweepData) -> bool:
    """Whether the audits of all that is trained on stand in the results."""
    return all(_old_audit(results, trained) is not None for trained in data.trained)


def write_trained(writer: SweepWriter, results: Results, data: SweepData, in_background: bool = False) -> list[str]:
    """Write the rows of the corpora table of what is trained on, each audited by its own protocol.

    Returns the audits' warnings, a line each. `in_background`: as `audit_in_background` does.
    """
    lines = []
    for trained in data.trained:
        name = trained.corpus.name
        copies = [copies_finding(other, count) for a, other, count in data.copies if a == name]
        audit = _write_audited(writer, results, trained, copies, in_background)
        _write_utterances(writer, results, trained.corpus, trained.store)
        lines += [f"  {name}, {line}" if len(data.trained) > 1 else f"  {line}" for line in _warnings(audit)]
    return lines


def _write_audited(
    writer: SweepWriter, results: Results, trained: TrainingCorpus, copies: list[Finding], in_background: bool
) -> str:
    """Write the row of a corpus; its audit as JSON, with `copies`: its recordings in other corpora of the sweep."""
    if (old := _old_audit(results, trained)) is not None:
        return old
    if in_background:
        from emodarts.audit.background import audit_in_background as audit_corpus
    else:
        from emodarts.audit.audit import audit_corpus

    in_reading = [Dropped(**row) for row in trained.corpus.dropped.to_pylist()]
    corpus = replace(trained.corpus, dropped=dropped_table([*in_reading, *trained.store.dropped]))
    report = audit_corpus(corpus, trained.labels, trained.folds, trained.store.measures(), trained.settings)
    text = replace(report, findings=sort_findings([*report.findings, *copies])).to_json()
    labels = trained.labels
    writer.write_corpus(trained.corpus.name, len(labels.by_utterance), trained.dropped, labels.left_out, text)
    return text


def _old_audit(results: Results, trained: TrainingCorpus) -> str | None:
    """The audit in the results, where the rest of its row and the folds are the same; the sweep's file holds a hash of
    the recordings.
    """
    row = {
        "corpus": trained.corpus.name,
        "utterances": len(trained.labels.by_utterance),
        "dropped": trained.dropped,
        "left_out": json.dumps(trained.labels.left_out, sort_keys=True),
    }
    for old in results.table("corpora").to_pylist():
        is_same = old["audit"] and all(old[name] == value for name, value in row.items())
        if is_same and _covers_folds(old["audit"], trained.folds):
            return str(old["audit"])
    return None


def write_foreign(writer: SweepWriter, results: Results, data: SweepData) -> None:
    """Write the rows of the corpora table of corpora that are tested on alone; they have no folds to audit."""
    for other in data.foreign:
        writer.write_corpus(other.corpus.name, len(other.test.utterances), other.dropped, other.labels.left_out)
        _write_utterances(writer, results, other.corpus, other.test.store)


def _write_utterances(writer: SweepWriter, results: Results, corpus: Corpus, store: Store) -> None:
    """Write what is known of a corpus's utterances once: the sweep's file holds a hash of the recordings."""
    if corpus.name not in results.table("utterances", ["corpus"])["corpus"].unique().to_pylist():
        writer.write_utterances(corpus.name, utterance_rows(corpus, store))


def utterance_rows(corpus: Corpus, store: Store) -> list[dict[str, Any]]:
    """What the corpus says of the utterances that could be decoded, their durations (s) and hashes of their sound."""
    names = [name for name in TABLES["utterances"].names if name in corpus.utterances.column_names]
    measures = store.measures().select(["utterance", "seconds", "audio_hash"])
    joined = measures.join(corpus.utterances.select(names), "utterance", join_type="inner")
    rows: list[dict[str, Any]] = joined.sort_by("utterance").to_pylist()
    return rows


def _covers_folds(audit: str, folds: tuple[Fold, ...]) -> bool:
    content = json.loads(audit)
    hashes = [fold["hash"] for fold in content["protocol"]["folds"]]
    return content["schema_version"] == SCHEMA_VERSION and hashes == [fold.hash for fold in folds]


def _warnings(audit: str) -> list[str]:
    severe = [f for f in json.loads(audit)["findings"] if f["severity"] in ("leak", "warning")]
    return [f"audit, {f['severity']}: {f['subject']}: {f['fact']}" for f in severe]
