"""Corpora: readers turn a folder of recordings into an utterance table; labels and folds are made of it.

`read` is the way in; `readers` has a grammar or a module of each, `labels` its classes, `protocols` its folds.
"""

import os
from dataclasses import replace
from pathlib import Path

from emodarts.corpora.readers import describe
from emodarts.corpora.remote import below, is_remote, mirror
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus, build_corpus
from emodarts.errors import EmodartsError


def cache_folder() -> Path:
    """Where derived data is kept: `$EMODARTS_CACHE`, else `~/.cache/emodarts`. Raises EmodartsError without a home."""
    folder = os.environ.get("EMODARTS_CACHE")
    try:
        return Path(folder) if folder else Path.home() / ".cache" / "emodarts"
    except RuntimeError as error:  # no $HOME, and a user whom the system does not know (containers)
        raise EmodartsError("there is no home folder to keep made data in: set EMODARTS_CACHE to a folder") from error


def resolve_root(settings: CorpusSettings) -> Path:
    """The corpus's folder: `corpus.root`, else `$EMODARTS_CORPORA/<name>`; the demo corpus may lie in the cache.

    Either may be a URI (`s3://bucket/corpora`): then the folder is a mirror in the cache, brought up to date; how
    much is copied is logged.
    """
    corpora = os.environ.get("EMODARTS_CORPORA")
    if settings.root and is_remote(settings.root):
        return mirror(settings.root, cache_folder())
    if settings.root:
        return Path(settings.root).expanduser().resolve()
    if settings.name == "demo":
        return cache_folder() / "corpora" / f"demo-{settings.demo_seed}"
    if corpora and is_remote(corpora):
        return mirror(below(corpora, settings.short_name), cache_folder())
    if corpora:
        return (Path(corpora).expanduser() / settings.short_name).resolve()
    raise EmodartsError(
        f"where is {settings.short_name}? set {_how_to_name(settings.short_name)}, or EMODARTS_CORPORA to the folder "
        f"that holds {settings.short_name}/"
    )


def _how_to_name(corpus: str) -> str:
    """Where a command is told the folder of a corpus."""
    return f"corpus.root=<folder> (roots.{corpus} where a sweep has several corpora, --root of `emodarts`)"


def read(settings: CorpusSettings) -> Corpus:
    """Read the corpus that the settings name. Raises EmodartsError for an unknown corpus or a missing folder."""
    description = describe(settings.name)
    root = resolve_root(settings)
    if settings.name != "demo" and not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise EmodartsError(
            f"the folder of {description.name}, {root}, {what}: set {_how_to_name(description.name)}, or "
            "EMODARTS_CORPORA"
        )
    corpus = build_corpus(description.name, root, description.rows(root, settings), description.looked_for)
    about = {
        "corpus": description.title,
        "attribute_scale": description.attribute_scale,
        "licence": description.licence,
        "language": description.language,
    }
    return replace(corpus, utterances=corpus.utterances.replace_schema_metadata(about))
