"""The settings' own words, as `--help` prints them (and docs/settings.md has them, by docs/settings_page.py)."""

import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from emodarts.settings import default_of, describe_bounds
from sweeps.settings import Settings, flatten

_WIDTH, _COLUMN = 120, 40  # of the help, and where meanings begin


def parts() -> Iterator[tuple[str, type, list["Field[Any]"]]]:
    """The prefix of each group on the command line (`search.`), the classes that declare its settings, and these."""
    groups = {declared: default_of(declared) for declared in fields(Settings)}
    yield "", Settings, [declared for declared, default in groups.items() if not is_dataclass(default)]
    for group, default in groups.items():
        for declaring in reversed(inspect.getmro(type(default)) if is_dataclass(default) else ()):
            own = [declared for declared in fields(default) if declared.name in inspect.get_annotations(declaring)]
            if own:
                yield f"{group.name}.", declaring, own


def meaning_of(declared: "Field[Any]", prefix: str) -> str:
    """What a setting means, and beside which value of another it does something."""
    name, *values = declared.metadata.get("only_with", ("",))
    return f"{declared.metadata['meaning']}{f'; only with {prefix}{name}=' if name else ''}{' or '.join(values)}"


def settings_help(_root_: DictConfig) -> str:
    """Every setting with its value in a composed configuration, its meaning and its bounds, at most 120 columns wide.

    It is a resolver of OmegaConf, for Hydra's template of the help, where `$` has a meaning of its own.
    """
    names = [declared.name for declared in fields(Settings)]
    content: Any = OmegaConf.to_container(OmegaConf.masked_copy(_root_, names), resolve=True)
    values = dict(flatten(content))
    lines = []
    for prefix, _, settings in parts():
        lines.append("")
        for declared in settings:
            name, bounds = f"{prefix}{declared.name}", describe_bounds(declared, prefix.rstrip("."))
            lines += _line(name, values, f"{meaning_of(declared, prefix)}{f' ({bounds})' if bounds else ''}")
            lines += [line for inner in values if inner.startswith(f"{name}.") for line in _line(inner, values, "")]
    return "\n".join(lines).replace("$", "$$")


def _line(name: str, values: dict[str, Any], words: str) -> list[str]:
    text = f"{name}={spell(values[name])}" if name in values else name
    if len(text) > _WIDTH:
        text = text.replace(",", ", ")
    setting = textwrap.wrap(text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    meaning = textwrap.wrap(words, _WIDTH - _COLUMN, break_on_hyphens=False)
    if meaning and len(setting[-1]) < _COLUMN - 1:
        setting[-1] = f"{setting[-1]:{_COLUMN}}{meaning.pop(0)}"
    return [*setting, *(" " * _COLUMN + line for line in meaning)]


def spell(value: Any) -> str:
    """A value as on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(spell, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{spell(inner)}' for key, inner in value.items())}}}"
    return str(value) if isinstance(value, str | float) else json.dumps(value)
