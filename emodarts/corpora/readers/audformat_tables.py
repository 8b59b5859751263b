"""The header and tables of an audformat database: which table has the emotions, and what the others add to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from emodarts.corpora.readers.column_names import column_names
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, parse_seconds
from emodarts.corpora.table_files import Record, Records, read_records, text
from emodarts.errors import EmodartsError

_SHARED = ("gender", "session", "recording", "scenario", "split", "arousal", "valence", "dominance")
_OWN = {
    "intended": ["emotion.intended", "emotion", "label", "emotion.categories", "emotion.label"],
    "perceived": ["emotion.perceived"],
    "speaker": ["speaker", "speaker_id", "speaker-id"],
    "text": ["text", "transcription", "sentence", "transcript"],
}
FIELDS = (*_SHARED, *_OWN)
_EMOTIONS = ("intended", "perceived")
_SETTINGS = {"label": "intended"}  # as corpus.columns calls it

Key = tuple[str, float | None, float | None]  # file, start, end (s)


@dataclass(frozen=True)
class Table:
    """A table of the header: its columns as name -> scheme, its split, whether its rows are segments."""

    name: str
    columns: Mapping[str, str | None]
    split: str | None
    segmented: bool


def read_header(root: Path) -> dict[str, Any]:
    """db.yaml as a mapping. Raises EmodartsError where it is missing, no YAML, or no header of a database."""
    path = root / "db.yaml"
    if not path.is_file():
        raise EmodartsError(f"{root}: no db.yaml; corpus.root must be the folder of an audformat database")
    try:
        header = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise EmodartsError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    for part in ("tables", "schemes", "misc_tables"):
        if not isinstance(header, dict) or not isinstance(header.get(part) or {}, dict):
            raise EmodartsError(f"{path}: this is not the header of an audformat database: no mapping of {part}")
    return header


def table_of(name: str, entry: Any) -> Table:
    """A table as its entry in the header describes it."""
    entry = entry if isinstance(entry, dict) else {}
    columns = {
        str(column): (scheme or {}).get("scheme_id") if isinstance(scheme, dict) else None
        for column, scheme in (entry.get("columns") or {}).items()
    }
    return Table(str(name), columns, entry.get("split_id"), entry.get("type") == "segmented")


def choose(tables: list[Table], settings: CorpusSettings, root: Path) -> list[Table]:
    """The tables to read. Raises EmodartsError where none or several could be meant."""
    if settings.table is not None:
        named = [table for table in tables if fnmatchcase(table.name, settings.table)]
        if not named:
            known = ", ".join(table.name for table in tables) or "none"
            raise EmodartsError(f"corpus.table={settings.table}: no such table in {root}/db.yaml; there are {known}")
    else:
        named = [t for t in tables if any(column_of(t, field, settings.columns) for field in _EMOTIONS)]
        whole = [table for table in named if table.name == "emotion"]
        if whole or (len(named) > 1 and not all(table.split for table in named)):
            if len(whole) != 1:
                names = ", ".join(table.name for table in named)
                raise EmodartsError(
                    f"{root}/db.yaml: several tables have emotions ({names}): choose with corpus.table=..."
                )
            named = whole
    if not named or not any(column_of(t, f, settings.columns) for t in named for f in _EMOTIONS):
        seen = ", ".join(sorted({column for table in named or tables for column in table.columns})) or "none"
        raise EmodartsError(
            f"{root}/db.yaml: no column of emotions among {seen}; name it with corpus.columns.label=..."
        )
    return named


def column_of(table: Table, field: str, set_columns: Mapping[str, str]) -> str | None:
    """The table's column for one of our fields: as `corpus.columns` says, else by its name, else by its scheme."""
    named = next((set_columns[name] for name in set_columns if _SETTINGS.get(name, name) == field), None)
    if named is not None:
        return named if named in table.columns else None
    for name in _OWN.get(field) or column_names()[field]:
        if name in table.columns:
            return name
        schemed = [column for column, scheme in table.columns.items() if scheme == name]
        if len(schemed) == 1 and schemed[0] not in _OWN["perceived"]:
            return schemed[0]
    return None


