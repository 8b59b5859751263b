"""Any corpus, given as a table (CSV or Parquet) with one row an utterance: file, speaker, label."""

import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus, Dropped, Utterance, audio_files, build
from emodarts.errors import EmodartsError

_GUESSES = {
    "file": ("file", "path", "filename", "file_name", "filepath", "audio", "wav"),
    "speaker": ("speaker", "speaker_id", "spk", "spkr", "spkrid", "actor"),
    "label": ("label", "emotion", "class", "emo", "emoclass"),
    "gender": ("gender", "sex"),
    "session": ("session",),
    "text": ("text", "sentence", "transcript"),
    "split": ("split", "split_set", "partition"),
    "start": ("start", "begin", "onset"),
    "end": ("end", "stop", "offset"),
}
_REQUIRED = ("file", "speaker", "label")
_GENDERS = {"f": "female", "female": "female", "w": "female", "woman": "female"}
_GENDERS |= {"m": "male", "male": "male", "man": "male"}


def read(root: Path, settings: CorpusSettings) -> Corpus:
    """Read the table that `corpus.table` names (default: the only .csv or .parquet in root)."""
    path = _table_path(root, settings.table)
    table = _load(path)
    columns = _columns(table, path, settings.columns)
    rows = list(_rows(root, path, table, columns))
    rows += _unlisted(root, path, {row.path for row in rows if isinstance(row, Utterance)})
    return build("manifest", root, rows, f"the files that {path.name} lists")


def _table_path(root: Path, name: str | None) -> Path:
    if name is not None:
        if not (root / name).is_file():
            raise EmodartsError(f"corpus.table={name}: there is no such file in {root}")
        return root / name
    found = sorted(p for p in root.iterdir() if p.suffix.lower() in (".csv", ".parquet") and p.name[0] != ".")
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise EmodartsError(f"{root}: looked for one .csv or .parquet, found {names}; name it with corpus.table=...")
    return found[0]


def _load(path: Path) -> pa.Table:
    try:
        if path.suffix.lower() == ".parquet":
            return pa.parquet.read_table(path)
        with pa.csv.open_csv(path) as reader:  # the header only
            names = reader.schema.names
        # all as text: guessed types would turn speaker 01 into 1 and undecodable text into bytes
        options = pa.csv.ConvertOptions(strings_can_be_null=True, column_types=dict.fromkeys(names, pa.string()))
        return pa.csv.read_csv(path, convert_options=options)
    except (pa.ArrowException, OSError) as error:
        raise EmodartsError(f"{path}: cannot be read as a table: {error}") from error


def _columns(table: pa.Table, path: Path, given: dict[str, str]) -> dict[str, str]:
    """Our field -> the table's column: as given, else guessed."""
    lower = {name.strip().lower(): name for name in table.column_names}
    columns = {}
    for field, guesses in _GUESSES.items():
        name = given.get(field) or next((lower[g] for g in guesses if g in lower), None)
        if name is None and field not in _REQUIRED:
            continue
        if name not in table.column_names:
            raise EmodartsError(
                f"{path}: no column for '{field}' among {', '.join(table.column_names)}; "
                f"name it with corpus.columns.{field}=..."
            )
        if table.column_names.count(name) > 1:
            raise EmodartsError(f"{path}: there are several columns '{name}'; rename all but one")
        columns[field] = str(name)
    return columns


def _rows(root: Path, path: Path, table: pa.Table, columns: dict[str, str]) -> Iterator[Utterance | Dropped]:
    records = table.select(list(dict.fromkeys(columns.values()))).to_pylist()
    seen: set[str] = set()
    for line, record in enumerate(records, start=2):
        row = {field: _text(record[column]) for field, column in columns.items()}
        where = f"{path.name}:{line}"
        if row["file"] is None or row["label"] is None:
            yield Dropped(where, "the row has no file or no label")
            continue
        file = Path(row["file"])
        if file.is_absolute() and file.is_relative_to(root):
            file = file.relative_to(root)
        if file.is_absolute() or ".." in file.parts or not file.name:
            yield Dropped(where, f"{file} lies outside the corpus's root; give paths relative to it")
            continue
        try:
            start, end = _seconds(row.get("start")), _seconds(row.get("end"))
        except ValueError:
            yield Dropped(where, f"start {row.get('start')} and end {row.get('end')} are no span of seconds")
            continue
        utterance = f"manifest/{file.with_suffix('').as_posix()}"
        if start is not None:
            utterance += f"@{start}"
        if utterance in seen:
            yield Dropped(where, f"{utterance} stands in an earlier row already")
            continue
        seen.add(utterance)
        speaker = row["speaker"]
        yield Utterance(
            utterance=utterance,
            path=file.as_posix(),
            speaker=None if speaker is None else f"manifest/{speaker}",
            recording=file.as_posix() if speaker is None else None,
            intended=row["label"],
            gender=_GENDERS.get((row.get("gender") or "").lower()),
            session=row.get("session"),
            text=row.get("text"),
            split=row.get("split"),
            start=start,
            end=end,
        )


def _unlisted(root: Path, table: Path, listed: set[str]) -> list[Dropped]:
    files = (file.relative_to(root).as_posix() for file in audio_files(root))
    return [Dropped(path, f"no usable row of {table.name} names it") for path in files if path not in listed]


def _text(value: object) -> str | None:
    """A cell as text without outer blanks; None for an empty one and for NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value).strip() or None


def _seconds(value: str | None) -> float | None:
    """Raises ValueError for what is no point in time."""
    seconds = None if value is None else float(value)
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(value)
    return seconds
