"""Which corpora there are, and where their readers live: a new corpus needs one file and one line here."""

import importlib

from emodarts.corpora.description import Description
from emodarts.errors import EmodartsError

# corpus -> the module whose `CORPUS` describes it
READERS = {
    "demo": "emodarts.corpora.readers.demo",
    "emodb": "emodarts.corpora.readers.emodb",
    "ravdess": "emodarts.corpora.readers.ravdess",
    "iemocap": "emodarts.corpora.readers.iemocap",
    "msp_improv": "emodarts.corpora.readers.msp_improv",
    "msp_podcast": "emodarts.corpora.readers.msp_podcast",
    "crema_d": "emodarts.corpora.readers.crema_d",
    "tess": "emodarts.corpora.readers.tess",
    "savee": "emodarts.corpora.readers.savee",
    "audformat": "emodarts.corpora.readers.audformat",
    "manifest": "emodarts.corpora.readers.manifest",
}


def describe(name: str) -> Description:
    """The description of a corpus. Raises EmodartsError for an unknown one."""
    if name not in READERS:
        raise EmodartsError(f"unknown corpus '{name}': known are {', '.join(READERS)}")
    description: Description = importlib.import_module(READERS[name]).CORPUS
    return description
