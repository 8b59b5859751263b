"""Readers: one module a corpus, which turns its folder into rows of the utterance table.

To add a corpus:

1. Write `emodarts/corpora/readers/<name>.py` with a `CorpusDescription` named `CORPUS`. Its `rows` yields a row or a
   drop for everything on disk; where file names say everything, `rows_by_name` does that from one function, as in
   `emodb.py`. Ids and speakers begin with the corpus's name, and an unknown speaker is None.
2. Add the name to `READERS` below.
3. Write `sweeps/conf/corpus/<name>.yaml` with `name: <name>`: `corpus=<name>` then works in a sweep.
4. Inherit `CorpusContract` of `tests/support/contracts.py` in a test, on a small synthetic copy of the folder.
5. Where counts are published, write them into `emodarts/corpora/published/<name>.toml`: the audit compares copies.
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
