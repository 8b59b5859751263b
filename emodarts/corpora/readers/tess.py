"""TESS (Pichora-Fuller & Dupuis 2010): English, acted, 200 words in 7 emotions by 2 women, 2,800 utterances.

Many copies hold the whole set twice: one file an utterance stays, the other is dropped as its copy.
"""

import re
from pathlib import Path

from emodarts.corpora.description import CorpusDescription, rows_by_name
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.table import Utterance

_EMOTIONS = {
    "angry": "angry",
    "disgust": "disgusted",
    "fear": "fearful",
    "happy": "happy",
    "neutral": "neutral",
    "ps": "surprised",  # pleasant surprise
    "sad": "sad",
}
_VARIANTS = {"pleasant_surprise": "ps", "pleasant_surprised": "ps"}
# speaker (older or younger woman), word, emotion: OAF_back_angry; copies differ in upper and lower case
_NAME = re.compile(rf"([oy]af)_([a-z]+)_({'|'.join([*_EMOTIONS, *_VARIANTS])})")
_MISSPELT = {"oa_bite_neutral": "oaf_bite_neutral"}  # in the release


def _read_name(file: Path, path: str) -> Utterance | str:
    name = file.stem.lower()
    match = _NAME.fullmatch(_MISSPELT.get(name, name)) if file.stem.isascii() else None
    if not match:
        return "the name is not that of a TESS recording (such as OAF_back_angry.wav)"
    speaker, word, emotion = match[1].upper(), match[2], _VARIANTS.get(match[3], match[3])
    return Utterance(
        utterance=f"tess/{speaker}_{word}_{emotion}",
        path=path,
        speaker=f"tess/{speaker}",
        gender="female",
        text=word,
        intended=emotion,
    )


CORPUS = CorpusDescription(
    name="tess",
    title="TESS (Pichora-Fuller & Dupuis 2010)",
    rows=rows_by_name(_read_name),
    looked_for="audio files such as OAF_angry/OAF_back_angry.wav",
    words=_EMOTIONS,
    protocol="speaker2-random-dev",
    rules={"speaker2-random-dev": Rule(rules.with_random_dev(rules.by_speaker(rules.each_speaker)), rules.SHARED_DEV)},
    licence="CC BY-NC-ND 4.0",
)
