"""Which corpora there are, and where their readers live: a new corpus needs one file and one line here."""

import importlib

from emodarts.corpora.description import Description
from emodarts.errors import EmodartsError

# corpus -> the module whose `CORPUS` describes it
READERS = {
    "demo": "emodarts.corpora.demo",
    "emodb": "emodarts.corpora.emodb",
    "ravdess": "emodarts.corpora.ravdess",
    "iemocap": "emodarts.corpora.iemocap",
    "msp_improv": "emodarts.corpora.msp_improv",
    "msp_podcast": "emodarts.corpora.msp_podcast",
    "crema_d": "emodarts.corpora.crema_d",
    "tess": "emodarts.corpora.tess",
    "savee": "emodarts.corpora.savee",
    "audformat": "emodarts.corpora.audformat",
    "manifest": "emodarts.corpora.manifest",
}


def describe(name: str) -> Description:
    """The description of a corpus. Raises EmodartsError for an unknown one."""
    if name not in READERS:
        raise EmodartsError(f"unknown corpus '{name}': known are {', '.join(READERS)}")
    description: Description = importlib.import_module(READERS[name]).CORPUS
    return description
