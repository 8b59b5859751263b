"""What the readers of tables share: audio files as tables name them, and rows of which each utterance has one.

A table names a file relative to the root or absolutely, with or without suffix, or by its bare name.
"""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from emodarts.corpora.table import AUDIO_SUFFIXES, Dropped, Utterance, audio_files, is_hidden
from emodarts.errors import EmodartsError


class AudioIndex:
    """The audio files below a corpus's root, found as tables name them."""

    def __init__(self, root: Path, base: Path) -> None:
        """`base` is the table's folder: paths may be relative to it too."""
        self.root, self.base = root, base.relative_to(root).as_posix() if base.is_relative_to(root) else "."
        self.paths = [file.relative_to(root).as_posix() for file in audio_files(root)]
        self.by_path = {_same(path): path for path in self.paths}
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            if not is_hidden(path):
                for name in {os.path.basename(path), os.path.splitext(os.path.basename(path))[0]}:
                    self.by_name[_same(name)].append(path)

    def find_path(self, name: str) -> str:
        """The path (relative to root) of a file as a table names it: exact, without suffix, or by its bare name alone.

        Where there is none, the path that was looked for. Raises LookupError, with the reason, for a name of several
        files, and for one outside of root.
        """
        name = _same(name if _same(name) in self.by_path else name.replace("\\", "/"))
        if os.path.isabs(name):
            for path in (name, os.path.realpath(name)):
                if Path(path).is_relative_to(self.root):
                    name = Path(path).relative_to(self.root).as_posix()
                    break
        tried = [os.path.normpath(name), os.path.normpath(os.path.join(self.base, name))]
        tried = [path for path in dict.fromkeys(tried) if not path.startswith(("..", "/")) and path != "."]
        if not tried:
            raise LookupError(f"{name} lies outside the corpus's root; give paths relative to it")
        for path in (path + suffix for path in tried for suffix in ("", *AUDIO_SUFFIXES)):
            if _same(path) in self.by_path:
                return self.by_path[_same(path)]
        named = self.by_name.get(name, []) if "/" not in name else []
        if len(named) > 1:
            raise LookupError(
                f"{len(named)} files are called {name}, for example {named[0]} and {named[1]}; give paths"
            )
        return (named or tried)[0]


PlacedRow = tuple[str, Utterance | Dropped]  # where it stands (table and line), and what the reader made of it


def unique_rows(rows: Iterable[PlacedRow], files: AudioIndex, table: str) -> Iterator[Utterance | Dropped]:
    """The rows of a table, each utterance once; repeated rows, and then audio files that no row names, are dropped.

    Raises EmodartsError where rows say different things of an utterance (one row a rater, for example): which of them
    is right cannot be known.
    """
    seen: dict[str, tuple[str, float | None, int]] = {}  # id -> place, end, hash of all fields
    listed: set[str] = set()
    for where, row in rows:
        if isinstance(row, Dropped):
            yield row
            continue
        fields = hash(tuple(vars(row).values()))
        first, end, first_fields = seen.setdefault(row.utterance, (where, row.end, fields))
        if first == where:
            listed.add(row.path)
            yield row
        elif end != row.end:
            reason = f"which ends elsewhere ({first}): shift one start by a millisecond to keep both"
            yield Dropped(where, f"{row.utterance} stands in an earlier row already, {reason}")
        elif fields != first_fields:
            raise EmodartsError(
                f"{first} and {where} say different things of {row.utterance}: correct or remove one of them; "
                "an utterance has one row (of several raters, give the majority)"
            )
        else:
            yield Dropped(where, f"{row.utterance} stands in an earlier row already")
    yield from (Dropped(path, f"no usable row of {table} names it") for path in files.paths if path not in listed)


def _same(path: str) -> str:
    """One spelling for letters that some disks split into letter and accent."""
    return unicodedata.normalize("NFC", path)
