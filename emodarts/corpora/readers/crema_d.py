"""CREMA-D (Cao et al. 2014): English, acted, 7,442 utterances of 91 actors, with the votes of the crowd beside them."""

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from emodarts.corpora.description import CorpusDescription
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance, drop_copies, files_below, is_hidden, rows_of_files
from emodarts.corpora.table_files import read_records
from emodarts.errors import EmodartsError

_SENTENCES = ["IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI"]
_EMOTIONS = {"ANG": "angry", "DIS": "disgusted", "FEA": "fearful", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
# actor, sentence, emotion, level: 1001_IEO_ANG_HI
_NAME = re.compile(
    rf"((?!1000)10[0-8]\d|109[01])_({'|'.join(_SENTENCES)})_({'|'.join(_EMOTIONS)})_(LO|MD|HI|XX)", re.ASCII
)
_MISSPELT = {"1040_ITH_SAD_X": "1040_ITH_SAD_XX"}  # in the release, but not in its tables
_LETTERS = {word[0]: name for word, name in _EMOTIONS.items()}
_LAST_OF_GROUP = [f"crema_d/{actor}" for actor in ("1018", "1036", "1054", "1072", "1091")]


def _rows(root: Path, settings: CorpusSettings) -> Iterator[Utterance | Dropped]:
    """Intended labels from the names, perceived ones from the votes on the voice alone, where summaryTable.csv is."""
    votes = _read_columns(root, "summaryTable.csv", "FileName", "VoiceVote")
    genders = _read_columns(root, "VideoDemographics.csv", "ActorID", "Sex")

    def read_name(file: Path, path: str) -> Utterance | str:
        name = _MISSPELT.get(file.stem, file.stem)
        match = _NAME.fullmatch(name)
        if not match:
            return "the name is not that of a CREMA-D recording (such as 1001_IEO_ANG_HI.wav)"
        actor, sentence, emotion, level = match.groups()
        return Utterance(
            utterance=f"crema_d/{name}",
            path=path,
            speaker=f"crema_d/{actor}",
            gender=genders.get(actor, "").lower() or None,
            text=sentence,
            scenario=level,
            intended=emotion,
            perceived=votes.get(name) or None,
        )

    return drop_copies(root, rows_of_files(root, read_name))


def _read_columns(root: Path, name: str, key: str, value: str) -> dict[str, str]:
    """Two columns, key -> value, of the first table of that name below root; empty where there is none.

    Raises EmodartsError with file and line for a table that is not as published, or that contradicts itself.
    """
    tables = files_below(root, lambda file: file == name)
    path = next((p for p in tables if not is_hidden(p.relative_to(root).as_posix())), None)
    if path is None:
        return {}
    table = read_records(path)
    if not {key, value} <= set(table.columns):
        pointer = " (a git-LFS pointer: git lfs pull)" if "git-lfs" in "".join(table.columns) else ""
        raise EmodartsError(f"{path}: no columns {key} and {value}{pointer}; restore or remove the file")
    values: dict[str, str] = {}
    for row in table.rows:
        name, cell = ((row.cells.get(column) or "").strip() for column in (key, value))
        if value == "Sex" and cell not in ("Male", "Female"):
            raise EmodartsError(f"{path.parent}/{row.where}: Sex is '{cell}', not Male or Female")
        if values.setdefault(name, cell) != cell:
            raise EmodartsError(f"{path.parent}/{row.where}: {name} stands there twice, as {value} {cell} too")
    return values


def _words() -> dict[str, str]:
    """The names' words, the letters of the votes, and every tie of votes (A:N), which is no agreement."""
    ties = (":".join(tie).lower() for size in range(2, 7) for tie in combinations(sorted(_LETTERS), size))
    named = {word.lower(): name for word, name in (_EMOTIONS | _LETTERS).items()}
    return {**named, **dict.fromkeys(ties, "no_agreement")}


CORPUS = CorpusDescription(
    name="crema_d",
    title="CREMA-D (Cao et al. 2014)",
    rows=_rows,
    looked_for="audio files such as AudioWAV/1001_IEO_ANG_HI.wav",
    words=_words(),
    protocol="speaker5",
    rules={"speaker5": Rule(rules.by_speaker(rules.id_ranges(_LAST_OF_GROUP)))},
    sources=("intended", "perceived"),
    licence="ODbL 1.0 and DbCL 1.0",
)
