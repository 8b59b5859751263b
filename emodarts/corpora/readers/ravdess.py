"""RAVDESS speech (Livingstone & Russo 2018): North American English, acted, 1,440 utterances of 24 actors."""

import re
from pathlib import Path

from emodarts.corpora.description import CorpusDescription, rows_by_name
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.table import Utterance

# modality-channel-emotion-intensity-statement-repetition-actor
_NAME = re.compile(r"(0[123])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])", re.ASCII)
_EMOTIONS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]


def _read_name(file: Path, path: str) -> Utterance | str:
    match = _NAME.fullmatch(file.stem)
    if not match:
        return "the name is not that of a RAVDESS recording (such as 03-01-05-01-01-01-01.wav)"
    modality, channel, emotion, intensity, statement, _, actor = match.groups()
    if (modality, channel) != ("03", "01"):
        return "not audio-only speech (modality 03, channel 01)"
    if (emotion, intensity) == ("01", "02"):
        return "neutral has no strong intensity: the name is wrong"
    return Utterance(
        utterance=f"ravdess/{file.stem}",
        path=path,
        speaker=f"ravdess/{actor}",
        gender="female" if int(actor) % 2 == 0 else "male",
        text=statement,
        scenario="strong" if intensity == "02" else "normal",
        intended=_EMOTIONS[int(emotion) - 1],
    )


CORPUS = CorpusDescription(
    name="ravdess",
    title="RAVDESS speech (Livingstone & Russo 2018)",
    rows=rows_by_name(_read_name),
    looked_for="audio files such as Actor_01/03-01-05-01-01-01-01.wav",
    words={**{word: word for word in _EMOTIONS}, "disgust": "disgusted"},
    protocol="speaker6",
    rules={"speaker6": Rule(rules.by_speaker(rules.dealt_by_gender(6)))},
    licence="CC BY-NC-SA 4.0 (Zenodo 1188976)",
)
