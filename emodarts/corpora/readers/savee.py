"""SAVEE (Haq & Jackson 2009): British English, acted, 480 utterances of 4 men, in folders or flat."""

import re
from pathlib import Path

from emodarts.corpora.description import CorpusDescription, rows_by_name
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.table import Utterance

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


def _read_name(file: Path, path: str) -> Utterance | str:
    match = _NAME.fullmatch(file.stem) if file.stem.isascii() else None
    if not match:
        return "the name is not that of a SAVEE recording (such as DC/a01.wav or DC_a01.wav)"
    speaker, code, sentence = match[1] or file.parent.name, match[2] or match[4], match[3] or match[5]
    if speaker not in _SPEAKERS:
        return f"the speaker is unknown: the folder is none of {', '.join(_SPEAKERS)}"
    return Utterance(
        utterance=f"savee/{speaker}_{code}{sentence}",
        path=path,
        speaker=f"savee/{speaker}",
        gender="male",
        text=f"{code}{sentence}",
        intended=_EMOTIONS[code][0],
    )


CORPUS = CorpusDescription(
    name="savee",
    title="SAVEE (Haq & Jackson 2009)",
    rows=rows_by_name(_read_name),
    looked_for="audio files such as AudioData/DC/a01.wav or DC_a01.wav",
    words=dict(_EMOTIONS.values()),
    protocol="speaker4",
    rules={"speaker4": Rule(rules.by_speaker(rules.each_speaker))},
    licence="free for research, after registration",
)
