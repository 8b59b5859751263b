"""TESS (Pichora-Fuller & Dupuis 2010): English, acted, 200 words in 7 emotions by 2 women, 2,800 utterances."""

import re
from collections.abc import Iterator
from pathlib import Path

from emodarts.corpora.description import Description
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance, audio_files, hidden, one_of_each

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
_ODD = {"oa_bite_neutral": "oaf_bite_neutral"}  # so misspelt in the release


def _rows(root: Path, settings: CorpusSettings) -> Iterator[Utterance | Dropped]:
    """Many copies hold the whole set twice: one file an utterance stays, the other is dropped as its copy."""
    return one_of_each(root, _named(root))


def _named(root: Path) -> Iterator[Utterance | Dropped]:
    for file in audio_files(root):
        path = file.relative_to(root).as_posix()
        name = file.stem.lower()
        match = _NAME.fullmatch(_ODD.get(name, name)) if file.stem.isascii() else None
        if hidden(path):
            yield Dropped(path, "a hidden file or folder")
        elif not match:
            yield Dropped(path, "the name is not that of a TESS recording (such as OAF_back_angry.wav)")
        else:
            speaker, word, emotion = match[1].upper(), match[2], _VARIANTS.get(match[3], match[3])
            yield Utterance(
                utterance=f"tess/{speaker}_{word}_{emotion}",
                path=path,
                speaker=f"tess/{speaker}",
                gender="female",
                text=word,
                intended=emotion,
            )


CORPUS = Description(
    name="tess",
    title="TESS (Pichora-Fuller & Dupuis 2010)",
    rows=_rows,
    looked_for="audio files such as OAF_angry/OAF_back_angry.wav",
    words=_EMOTIONS,
    protocol="speaker2-random-dev",
    rules={"speaker2-random-dev": Rule(rules.with_random_dev(rules.by_speaker(rules.each_speaker)), rules.SHARED_DEV)},
    licence="CC BY-NC-ND 4.0",
)
