"""Audio files as tables name them: relative or absolute, with or without suffix, or by a bare name."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
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

    def find(self, told: str) -> tuple[str, str | None]:
        """(path relative to root, reason why not): exact, without suffix, or a bare name that only one file has."""
        told = _same(told if _same(told) in self.by_path else told.replace("\\", "/"))
        if os.path.isabs(told):
            for path in (told, os.path.realpath(told)):
                if Path(path).is_relative_to(self.root):
                    told = Path(path).relative_to(self.root).as_posix()
                    break
        tried = [os.path.normpath(told), os.path.normpath(os.path.join(self.base, told))]
        tried = [path for path in dict.fromkeys(tried) if not path.startswith(("..", "/")) and path != "."]
        if not tried:
            return told, f"{told} lies outside the corpus's root; give paths relative to it"
        for path in (path + suffix for path in tried for suffix in ("", *AUDIO_SUFFIXES)):
            if _same(path) in self.by_path:
                return self.by_path[_same(path)], None
        named = self.by_name.get(told, []) if "/" not in told else []
        if len(named) > 1:
            return told, f"{len(named)} files are called {told}, for example {named[0]} and {named[1]}; give paths"
        return (named or tried)[0], None

    def unlisted(self, listed: set[str], table: str) -> Iterator[Dropped]:
        """A drop for every audio file that no row named."""
        yield from (Dropped(path, f"no usable row of {table} names it") for path in self.paths if path not in listed)


class SeenUtterances:
    """The utterances that the rows of tables have told so far: each counts once."""

    def __init__(self) -> None:
        """None at first."""
        self._seen: dict[str, tuple[str, float | None, int]] = {}  # id -> place, end, all that is said

    def again(self, row: Utterance, where: str) -> Dropped | None:
        """A drop for an utterance that an earlier row told; None for a new one.

        Raises EmodartsError where the rows say different things of it (one row a rater, for example): which of them
        is right cannot be known.
        """
        said = hash(tuple(vars(row).values()))
        first, end, what = self._seen.setdefault(row.utterance, (where, row.end, said))
        if first == where:
            return None
        if end != row.end:
            reason = f"which ends elsewhere ({first}): shift one start by a millisecond to keep both"
            return Dropped(where, f"{row.utterance} stands in an earlier row already, {reason}")
        if what != said:
            raise EmodartsError(
                f"{first} and {where} say different things of {row.utterance}: correct or remove one of them; "
                "an utterance has one row (of several raters, give the majority)"
            )
        return Dropped(where, f"{row.utterance} stands in an earlier row already")


def _same(path: str) -> str:
    """One spelling for letters that some disks split into letter and accent."""
    return unicodedata.normalize("NFC", path)
