"""audformat databases (db.yaml and its tables): read without opening a pickle, and written from an utterance table."""

import os
from collections.abc import Iterator
from pathlib import Path

from emodarts.corpora.audformat_writer import write
from emodarts.corpora.description import CorpusDescription
from emodarts.corpora.readers import audformat_tables as database
from emodarts.corpora.readers.audformat_tables import Key, OtherTables, Table
from emodarts.corpora.readers.audio_index import AudioIndex, unique_rows
from emodarts.corpora.readers.manifest import CORPUS as MANIFEST
from emodarts.corpora.readers.manifest import OWN_SPLIT, known_speaker, row_of_table
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance
from emodarts.corpora.table_files import Record, number, text

__all__ = ["CORPUS", "write"]

_NUMBERS = ("arousal", "valence", "dominance")
_ROLES = {"devel": "dev", "validation": "dev"}


def _rows(root: Path, settings: CorpusSettings) -> Iterator[Utterance | Dropped]:
    """The rows of the tables that `corpus.table` names (a name or a pattern; default: those with an emotion)."""
    header = database.read_header(root)
    tables = [database.table_of(name, entry) for name, entry in (header.get("tables") or {}).items()]
    chosen = database.choose(tables, settings, root)
    others = OtherTables(root, header, [table for table in tables if table not in chosen], settings.columns)
    files = AudioIndex(root, root)
    rows = (
        (record.where, _read_record(record, table, others, files))
        for table in chosen
        for record in database.records_of(root, table.name).rows
    )
    yield from unique_rows(rows, files, f"table {', '.join(table.name for table in chosen)}")
    yield from others.faults


def _read_record(record: Record, table: Table, others: OtherTables, files: AudioIndex) -> Utterance | Dropped:
    """The utterance of a row, or why there is none."""
    try:
        key = database.key_of(record)
    except ValueError as error:
        return Dropped(record.where, str(error))
    row = {field: _field(record, table, field, others, key) for field in database.FIELDS}
    try:
        numbers = {name: None if (value := row[name]) is None else number(value) for name in _NUMBERS}
    except ValueError as error:
        return Dropped(record.where, f"arousal, valence and dominance are numbers, not {error}")
    if row["intended"] is None and row["perceived"] is None:
        return Dropped(record.where, "the row has no emotion")
    try:
        path = key[0] if os.path.isabs(key[0]) and os.path.isfile(key[0]) else files.find_path(key[0])
    except LookupError as error:
        return Dropped(record.where, str(error))
    if os.path.isabs(path) and Path(path).is_relative_to(files.root):
        path = Path(path).relative_to(files.root).as_posix()
    split = table.split or row["split"]
    split = _ROLES.get(split, split) if split else None
    gender = row["gender"] or others.genders.get(known_speaker(row["speaker"]) or "")
    return row_of_table("audformat", path, *key[1:], {**row, **numbers, "split": split, "gender": gender})


def _field(record: Record, table: Table, field: str, others: OtherTables, key: Key) -> str | None:
    """A field as the row says it, else as other tables do."""
    column = database.column_of(table, field, others.columns)
    own = text(record.cells.get(column)) if column else None
    return own if own is not None else others.value(field, key)


CORPUS = CorpusDescription(
    name="audformat",
    title="an audformat database",
    rows=_rows,
    looked_for="the files that the tables of db.yaml list",
    words=MANIFEST.words,
    protocol="speaker<k>",
    rules={"official": OWN_SPLIT},
    sources=("intended", "perceived"),
    open_words=True,
)
