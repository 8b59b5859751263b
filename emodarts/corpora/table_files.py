"""Rows of a table file (CSV with any common delimiter, Parquet, JSON lines), each with the place where it stands."""

import csv
import json
import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from emodarts.errors import EmodartsError

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
_NOTHING = {"", "#N/A", "N/A", "n/a", "NA", "<NA>", "NaN", "nan", "NaT", "null", "NULL", "None"}


@dataclass(frozen=True)
class Record:
    """A row: its cells by column, where it stands (file and line, or row), and what is wrong with it, if anything."""

    where: str
    cells: dict[str, Any]
    fault: str | None = None


@dataclass(frozen=True)
class Records:
    """A table: the names of its columns as they stand there, and a stream of its rows."""

    columns: list[str]
    rows: Iterator[Record]


def read_records(path: Path) -> Records:
    """Open a table by its suffix; anything but Parquet and JSON is taken for delimited text.

    Raises EmodartsError, while the rows are drawn too, with file and line where there is one.
    """
    try:
        if path.suffix.lower() == ".parquet":
            return _parquet(path)
        if path.suffix.lower() in (".json", ".jsonl", ".ndjson"):
            return _json(path)
        return _delimited(path)
    except (pa.ArrowException, OSError) as error:
        raise EmodartsError(f"{path}: cannot be read as a table: {error}") from error
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error


def text(value: Any) -> str | None:
    """A cell as text without outer blanks; None for an empty one, NaN and the like. Whole floats lose their `.0`.

    Letters with accents get one spelling (NFC): a speaker must not become two because two programs wrote the table.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, dict):  # an audio cell of some Parquet files: path and bytes
        return text(value.get("path"))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    stripped = unicodedata.normalize("NFC", str(value).strip())
    return None if stripped in _NOTHING else stripped


def number(value: str) -> float:
    """A finite number. Raises ValueError that shows the value."""
    try:
        parsed = float(value)
    except ValueError:
        parsed = math.nan
    if not math.isfinite(parsed):
        raise ValueError(repr(value))
    return parsed


def _delimited(path: Path) -> Records:
    with path.open("rb") as file:
        encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    with path.open(newline="", encoding=encoding) as lines:
        header = next((line for line in lines if line.strip()), "").strip("\r\n")
    hint = header[4:] if header[:4].lower() == "sep=" and len(header) == 5 else None  # of spreadsheets
    delimiter = hint or max(",;\t|", key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))
    rows = _lines(path, encoding, delimiter, skip_first=hint is not None)
    columns = [name.strip() for name in next(rows, (0, []))[1]]
    while columns and not columns[-1]:
        columns.pop()
    return Records(columns, _delimited_rows(path, columns, rows))


def _delimited_rows(path: Path, columns: list[str], rows: Iterator[tuple[int, list[str]]]) -> Iterator[Record]:
    for line, cells in rows:
        more = [cell for cell in cells[len(columns) :] if cell.strip()]
        fault = f"{len(cells)} cells under {len(columns)} columns" if more or len(cells) < len(columns) else None
        yield Record(f"{path.name}:{line}", dict(zip(columns, cells, strict=False)), fault)


def _lines(path: Path, encoding: str, delimiter: str, skip_first: bool) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row that is not blank, the header first; a row of several lines bears its first."""
    try:
        with path.open(newline="", encoding=encoding) as file:
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
            line = 1
            for number, cells in enumerate(reader):
                if cells and not (skip_first and number == 0):
                    yield line, cells
                line = reader.line_num + 1
    except csv.Error as error:
        raise EmodartsError(f"{path}:{reader.line_num}: cannot be read as a table: {error}") from error
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error


def _not_utf8(path: Path, error: UnicodeDecodeError) -> EmodartsError:
    return EmodartsError(f"{path}: invalid UTF8 ({error.reason}): save the table as UTF-8")


def _parquet(path: Path) -> Records:
    file = pa.parquet.ParquetFile(path)
    return Records(list(file.schema_arrow.names), _parquet_rows(path, file))


def _parquet_rows(path: Path, file: "pa.parquet.ParquetFile") -> Iterator[Record]:
    number = 0
    try:
        for batch in file.iter_batches():
            table = pa.Table.from_batches([batch])
            for index, field in enumerate(table.schema):
                if pa.types.is_duration(field.type):  # Python's own time spans know microseconds
                    spans = table.column(index).cast(pa.duration("us"), safe=False)
                    table = table.set_column(index, field.name, spans)
            for cells in table.to_pylist():
                number += 1
                yield Record(f"{path.name} row {number}", cells)
    except (pa.ArrowException, OSError) as error:
        raise EmodartsError(f"{path}: cannot be read after row {number}: {error}") from error


def _json(path: Path) -> Records:
    content = path.read_text(encoding="utf-8-sig")
    placed: list[tuple[str, Any]] = []
    try:
        if content.lstrip().startswith("["):
            placed = [(f"{path.name} row {n}", row) for n, row in enumerate(json.loads(content), start=1)]
        else:
            for n, line in enumerate(content.split("\n"), start=1):
                if line.strip():
                    placed.append((f"{path.name}:{n}", json.loads(line)))
    except ValueError as error:
        raise EmodartsError(f"{path}: cannot be read as JSON after row {len(placed)}: {error}") from error
    rows = [Record(at, row) if isinstance(row, dict) else Record(at, {}, "no JSON object") for at, row in placed]
    return Records(list(dict.fromkeys(key for row in rows for key in row.cells)), iter(rows))
