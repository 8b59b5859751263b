"""SAVEE (Haq & Jackson 2009): British English, acted, 480 utterances of 4 men, in folders or flat."""

import re
from collections.abc import Iterator
from pathlib import Path

from emodarts.corpora.description import Description
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance, audio_files, hidden, one_of_each

_EMOTIONS = {
    "a": ("anger", "angry"),
    "d": ("disgust", "disgusted"),
    "f": ("fear", "fearful"),
    "h": ("happiness", "happy"),
    "n": ("neutral", "neutral"),
    "sa": ("sadness", "sad"),
    "su": ("surprise", "surprised"),
}
_SPEAKERS = ("DC", "JE", "JK", "KL")
# emotion and sentence, a01; neutral has 30 sentences, the others 15; flat copies put the speaker in front, DC_a01
_NAME = re.compile(rf"(?:({'|'.join(_SPEAKERS)})_)?(?:(sa|su|[adfh])(0[1-9]|1[0-5])|(n)(0[1-9]|[12]\d|30))")


def _rows(root: Path, settings: CorpusSettings) -> Iterator[Utterance | Dropped]:
    return one_of_each(root, _named(root))


def _named(root: Path) -> Iterator[Utterance | Dropped]:
    for file in audio_files(root):
        path = file.relative_to(root).as_posix()
        match = _NAME.fullmatch(file.stem) if file.stem.isascii() else None
        speaker = match and (match[1] or file.relative_to(root.parent).parent.name)
        if hidden(path):
            yield Dropped(path, "a hidden file or folder")
        elif not match:
            yield Dropped(path, "the name is not that of a SAVEE recording (such as DC/a01.wav or DC_a01.wav)")
        elif speaker not in _SPEAKERS:
            yield Dropped(path, f"the speaker is unknown: the folder is none of {', '.join(_SPEAKERS)}")
        else:
            code, sentence = match[2] or match[4], match[3] or match[5]
            yield Utterance(
                utterance=f"savee/{speaker}_{code}{sentence}",
                path=path,
                speaker=f"savee/{speaker}",
                gender="male",
                text=f"{code}{sentence}",
                intended=_EMOTIONS[code][0],
            )


CORPUS = Description(
    name="savee",
    title="SAVEE (Haq & Jackson 2009)",
    rows=_rows,
    looked_for="audio files such as AudioData/DC/a01.wav or DC_a01.wav",
    words=dict(_EMOTIONS.values()),
    protocol="speaker4",
    rules={"speaker4": Rule(rules.by_speaker(rules.each_speaker))},
    licence="free for research, after registration",
)
