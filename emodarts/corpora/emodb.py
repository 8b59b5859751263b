"""EmoDB (Burkhardt et al. 2005): German, acted, 535 utterances of 10 speakers; the file name says everything."""

import re
from collections.abc import Iterator
from pathlib import Path

from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus, Dropped, Utterance, audio_files, build, hidden

# speaker, text, emotion, version: 03a01Wa
_NAME = re.compile(r"^(\d{2})([ab]\d{2})([WLEAFTN])([a-z])$")
_EMOTIONS = dict(
    zip("WLEAFTN", ["anger", "boredom", "disgust", "fear", "happiness", "sadness", "neutral"], strict=True)
)
_WOMEN = {"08", "09", "13", "14", "16"}
_SPEAKERS = _WOMEN | {"03", "10", "11", "12", "15"}


def read(root: Path, settings: CorpusSettings) -> Corpus:
    """Read a copy of EmoDB (`wav/03a01Wa.wav`, or FLAC; flat copies too)."""
    return build("emodb", root, _rows(root), "audio files such as wav/03a01Wa.wav")


def _rows(root: Path) -> Iterator[Utterance | Dropped]:
    for file in audio_files(root):
        path = file.relative_to(root).as_posix()
        match = _NAME.match(file.stem)
        if hidden(path):
            yield Dropped(path, "a hidden file or folder")
        elif not match or match[1] not in _SPEAKERS:
            yield Dropped(path, "the name is not that of an EmoDB recording (such as 03a01Wa.wav)")
        else:
            speaker, text, emotion, _ = match.groups()
            yield Utterance(
                utterance=f"emodb/{file.stem}",
                path=path,
                speaker=f"emodb/{speaker}",
                gender="female" if speaker in _WOMEN else "male",
                text=text,
                intended=_EMOTIONS[emotion],
            )
