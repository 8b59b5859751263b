"""audformat databases (db.yaml and its tables): read without opening a pickle, and written from an utterance table."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emodarts.corpora.audformat_writer import write
from emodarts.corpora.description import CorpusDescription
from emodarts.corpora.readers import audformat_tables as database
from emodarts.corpora.readers import manifest
from emodarts.corpora.readers.audformat_tables import Beside, Key, Table
from emodarts.corpora.readers.audio_index import AudioIndex, SeenUtterances
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance
from emodarts.corpora.table_files import Record, number, text

__all__ = ["CORPUS", "write"]

_NUMBERS = ("arousal", "valence", "dominance")
_ROLES = {"devel": "dev", "validation": "dev"}


def _rows(root: Path, settings: CorpusSettings) -> Iterator[Utterance | Dropped]:
    """The rows of the tables that `corpus.table` names (a name or a pattern; default: those with an emotion)."""
    header = database.read_header(root)
    tables = [database.table_of(name, told) for name, told in (header.get("tables") or {}).items()]
    chosen = database.choose(tables, settings, root)
    beside = Beside(root, header, [table for table in tables if table not in chosen], settings.columns)
    files = AudioIndex(root, root)
    names = ", ".join(table.name for table in chosen)
    listed: set[str] = set()
    told = SeenUtterances()
    for table in chosen:
        for record in database.records_of(root, table.name).rows:
            row = _row(record, table, beside, files)
            if isinstance(row, Utterance):
                if (again := told.again(row, record.where)) is not None:
                    yield again
                    continue
                listed.add(row.path)
            yield row
    yield from beside.faults
    yield from files.unlisted(listed, f"table {names}")


def _row(record: Record, table: Table, beside: Beside, files: AudioIndex) -> Utterance | Dropped:
    """The utterance of a row, or why there is none."""
    try:
        key = database.key_of(record)
    except ValueError as error:
        return Dropped(record.where, str(error))
    told = {field: _told(record, table, field, beside, key) for field in database.FIELDS}
    try:
        numbers = {name: None if (value := told[name]) is None else number(value) for name in _NUMBERS}
    except ValueError as error:
        return Dropped(record.where, f"arousal, valence and dominance are numbers, not {error}")
    if told["intended"] is None and told["perceived"] is None:
        return Dropped(record.where, "the row has no emotion")
    path, reason = (key[0], None) if os.path.isabs(key[0]) and os.path.isfile(key[0]) else files.find(key[0])
    if reason:
        return Dropped(record.where, reason)
    if os.path.isabs(path) and Path(path).is_relative_to(files.root):
        path = Path(path).relative_to(files.root).as_posix()
    named, recording = told.pop("speaker"), told.pop("recording")
    speaker = manifest.known_speaker(named)
    name = os.path.splitext(path)[0].lstrip("/") + ("" if key[1] is None else f"@{key[1]}")
    split = table.split or told["split"]
    more: dict[str, Any] = {
        **told,
        **numbers,
        "gender": manifest.GENDERS.get((told["gender"] or beside.genders.get(speaker or "", "")).lower()),
        "split": _ROLES.get(split, split) if split else None,
    }
    return Utterance(
        utterance=f"audformat/{name}",
        path=path,
        speaker=None if speaker is None else f"audformat/{speaker}",
        recording=recording or path,
        start=key[1],
        end=key[2],
        **more,
    )


def _told(record: Record, table: Table, field: str, beside: Beside, key: Key) -> str | None:
    """A field as the row says it, else as other tables do."""
    column = database.column_of(table, field, beside.given)
    own = text(record.cells.get(column)) if column else None
    return own if own is not None else beside.of(field, key)


CORPUS = CorpusDescription(
    name="audformat",
    title="an audformat database",
    rows=_rows,
    looked_for="the files that the tables of db.yaml list",
    words=manifest.CORPUS.words,
    protocol="speaker<k>",
    rules={"official": manifest.OWN_SPLIT},
    sources=("intended", "perceived"),
    open_words=True,
)
