"""Writes an utterance table as an audformat database: db.yaml and CSV tables, for any tool that reads audformat."""

import os
import warnings
from pathlib import Path
from typing import Any

from emodarts.corpora.table import Corpus
from emodarts.errors import EmodartsError

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


def write(corpus: Corpus, folder: Path) -> Path:
    """Write `db.yaml`, the table `emotion` and one table of members a split into `folder`; returns db.yaml's path.

    Nothing is copied: audio below `folder` is named by its path relative to it (written into the corpus's root or a
    folder above, the database can be moved), other audio by its absolute path. Speakers lose the corpus's name in
    front. Raises EmodartsError where `folder` has a db.yaml already, and without the package audformat.
    """
    target = Path(folder) / "db.yaml"
    if target.exists():
        raise EmodartsError(f"{target} is there already: remove that database, or write into another folder")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas, about its next version
            _database(corpus, target.parent).save(str(target.parent), storage_format="csv")
    except ImportError as error:
        raise EmodartsError("writing audformat needs its package: pip install 'emodarts[audformat]'") from error
    return target


def _database(corpus: Corpus, folder: Path) -> Any:
    import audformat  # brings pandas

    rows = corpus.utterances.to_pylist()
    for row in rows:
        row["speaker"] = row["speaker"] and row["speaker"].removeprefix(f"{corpus.name}/")
    about = (corpus.utterances.schema.metadata or {}).get(b"corpus", corpus.name.encode()).decode()
    database = audformat.Database(
        corpus.name,
        source=about,
        usage="unrestricted" if corpus.name == "demo" else "research",
        description=f"{len(rows)} utterances of {about}; written by emodarts.",
    )
    files = [_file(corpus.root / row["path"], folder) for row in rows]
    if any(row["start"] is not None or row["end"] is not None for row in rows):
        times = [[None if row[name] is None else f"{row[name]:.9f} s" for row in rows] for name in ("start", "end")]
        index = audformat.segmented_index(files, [time or "0 s" for time in times[0]], times[1])
    else:
        index = audformat.filewise_index(files)
    database["emotion"] = audformat.Table(index)
    words = sorted({row[field] for row in rows for field in ("intended", "perceived") if row[field] is not None})
    genders = {row["speaker"]: row["gender"] for row in rows if row["speaker"] is not None}
    labels = {speaker: {"gender": gender} if gender else {} for speaker, gender in sorted(genders.items())}
    for name, field in _COLUMNS.items():
        values = [row[field] for row in rows]
        if all(value is None for value in values):
            continue
        scheme = "emotion" if name.startswith("emotion") else name
        kind = "float" if name in _NUMBERS else "str"
        database.schemes[scheme] = audformat.Scheme(kind, labels={"emotion": words, "speaker": labels}.get(scheme))
        database["emotion"][name] = audformat.Column(scheme_id=scheme)
        database["emotion"][name].set(values)
    for split in sorted({row["split"] for row in rows if row["split"]}):
        other = "test" if split.lower().startswith("test") else "other"
        database.splits[split] = audformat.Split(_SPLITS.get(split.lower(), other))
        members = index[[row["split"] == split for row in rows]]
        database[f"split.{split}"] = audformat.Table(members, split_id=split)
    return database


def _file(path: Path, folder: Path) -> str:
    absolute, base = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    return absolute.relative_to(base).as_posix() if absolute.is_relative_to(base) else absolute.as_posix()
