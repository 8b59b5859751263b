"""Writes an utterance table as an audformat database: db.yaml and CSV tables, for any tool that reads audformat."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from emodarts.corpora.table import Corpus
from emodarts.errors import EmodartsError
from emodarts.files import atomic_write

# column of the database -> column of the utterance table
_COLUMNS = {
    "emotion": "intended",
    "emotion.perceived": "perceived",
    "speaker": "speaker",
    "session": "session",
    "recording": "recording",
    "scenario": "scenario",
    "text": "text",
    "arousal": "arousal",
    "valence": "valence",
    "dominance": "dominance",
}
_NUMBERS = ("arousal", "valence", "dominance")
_SPLITS = {"train": "train", "dev": "dev", "development": "dev", "devel": "dev", "validation": "dev"}
Row = dict[str, Any]


def write(corpus: Corpus, folder: Path) -> Path:
    """Write `db.yaml`, the table `emotion` and one table of members a split into `folder`; returns db.yaml's path.

    Nothing is copied: audio below `folder` is named by its path relative to it (written into the corpus's root or a
    folder above, the database can be moved), other audio by its absolute path. Speakers lose the corpus's name in
    front. Raises EmodartsError where `folder` has a db.yaml already.
    """
    folder = Path(folder)
    target = folder / "db.yaml"
    if target.exists():
        raise EmodartsError(f"{target} is there already: remove that database, or write into another folder")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{**row, "file": _file(corpus.root / row["path"], folder)} for row in corpus.utterances.to_pylist()]
    for row in rows:
        row["speaker"] = row["speaker"] and row["speaker"].removeprefix(f"{corpus.name}/")
    segmented = any(row["start"] is not None or row["end"] is not None for row in rows)
    columns = {name: field for name, field in _COLUMNS.items() if any(row[field] is not None for row in rows)}
    _replace(folder / "db.emotion.csv", _csv(rows, segmented, columns))
    splits = sorted({row["split"] for row in rows if row["split"]})
    for split in splits:
        _replace(folder / f"db.split.{split}.csv", _csv([r for r in rows if r["split"] == split], segmented, {}))
    header = _header(corpus, rows, "segmented" if segmented else "filewise", columns, splits)
    _replace(target, yaml.safe_dump(header, sort_keys=False, allow_unicode=True))  # last: the header makes the database
    return target


def _file(path: Path, folder: Path) -> str:
    absolute, base = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    return absolute.relative_to(base).as_posix() if absolute.is_relative_to(base) else absolute.as_posix()


def _csv(rows: Iterable[Row], segmented: bool, columns: dict[str, str]) -> str:
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(["file", *(["start", "end"] if segmented else []), *columns])
    for row in rows:
        times = [_span(row["start"] or 0.0), _span(row["end"])] if segmented else []
        table.writerow([row["file"], *times, *("" if row[field] is None else row[field] for field in columns.values())])
    return lines.getvalue()


def _span(seconds: float | None) -> str:
    """Seconds as `0 days 00:00:01.250000000`; empty for none."""
    if seconds is None:
        return ""
    whole, nano = divmod(round(seconds * 1e9), 10**9)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours // 24} days {hours % 24:02d}:{minute:02d}:{second:02d}.{nano:09d}"


def _header(corpus: Corpus, rows: list[Row], kind: str, columns: dict[str, str], splits: Sequence[str]) -> Row:
    words = sorted({row[field] for row in rows for field in ("intended", "perceived") if row[field] is not None})
    schemes: Row = {"emotion": {"dtype": "str", "labels": words}}
    genders = {row["speaker"]: row["gender"] for row in rows if row["speaker"] is not None}
    for name in columns:
        if name == "speaker":
            labels = {speaker: {"gender": gender} if gender else {} for speaker, gender in sorted(genders.items())}
            schemes[name] = {"dtype": "str", "labels": labels}
        elif not name.startswith("emotion"):
            schemes[name] = {"dtype": "float" if name in _NUMBERS else "str"}
    uses = {name: {"scheme_id": "emotion" if name.startswith("emotion") else name} for name in columns}
    tables: Row = {"emotion": {"type": kind, "columns": uses}}
    tables |= {f"split.{split}": {"type": kind, "split_id": split} for split in splits}
    about = (corpus.utterances.schema.metadata or {}).get(b"corpus", corpus.name.encode()).decode()
    return {
        "name": corpus.name,
        "source": about,
        "usage": "unrestricted" if corpus.name == "demo" else "research",
        "languages": [],
        "description": f"{len(rows)} utterances of {about}; written by emodarts.",
        "schemes": schemes,
        "splits": {split: {"type": _SPLITS.get(split.lower(), _kind(split))} for split in splits},
        "tables": tables,
    }


def _kind(split: str) -> str:
    return "test" if split.lower().startswith("test") else "other"


def _replace(path: Path, content: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
