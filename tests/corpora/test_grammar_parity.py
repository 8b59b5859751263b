"""Grammars read what readers in Python did before: rows, drops with reasons and fold hashes, by stored digests.

The digests are those of the readers of version 0.2.0, which the grammars replaced.
"""

import hashlib
import json
from pathlib import Path

import pytest

from emodarts import corpora
from emodarts.corpora.labels import label_mappings, label_utterances
from emodarts.corpora.protocols.folds import make_folds
from emodarts.corpora.readers import describe
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from tests.support.files import REPOSITORY
from tests.support.layouts import crema_d, savee, tess
from tests.support.names import GRAMMARS, mutated_names

DIGESTS = REPOSITORY / "tests" / "corpora" / "grammar_parity.json"
NAMES = 600  # a corpus
LAYOUTS = {
    "savee nested": lambda root: savee.write_corpus(root),
    "savee flat": lambda root: savee.write_corpus(root, flat=True),
    "tess nested": lambda root: tess.write_corpus(root),
    "tess flat": lambda root: tess.write_corpus(root, flat=True),
    "crema_d": lambda root: crema_d.write_corpus(root),
    "crema_d without tables": lambda root: crema_d.write_corpus(root, votes=False, demographics=False),
}


def digest(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def corpus_digest(name, root):
    """Of every row, every drop, and the folds' hashes under both class sets and both sources of labels."""
    content = {}
    for class_set in ("four", "full"):
        for source in describe(name).sources:
            settings = CorpusSettings(name=name, root=str(root), class_set=class_set, source=source)
            corpus = corpora.read(settings)
            content |= {"rows": corpus.utterances.to_pylist(), "drops": corpus.dropped.to_pylist()}
            try:
                folds = make_folds(settings, corpus.utterances, label_utterances(corpus.utterances, settings))
                content[f"{class_set} {source}"] = [fold.hash for fold in folds]
            except EmodartsError as error:
                content[f"{class_set} {source}"] = str(error)
    return digest(content)


def names_digest(name, root):
    """Of what mutated names become; the files are empty."""
    for number, (folder, file) in enumerate(mutated_names(name, NAMES)):
        path = Path(root, str(number), folder, file)
        path.parent.mkdir(parents=True)
        path.touch()
    rows = describe(name).rows(root, CorpusSettings(name=name))
    return digest(sorted(json.dumps(vars(row), sort_keys=True) for row in rows))


def words_digest(name):
    return digest(sorted(mapping for mapping in label_mappings() if mapping[0] == name))


@pytest.fixture(scope="module")
def digests():
    return json.loads(DIGESTS.read_text())


@pytest.mark.parametrize("name", GRAMMARS)
def test_names_and_words(name, digests, tmp_path):
    assert names_digest(name, tmp_path) == digests[f"{name} names"]
    assert words_digest(name) == digests[f"{name} words"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_synthetic_layouts(layout, digests, tmp_path):
    LAYOUTS[layout](tmp_path)
    assert corpus_digest(layout.split()[0], tmp_path) == digests[layout]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["emodb", "ravdess"])
def test_recordings(name, digests, recordings):
    assert corpus_digest(name, recordings / name) == digests[f"{name} recordings"]
