"""Readers: one module a corpus, which turns its folder into rows of the utterance table.

CONTRIBUTING.md has the steps to add one. A reader's `CorpusDescription` is named `CORPUS`; its `rows` yields a row or a
drop for everything on disk (where file names say everything, `rows_by_name` does that from one function, as in
`savee.py`). Ids and speakers begin with the corpus's name, and an unknown speaker is None.
"""

import importlib

from emodarts.corpora.description import CorpusDescription
from emodarts.errors import EmodartsError

READERS = (
    "demo",
    "emodb",
    "ravdess",
    "iemocap",
    "msp_improv",
    "msp_podcast",
    "crema_d",
    "tess",
    "savee",
    "audformat",
    "manifest",
)


def describe(name: str) -> CorpusDescription:
    """The description of a corpus. Raises EmodartsError for an unknown one."""
    if name not in READERS:
        raise EmodartsError(f"unknown corpus '{name}': known are {', '.join(READERS)}")
    description: CorpusDescription = importlib.import_module(f"emodarts.corpora.readers.{name}").CORPUS
    return description
