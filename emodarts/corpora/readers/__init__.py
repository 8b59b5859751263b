"""Readers: what turns a corpus's folder into rows of the utterance table.

Where file names say everything, that is a grammar (`grammars/<name>.toml`, read by `grammar.py`); else a module, whose
`CorpusDescription` is named `CORPUS`. CONTRIBUTING.md has the steps to add one. Every reader yields a row or a drop for
everything on disk; ids and speakers begin with the corpus's name, and an unknown speaker is None.
"""

import importlib
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path

from emodarts.corpora.description import CorpusDescription
from emodarts.corpora.readers.grammar import load_grammar
from emodarts.corpora.settings import is_grammar_file, short_name
from emodarts.errors import EmodartsError

_MODULES = ("demo", "iemocap", "msp_improv", "msp_podcast", "audformat", "manifest")


@cache
def corpus_names() -> tuple[str, ...]:
    """All corpora: the built-in one, those with a grammar or a module, and a user's own tables."""
    grammars = (Path(entry.name).stem for entry in _grammars().iterdir() if entry.name.endswith(".toml"))
    return ("demo", *sorted({*grammars, *_MODULES} - {"demo", "audformat", "manifest"}), "audformat", "manifest")


def describe(name: str) -> CorpusDescription:
    """The description of a corpus, or of the grammar in a file. Raises EmodartsError for an unknown one."""
    if is_grammar_file(name):
        path = Path(name).expanduser()
        try:
            return _load(path.resolve(), path.stat().st_mtime_ns)
        except OSError as error:
            raise EmodartsError(f"the grammar {name} cannot be read: {error.strerror}") from error
    if name not in corpus_names():
        near = get_close_matches(name, corpus_names(), 3)
        hint = f"is it {' or '.join(near)}? " if near else ""
        raise EmodartsError(
            f"unknown corpus '{name}': {hint}`emodarts corpora` lists all; a grammar of your own is named by its file, "
            f"{name}.toml"
        )
    return _describe(name)


@cache
def _describe(name: str) -> CorpusDescription:
    if name in _MODULES:
        description: CorpusDescription = importlib.import_module(f"emodarts.corpora.readers.{name}").CORPUS
        return description
    return load_grammar(Path(str(_grammars() / f"{name}.toml")), name)


@lru_cache
def _load(path: Path, changed: int) -> CorpusDescription:
    """A user's grammar, as it was at that time."""
    return load_grammar(path, short_name(path.name))


def _grammars() -> Path:
    return Path(str(files("emodarts.corpora.readers") / "grammars"))
