"""RAVDESS speech (Livingstone & Russo 2018): North American English, acted, 1,440 utterances of 24 actors."""

import re
from collections.abc import Iterator
from pathlib import Path

from emodarts.corpora.description import Description
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance, audio_files, hidden, one_of_each

# modality-channel-emotion-intensity-statement-repetition-actor
_NAME = re.compile(r"(0[123])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])", re.ASCII)
_EMOTIONS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]


def _rows(root: Path, settings: CorpusSettings) -> Iterator[Utterance | Dropped]:
    return one_of_each(root, _named(root))


def _named(root: Path) -> Iterator[Utterance | Dropped]:
    for file in audio_files(root):
        path = file.relative_to(root).as_posix()
        match = _NAME.fullmatch(file.stem)
        if hidden(path):
            yield Dropped(path, "a hidden file or folder")
        elif not match:
            yield Dropped(path, "the name is not that of a RAVDESS recording (such as 03-01-05-01-01-01-01.wav)")
        elif (match[1], match[2]) != ("03", "01"):
            yield Dropped(path, "not audio-only speech (modality 03, channel 01)")
        elif (match[3], match[4]) == ("01", "02"):
            yield Dropped(path, "neutral has no strong intensity: the name is wrong")
        else:
            _, _, emotion, intensity, statement, _, actor = match.groups()
            yield Utterance(
                utterance=f"ravdess/{file.stem}",
                path=path,
                speaker=f"ravdess/{actor}",
                gender="female" if int(actor) % 2 == 0 else "male",
                text=statement,
                scenario="strong" if intensity == "02" else "normal",
                intended=_EMOTIONS[int(emotion) - 1],
            )


CORPUS = Description(
    name="ravdess",
    title="RAVDESS speech (Livingstone & Russo 2018)",
    rows=_rows,
    looked_for="audio files such as Actor_01/03-01-05-01-01-01-01.wav",
    words={
        "neutral": "neutral",
        "calm": "calm",
        "happy": "happy",
        "sad": "sad",
        "angry": "angry",
        "fearful": "fearful",
        "disgust": "disgusted",
        "surprised": "surprised",
    },
    protocol="speaker6",
    rules={"speaker6": Rule(rules.by_speaker(rules.dealt_by_gender(6)))},
    licence="CC BY-NC-SA 4.0 (Zenodo 1188976)",
)
