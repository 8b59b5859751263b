"""The settings' own words, as `--help` prints them (and docs/settings.md has them, by docs/settings_page.py)."""

import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from emodarts.corpora.readers import corpus_names
from emodarts.settings import default_of, describe_bounds
from sweeps.settings import Settings, flatten

_INTRODUCTION = """\
python sweeps/run.py [group=file] [setting=value] ...

Files of settings, by group; the command line beats them:

{groups}

Settings, as these files and the rest of this command have them, and what they mean:"""
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


def help_page(folder: Path, overrides: list[str]) -> str:
    """The groups of files in `folder`, and every setting with its value, its meaning and its bounds, 120 columns wide.

    Hydra's own help copies all configurations eighty times, to list the groups of files: a second. Raises what Hydra
    raises for overrides that it refuses.
    """
    with initialize_config_dir(str(folder), version_base="1.3"):
        config = compose("config", overrides)
    content: Any = OmegaConf.to_container(config, resolve=True)
    values = dict(flatten(content))
    groups = sorted(group for group in folder.iterdir() if group.is_dir())
    names = {group.name: {file.stem for file in group.glob("*.yaml")} for group in groups}
    names["corpus"] |= {*corpus_names()}
    files = [textwrap.fill(f"{group}: {', '.join(sorted(names[group]))}", _WIDTH) for group in names]
    lines = [_INTRODUCTION.format(groups="\n".join(files))]
    for prefix, _, settings in parts():
        lines.append("")
        for declared in settings:
            name, bounds = f"{prefix}{declared.name}", describe_bounds(declared, prefix.rstrip("."))
            lines += _line(name, values, f"{meaning_of(declared, prefix)}{f' ({bounds})' if bounds else ''}")
            lines += [line for inner in values if inner.startswith(f"{name}.") for line in _line(inner, values, "")]
    return "\n".join(lines)


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
