"""Arguments that the console commands share: which corpus, where it lies, and any setting of a room."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import Any, TypeVar, get_type_hints

from emodarts.corpora.readers import describe
from emodarts.corpora.settings import CorpusSettings, is_grammar_file
from emodarts.errors import EmodartsError

S = TypeVar("S")
OWN_GRAMMAR = "own_grammar"  # the file of Hydra's group `corpus` that a grammar of the user's takes


def add_corpus_arguments(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """`<corpus> --root PATH --set room.name=value`."""
    parser.add_argument(
        "corpus",
        nargs="?" if optional else None,
        help="which corpus, or the file of its grammar (`emodarts corpora` lists all)",
    )
    parser.add_argument("--root", help="its folder (default: $EMODARTS_CORPORA/<corpus>)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="ROOM.NAME=VALUE",
        help="a setting as on the sweep's command line, for example corpus.class_set=full or features.n_mels=80",
    )


def corpus_settings(options: argparse.Namespace, **more: Any) -> CorpusSettings:
    """The corpus that the arguments name; as in a sweep, tables of the user's have the classes that stand in them."""
    more = {"class_set": "full" if describe(options.corpus).open_words else None, **more}
    chosen = {k: v for k, v in {"root": options.root, **more}.items() if v is not None}
    return with_overrides(CorpusSettings(name=options.corpus, **chosen), "corpus", options.set)


def with_grammar_files(arguments: Sequence[str]) -> list[str]:
    """A command line as Hydra takes it: `corpus=path/to/mine.toml` names no file of the group `corpus`."""
    expanded: list[str] = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        own = key.lstrip("+") == "corpus" and is_grammar_file(value)
        expanded += [f"{key}={OWN_GRAMMAR}", f"corpus.name='{value}'"] if own else [argument]
    return expanded


def with_overrides(settings: S, room: str, overrides: list[str]) -> S:
    """Settings with those of `room.name=value` put in that belong to the room. Raises EmodartsError.

    An entry of a setting that is a mapping has a name below it: `corpus.columns.label=mood`.
    """
    fields = {field.name for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    hints = get_type_hints(type(settings))
    changes: dict[str, Any] = {}
    for text in overrides:
        path, separator, value = text.partition("=")
        place, _, name = path.strip().partition(".")
        if not separator or place not in ("corpus", "features"):
            raise EmodartsError(f"--set {text}: give corpus.<setting>=<value> or features.<setting>=<value>")
        if place != room:
            continue
        outer, _, entry = name.partition(".")
        if entry and isinstance(getattr(settings, outer, None), dict):
            changes[outer] = {**changes.get(outer, getattr(settings, outer)), entry: value}
            continue
        if name not in fields:
            raise EmodartsError(f"--set {text}: there is no setting {path}; known are {', '.join(sorted(fields))}")
        plain = hints[name] in (str, str | None)
        changes[name] = (
            _as_text(value, hints[name]) if plain else _fitting(_value(value), getattr(settings, name), text)
        )
    return dataclasses.replace(settings, **changes)  # type: ignore[type-var]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _as_text(text: str, hint: Any) -> str | None:
    """A text setting: quotes around it are taken off, and `null` is none where there may be none."""
    value = _value(text)
    if value is None and hint is not str:
        return None
    return value if isinstance(value, str) else text


def _fitting(value: Any, default: Any, text: str) -> Any:
    """The value in the type of the default, so that a wrong one is told here and not somewhere below."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if default is not None and value is not None and type(value) is not type(default):
        raise EmodartsError(f"--set {text}: a value such as {json.dumps(default)} is needed")
    return value
