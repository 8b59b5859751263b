"""Published counts of the corpora: what a complete copy holds, by word, speaker, session, scenario and split.

The numbers are data, in a corpus's grammar or in `published/<corpus>.toml`, written as the publications write them:
`[[release]]` has the fields of `Release`, each `[[release.counts]]` those of `Counts`, with `cells` nested as deep as
`by`; `[published]` is short for one release. `emodarts.audit.comparison` holds them against a copy.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib.resources import files
from typing import Any

from emodarts.errors import EmodartsError


@dataclass(frozen=True)
class Counts:
    """One published table of counts, and under which conditions it was counted.

    `by` names columns of the utterance table; `word` stands for the label in the column `Release.source`, and a table
    by word counts labelled utterances alone. Empty `by`: one total. `distinct` counts different values of that column
    instead of utterances. `complete`: values that are not listed should not occur. `decisive`: a copy that differs here
    is not "as published"; the other tables are shown for information.
    """

    title: str
    source: str  # the publication
    cells: Mapping[tuple[str, ...], int]
    by: tuple[str, ...] = ()
    words: tuple[str, ...] = ()  # only utterances with one of these words
    scenario: str | None = None  # only utterances of this scenario
    labelled: bool = False  # only utterances with a word
    usable: bool = False  # counted after recordings that cannot be used (silent, undecodable) were dropped
    without: tuple[str, ...] = ()  # utterances, without the corpus's name, that the publication left out
    merged: Mapping[str, str] = field(default_factory=dict)  # value -> the value under which it was counted
    distinct: str | None = None
    complete: bool = True
    decisive: bool = True

    @property
    def total(self) -> int:
        """The sum over all cells."""
        return sum(self.cells.values())


@dataclass(frozen=True)
class Release:
    """One release, or one well-known subset, of a corpus. `utterances`: its size; `source`: the column of the words."""

    corpus: str
    name: str
    utterances: int
    source: str
    counts: tuple[Counts, ...]


def read_releases(corpus: str) -> tuple[Release, ...]:
    """The releases in `published/<corpus>.toml`. Raises as `parse_releases`."""
    path = files("emodarts.corpora") / "published" / f"{corpus}.toml"
    return parse_releases(corpus, path.read_text(encoding="utf-8"), str(path))


def parse_releases(corpus: str, text: str, path: str) -> tuple[Release, ...]:
    """The releases in the text of a file. Raises EmodartsError, with file and table, for one that is not as above."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EmodartsError(f"{path}: {error}") from error
    if set(content) != {"release"}:
        raise EmodartsError(f"{path}: a list of [[release]] is needed, and nothing else")
    return parse_published(corpus, content, path)


def parse_published(corpus: str, content: Mapping[str, Any], path: str) -> tuple[Release, ...]:
    """The releases in `[[release]]` and `[published]` of a file's content. Raises as `parse_releases`."""
    entries = content.get("release", [])
    if not isinstance(entries, list):
        raise EmodartsError(f"{path}: release must be a list, [[release]]")
    releases = tuple(_release(corpus, entry, path) for entry in entries)
    return (*releases, _short_release(corpus, content["published"], path)) if "published" in content else releases


def _short_release(corpus: str, entry: Mapping[str, Any], path: str) -> Release:
    """`[published]`: utterances, and where they are published, speakers and counts by word or by speaker."""
    where = f"{path}, [published]"
    if unknown := set(entry) - {"utterances", "source", "name", "label", "speakers", "words", "by_speaker"}:
        raise EmodartsError(f"{where}: unknown {', '.join(sorted(unknown))}")
    if missing := {"utterances", "source"} - set(entry):
        raise EmodartsError(f"{where}: {', '.join(sorted(missing))} missing")
    source = entry["source"]
    tables: list[dict[str, Any]] = [{"title": "utterances", "cells": entry["utterances"]}]
    if "words" in entry:
        tables.append({"title": "utterances by word", "by": ["word"], "cells": entry["words"]})
    if "by_speaker" in entry:
        tables.append({"title": "utterances by speaker", "by": ["speaker"], "cells": entry["by_speaker"]})
    if "speakers" in entry:
        tables.append({"title": "speakers", "distinct": "speaker", "cells": entry["speakers"]})
    return Release(
        corpus,
        entry.get("name", "the release"),
        entry["utterances"],
        entry.get("label", "intended"),
        tuple(_counts({"source": source, **table}, where) for table in tables),
    )


def _release(corpus: str, entry: dict[str, Any], path: str) -> Release:
    where = f"{path}, release '{entry.get('name')}'"
    _check_keys({*entry, "corpus"}, Release, where)
    return Release(**{**entry, "corpus": corpus, "counts": tuple(_counts(table, where) for table in entry["counts"])})


def _counts(entry: dict[str, Any], where: str) -> Counts:
    where = f"{where}, table '{entry.get('title')}'"
    _check_keys(set(entry), Counts, where)
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    values["cells"] = dict(_flatten(entry["cells"]))
    by = values.get("by", ())
    if wrong := [cell for cell, n in values["cells"].items() if len(cell) != len(by) or type(n) is not int]:
        raise EmodartsError(f"{where}: cell {wrong[0]} is no number by {', '.join(by) or 'nothing'}")
    return Counts(**values)


def _flatten(cells: Any, names: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(cells, dict):
        return {names: cells}
    return {cell: n for name, inner in cells.items() for cell, n in _flatten(inner, (*names, name)).items()}


def _check_keys(keys: set[str], of: type[Counts | Release], where: str) -> None:
    known = {field.name for field in fields(of)}
    needed = {f.name for f in fields(of) if f.default is MISSING and f.default_factory is MISSING}
    if unknown := keys - known:
        raise EmodartsError(f"{where}: unknown {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    if missing := needed - keys:
        raise EmodartsError(f"{where}: {', '.join(sorted(missing))} missing")
