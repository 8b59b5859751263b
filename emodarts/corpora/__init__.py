"""Corpora: readers that turn a folder of recordings into an utterance table, labels, and folds."""

import importlib
import os
from pathlib import Path

from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus
from emodarts.errors import EmodartsError

# corpus -> the module with its `read(root, settings)`: a new corpus needs one file and one line here
READERS = {
    "demo": "emodarts.corpora.demo",
    "emodb": "emodarts.corpora.emodb",
    "ravdess": "emodarts.corpora.ravdess",
    "manifest": "emodarts.corpora.manifest",
}


def cache_folder() -> Path:
    """Where made data is kept: `$EMODARTS_CACHE`, else `~/.cache/emodarts`."""
    given = os.environ.get("EMODARTS_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "emodarts"


def resolve_root(settings: CorpusSettings) -> Path:
    """The corpus's folder: `corpus.root`, else `$EMODARTS_CORPORA/<name>`; the demo corpus may lie in the cache."""
    corpora = os.environ.get("EMODARTS_CORPORA")
    if settings.root:
        return Path(settings.root).expanduser().resolve()
    if settings.name == "demo":
        return cache_folder() / "corpora" / f"demo-{settings.demo_seed}"
    if corpora:
        return (Path(corpora).expanduser() / settings.name).resolve()
    raise EmodartsError(
        f"where is {settings.name}? set corpus.root=<folder>, or EMODARTS_CORPORA to the folder "
        f"that holds {settings.name}/"
    )


def read(settings: CorpusSettings) -> Corpus:
    """Read the corpus that the settings name. Raises EmodartsError for an unknown corpus or a missing folder."""
    if settings.name not in READERS:
        raise EmodartsError(f"unknown corpus '{settings.name}': known are {', '.join(READERS)}")
    root = resolve_root(settings)
    if settings.name != "demo" and not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise EmodartsError(f"the folder of {settings.name}, {root}, {what}: set corpus.root or EMODARTS_CORPORA")
    corpus: Corpus = importlib.import_module(READERS[settings.name]).read(root, settings)
    return corpus
