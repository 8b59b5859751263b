"""Any corpus, given as a table (CSV, Parquet or JSON lines) with one row an utterance: file, speaker, label."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emodarts.corpora.description import CorpusDescription
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Division, LabelledUtterance, Rule
from emodarts.corpora.readers.audio_index import AudioIndex, unique_rows
from emodarts.corpora.readers.column_names import match_columns
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance, parse_seconds
from emodarts.corpora.table_files import SUFFIXES, Record, number, read_records, text
from emodarts.errors import EmodartsError

_GENDERS = dict.fromkeys(("f", "female", "w", "woman", "weiblich", "frau", "femme", "mujer"), "female")
_GENDERS |= dict.fromkeys(("m", "male", "man", "männlich", "maennlich", "mann", "homme", "hombre"), "male")
# What stands in a speaker's cell for nobody in particular: such utterances have several speakers, not one.
_NOBODY = {"unknown", "unk", "unbekannt", "inconnu", "inconnue", "desconocido", "?", "??", "-", "-1"}
_ATTRIBUTES = ("arousal", "valence", "dominance")
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation"), "dev"),
}


def _rows(root: Path, settings: CorpusSettings) -> Iterator[Utterance | Dropped]:
    """The rows of the table that `corpus.table` names (default: the only one in root)."""
    path = _table_path(root, settings.table)
    table = read_records(path)
    columns = match_columns(table.columns, str(path), settings.columns)
    files = AudioIndex(root, path.parent)
    rows = ((record.where, _read_record(record, columns, files, settings.name)) for record in table.rows)
    return unique_rows(rows, files, path.name)


def _table_path(root: Path, name: str | None) -> Path:
    if name is not None:
        if not (root / name).is_file():
            raise EmodartsError(f"corpus.table={name}: there is no such file in {root}")
        return root / name
    tables = sorted(p for p in root.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "." and p.is_file())
    if len(tables) != 1:
        names = ", ".join(p.name for p in tables) or "none"
        raise EmodartsError(
            f"{root}: looked for one table ({', '.join(SUFFIXES)}), found {names}; name it with corpus.table=..."
        )
    return tables[0]


def _read_record(record: Record, columns: dict[str, str], files: AudioIndex, corpus: str) -> Utterance | Dropped:
    """The utterance of a row, or why there is none."""
    if record.fault:
        return Dropped(record.where, record.fault)
    row: dict[str, Any] = {field: text(record.cells.get(column)) for field, column in columns.items()}
    row["intended"] = row.pop("label", None) or row.get("intended")
    if row["file"] is None or (row["intended"] is None and row.get("perceived") is None):
        return Dropped(record.where, "the row has no file or no label")
    try:
        path = files.find_path(row.pop("file"))
    except LookupError as error:
        return Dropped(record.where, str(error))
    try:
        start, end = _span(row, record, columns)
    except ValueError:
        return Dropped(record.where, f"start {row.get('start')} and end {row.get('end')} are no span of seconds")
    try:
        attributes = {name: None if row.get(name) is None else number(row[name]) for name in _ATTRIBUTES}
    except ValueError as error:
        return Dropped(record.where, f"arousal, valence and dominance are numbers, not {error}")
    row.pop("duration", None)
    return row_of_table(corpus, path, start, end, {**row, **attributes})


def row_of_table(
    corpus: str, path: str, start: float | None, end: float | None, fields: Mapping[str, Any]
) -> Utterance:
    """The utterance of a file, or of its part from start to end (s), with the other fields as a table says them."""
    name = os.path.splitext(path)[0].lstrip("/") + ("" if start is None else f"@{start}")
    speaker = known_speaker(fields["speaker"])
    more = {
        "utterance": f"{corpus}/{name}",
        "path": path,
        "start": start,
        "end": end,
        "speaker": None if speaker is None else f"{corpus}/{speaker}",
        # Of known speakers too: unknown ones of the same file must not train beside them.
        "recording": fields.get("recording") or path,
        "gender": _GENDERS.get((fields.get("gender") or "").lower()),
    }
    return Utterance(**{**fields, **more})


def known_speaker(cell: str | None) -> str | None:
    """The speaker that a cell names; None where a word or a mark stands for one who is not known."""
    return None if cell is None or cell.casefold() in _NOBODY else cell


def _span(row: dict[str, Any], record: Record, columns: dict[str, str]) -> tuple[float | None, float | None]:
    """Start and end in seconds. Raises ValueError for times that are none, or in the wrong order."""
    times = {name: record.cells.get(columns[name]) for name in ("start", "end", "duration") if row.get(name)}
    start, end = parse_seconds(times.get("start")), parse_seconds(times.get("end"))
    if end is None and start is not None and "duration" in times:
        end = start + (parse_seconds(times["duration"]) or 0)
    if end is not None and end <= (start or 0):
        raise ValueError(end)
    return start, end


def _own_split(corpus: str, candidates: Sequence[LabelledUtterance]) -> list[Division]:
    """The table's own split: train; dev, devel or validation; and test sets whose names begin with `test`."""
    lower = [replace(c, split=_SPLITS.get((c.split or "").lower(), (c.split or "").lower())) for c in candidates]
    tests = {split: split for c in lower if (split := c.split or "").startswith("test")}
    return rules.official("train", ("dev",), tests)(corpus, lower)


OWN_SPLIT = Rule(_own_split)

CORPUS = CorpusDescription(
    name="manifest",
    title="a table of recordings (CSV, Parquet or JSON lines)",
    rows=_rows,
    looked_for="the files that the table lists",
    words={
        **dict.fromkeys(("angry", "anger", "ang"), "angry"),
        **dict.fromkeys(("happy", "happiness", "joy", "hap"), "happy"),
        **dict.fromkeys(("excited", "excitement", "exc"), "excited"),
        **dict.fromkeys(("neutral", "neu"), "neutral"),
        **dict.fromkeys(("sad", "sadness"), "sad"),
        **dict.fromkeys(("fear", "fearful", "fea"), "fearful"),
        **dict.fromkeys(("disgust", "disgusted", "dis"), "disgusted"),
        **dict.fromkeys(("surprise", "surprised", "sur"), "surprised"),
        **dict.fromkeys(("bored", "boredom"), "bored"),
        **dict.fromkeys(("no agreement", "no_agreement", "xxx"), "no_agreement"),
        **dict.fromkeys(("other", "oth"), "other"),
        "calm": "calm",
    },
    protocol="speaker<k>",
    rules={"official": OWN_SPLIT},
    sources=("intended", "perceived"),
    open_words=True,
)
