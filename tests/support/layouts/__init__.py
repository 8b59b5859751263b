"""Small synthetic copies of the corpora's folders, junk included; each writer returns the truth of what it wrote."""

from dataclasses import dataclass, field

import pytest

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.folds import make_folds
from emodarts.corpora.settings import CorpusSettings


@dataclass
class Written:
    """What must come out of a folder: fields of each row by utterance id, and for each drop a part of its reason."""

    rows: dict[str, dict] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)

    def assert_matches(self, corpus):
        """Assert that a corpus, as read, holds these rows and drops and no others."""
        found = {row["utterance"]: row for row in corpus.utterances.to_pylist()}
        assert found.keys() == self.rows.keys()
        for utterance, expected in self.rows.items():
            row = {name: found[utterance][name] for name in expected}
            assert row == {k: pytest.approx(v, abs=1e-5) if isinstance(v, float) else v for k, v in expected.items()}
        reasons = {row["path"]: row["reason"] for row in corpus.dropped.to_pylist()}
        assert reasons.keys() == self.dropped.keys()
        for path, part in self.dropped.items():
            assert part in reasons[path], path


def folds_of(name, root, **settings):
    """The corpus in a folder, its labels and the folds of a protocol."""
    chosen = CorpusSettings(name=name, root=str(root), **settings)
    corpus = corpora.read(chosen)
    labels = label_utterances(corpus.utterances, chosen)
    return corpus, labels, make_folds(chosen, corpus.utterances, labels)


def check_folds(folds, labels):
    """Assert that no speaker stands in two roles (dev may share, or be missing, where the id says so), that every
    labelled utterance is in one role of a fold or left out with a reason, and that all classes can be learnt."""
    for fold in folds:
        parts = {"train": fold.train, "dev": fold.dev, "test": [u for ids in fold.tests.values() for u in ids]}
        owners = {role: {fold.groups[u] for u in ids} for role, ids in parts.items()}
        assert not owners["test"] & (owners["train"] | owners["dev"])
        if fold.protocol_caveat == rules.SHARED_DEV:
            assert owners["dev"] <= owners["train"]
            assert "-random-dev" in fold.protocol
        elif fold.protocol_caveat == rules.NO_DEV:
            assert not parts["dev"]
            assert "-no-dev" in fold.protocol
        else:
            assert not owners["train"] & owners["dev"]
            assert {fold.labels[u] for u in fold.dev} == set(labels.classes)
        placed = [u for ids in parts.values() for u in ids]
        assert sorted([*placed, *fold.left_out]) == sorted({*labels.by_utterance, *labels.unlabelled})
        counts = [sum(fold.labels[u] == name for u in fold.train) for name in fold.classes]
        assert min(counts) >= 4
