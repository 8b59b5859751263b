"""RAVDESS speech (Livingstone & Russo 2018): North American English, acted, 1,440 utterances of 24 actors."""

import re
from collections.abc import Iterator
from pathlib import Path

from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus, Dropped, Utterance, audio_files, build, hidden

# modality-channel-emotion-intensity-statement-repetition-actor
_NAME = re.compile(r"^(0[123])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])$")
_EMOTIONS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]


def read(root: Path, settings: CorpusSettings) -> Corpus:
    """Read a copy of the speech part (`Actor_NN/03-01-..-NN.wav`, or FLAC, at any depth)."""
    return build("ravdess", root, _rows(root), "audio files such as Actor_01/03-01-05-01-01-01-01.wav")


def _rows(root: Path) -> Iterator[Utterance | Dropped]:
    for file in audio_files(root):
        path = file.relative_to(root).as_posix()
        match = _NAME.match(file.stem)
        if hidden(path):
            yield Dropped(path, "a hidden file or folder")
        elif not match:
            yield Dropped(path, "the name is not that of a RAVDESS recording (such as 03-01-05-01-01-01-01.wav)")
        elif (match[1], match[2]) != ("03", "01"):
            yield Dropped(path, "not audio-only speech (modality 03, channel 01)")
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
