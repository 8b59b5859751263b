"""Any corpus, given as a table (CSV or Parquet) with one row an utterance: file, speaker, label."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus, Dropped, Utterance, build
from emodarts.errors import EmodartsError

_GUESSES = {
    "file": ("file", "path", "filename", "file_name", "filepath", "audio", "wav"),
    "speaker": ("speaker", "speaker_id", "spk", "spkr", "spkrid", "actor"),
    "label": ("label", "emotion", "class", "emo", "emoclass"),
    "gender": ("gender", "sex"),
    "session": ("session",),
    "text": ("text", "sentence", "transcript"),
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
    return build("manifest", root, _rows(root, path, table, columns), f"the files that {path.name} lists")


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
        return pa.csv.read_csv(path, convert_options=pa.csv.ConvertOptions(strings_can_be_null=True))
    except (pa.ArrowInvalid, OSError) as error:
        raise EmodartsError(f"{path}: cannot be read as a table: {error}") from error


def _columns(table: pa.Table, path: Path, given: dict[str, str]) -> dict[str, str]:
    """Our field -> the table's column: as given, else guessed."""
    lower = {name.lower(): name for name in table.column_names}
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
        columns[field] = str(name)
    return columns


def _rows(root: Path, path: Path, table: pa.Table, columns: dict[str, str]) -> Iterator[Utterance | Dropped]:
    records = table.select(list(dict.fromkeys(columns.values()))).to_pylist()
    seen: set[str] = set()
    for line, record in enumerate(records, start=2):
        row = {field: record[column] for field, column in columns.items()}
        where = f"{path.name}:{line}"
        if not row["file"] or row["label"] in (None, ""):
            yield Dropped(where, "the row has no file or no label")
            continue
        file = Path(str(row["file"]))
        if file.is_absolute() or ".." in file.parts:
            yield Dropped(where, f"{file} lies outside the corpus's root; give paths relative to it")
            continue
        utterance = f"manifest/{file.with_suffix('').as_posix()}"
        if row.get("start") is not None:
            utterance += f"@{row['start']}"
        if utterance in seen:
            yield Dropped(where, f"{utterance} stands in an earlier row already")
            continue
        seen.add(utterance)
        speaker = row["speaker"]
        yield Utterance(
            utterance=utterance,
            path=file.as_posix(),
            speaker=None if speaker in (None, "") else f"manifest/{speaker}",
            recording=None if speaker not in (None, "") else file.as_posix(),
            intended=str(row["label"]),
            gender=_GENDERS.get(str(row.get("gender")).lower()),
            session=None if row.get("session") is None else str(row["session"]),
            text=None if row.get("text") is None else str(row["text"]),
            start=row.get("start"),
            end=row.get("end"),
        )