def records_of(root: Path, name: str) -> Records:
    """The rows of a table's file, Parquet before CSV. Raises EmodartsError where there is neither."""
    for suffix in ("parquet", "csv"):
        path = root / f"db.{name}.{suffix}"
        if path.is_file() and path.parent == root:
            return read_records(path)
    if (root / f"db.{name}.pkl").is_file():
        raise EmodartsError(
            f"{root}: table {name} is there as db.{name}.pkl alone, a pickle, which may hold anything and is never "
            f"opened; store it with audformat's Database.save(..., storage_format='csv')"
        )
    raise EmodartsError(f"{root}: the file of table {name} is missing (db.{name}.parquet or db.{name}.csv)")


class OtherTables:
    """What the other tables and the schemes know of a file, a segment or a speaker."""

    def __init__(self, root: Path, header: dict[str, Any], tables: list[Table], columns: Mapping[str, str]) -> None:
        """`columns` are those of the settings; `faults` will be the rows that could not be understood."""
        self.columns = columns
        self.faults: list[Dropped] = []
        self.values: dict[str, dict[Key, str]] = {field: {} for field in FIELDS}
        self.genders = _genders(root, header)
        for table in sorted(tables, key=lambda table: table.segmented):
            fields = {field: column_of(table, field, columns) for field in FIELDS if field not in _EMOTIONS}
            if not table.split and not any(fields.values()):
                continue
            for record in records_of(root, table.name).rows:
                try:
                    key = key_of(record)
                except ValueError as error:
                    self.faults.append(Dropped(record.where, str(error)))
                    continue
                row = {field: text(record.cells.get(column)) for field, column in fields.items() if column}
                for field, value in {**row, "split": table.split or row.get("split")}.items():
                    if value is not None:
                        self.values[field].setdefault(key, value)

    def value(self, field: str, key: Key) -> str | None:
        """A field of a segment, or else of its whole file."""
        own = self.values[field].get(key)
        return own if own is not None else self.values[field].get((key[0], None, None))


def _genders(root: Path, header: dict[str, Any]) -> dict[str, str]:
    """Speaker -> gender, from the labels of the speaker scheme: a mapping, or the name of a table."""
    scheme = (header.get("schemes") or {}).get("speaker")
    labels = scheme.get("labels") if isinstance(scheme, dict) else None
    if isinstance(labels, dict):
        described = {str(speaker): more for speaker, more in labels.items() if isinstance(more, dict)}
        return {speaker: str(more["gender"]) for speaker, more in described.items() if more.get("gender")}
    misc = (header.get("misc_tables") or {}).get(labels) if isinstance(labels, str) else None
    if not isinstance(misc, dict) or "gender" not in (misc.get("columns") or {}):
        return {}
    index = str(next(iter(misc.get("levels") or {"speaker": None})))
    rows = ((text(r.cells.get(index)), text(r.cells.get("gender"))) for r in records_of(root, str(labels)).rows)
    return {speaker: gender for speaker, gender in rows if speaker and gender}


def key_of(record: Record) -> Key:
    """File, start and end of a row; one from 0 to the end is the whole file. Raises ValueError with the reason."""
    cell = record.cells.get("file")
    file = text(cell)
    if file is not None and isinstance(cell, str):
        file = cell.strip()  # spelt as it is: it may be the name of a file elsewhere
    if record.fault or file is None:
        raise ValueError(record.fault or "the row has no file")
    cells = [record.cells.get(name) for name in ("start", "end")]
    try:
        start, end = (None if text(cell) is None else parse_seconds(cell) for cell in cells)
    except ValueError:
        start, end = 0.0, 0.0
    if end is not None and end <= (start or 0):
        raise ValueError(f"start {cells[0]} and end {cells[1]} are no span of time")
    return file, None if end is None and not start else start or 0.0, end
