"""EmoDB (Burkhardt et al. 2005): German, acted, 535 utterances of 10 speakers; the file name says everything."""

import re
from pathlib import Path

from emodarts.corpora.description import CorpusDescription, rows_by_name
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.table import Utterance

_WOMEN = {"08", "09", "13", "14", "16"}
_SPEAKERS = sorted(_WOMEN | {"03", "10", "11", "12", "15"})
_TEXTS = ["a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10"]
# speaker, text, emotion, version: 03a01Wa
_NAME = re.compile(rf"({'|'.join(_SPEAKERS)})({'|'.join(_TEXTS)})([WLEAFTN])([a-f])")
_EMOTIONS = {
    "W": ("anger", "angry"),
    "L": ("boredom", "bored"),
    "E": ("disgust", "disgusted"),
    "A": ("fear", "fearful"),
    "F": ("happiness", "happy"),
    "T": ("sadness", "sad"),
    "N": ("neutral", "neutral"),
}


def _read_name(file: Path, path: str) -> Utterance | str:
    match = _NAME.fullmatch(file.stem)
    if not match:
        return "the name is not that of an EmoDB recording (such as 03a01Wa.wav)"
    speaker, text, emotion, _ = match.groups()
    return Utterance(
        utterance=f"emodb/{file.stem}",
        path=path,
        speaker=f"emodb/{speaker}",
        gender="female" if speaker in _WOMEN else "male",
        text=text,
        intended=_EMOTIONS[emotion][0],
    )


CORPUS = CorpusDescription(
    name="emodb",
    title="EmoDB (Burkhardt et al. 2005)",
    rows=rows_by_name(_read_name),
    looked_for="audio files such as wav/03a01Wa.wav",
    words=dict(_EMOTIONS.values()),
    protocol="speaker10",
    rules={"speaker10": Rule(rules.by_speaker(rules.each_speaker, rules.next_woman_and_man))},
    licence="CC0-1.0 by its audformat card; another card says CC BY 4.0",
)
