"""Fields of settings that carry their meaning and their bounds, and the check of these bounds.

What a setting means and may be is said once, at its field: refusals, `--help` and docs/settings.md read it there.
"""

import operator
from collections.abc import Callable, Collection
from copy import copy
from dataclasses import MISSING, Field, field, fields
from typing import Any, TypedDict, TypeVar, Unpack, get_args

from emodarts.errors import EmodartsError

T = TypeVar("T")


class Bounds(TypedDict, total=False):
    """What a setting may be. `at_most` may be the name of another setting of the group.

    `check` is for rules of another kind, and `allowed` has the words for them. `only_with` names the setting, and its
    values, without which this one does nothing: `("kind", "log_mel", "mfcc")`.
    """

    at_least: float
    above: float
    at_most: float | str
    below: float
    unit: str
    choices: Collection[str]
    check: Callable[[Any], bool]
    allowed: str
    only_with: tuple[str, ...]


_RULES: dict[str, Callable[[Any, Any], bool]] = {
    "at_least": operator.ge,
    "above": operator.gt,
    "at_most": operator.le,
    "below": operator.lt,
    "choices": lambda value, choices: value in choices,
    "check": lambda value, check: check(value),
}


def setting(default: T, meaning: str, **bounds: Unpack[Bounds]) -> T:
    """A field of a settings class: `nodes: int = setting(2, "nodes of a CNN cell", at_least=1, at_most=8)`.

    Where its type has None, None is allowed, too.
    """
    metadata = {"meaning": meaning, **bounds}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def default_of(declared: "Field[Any]") -> Any:
    """The default of a field."""
    return declared.default if declared.default_factory is MISSING else declared.default_factory()


def is_used(declared: "Field[Any]", settings: object) -> bool:
    """Whether a setting does anything beside the others of its group."""
    name, *values = declared.metadata.get("only_with", ("",))
    return not name or getattr(settings, name) in values


def check_settings(settings: Any, group: str) -> None:
    """Raise EmodartsError for the first setting out of its bounds; `group` is the group's name on the command line."""
    for declared in fields(settings):
        value = getattr(settings, declared.name)
        if not _is_allowed(value, declared, settings):
            words = describe_bounds(declared, group)
            raise EmodartsError(f"{group}.{declared.name}={value} is out of range: {words}")


def describe_bounds(declared: "Field[Any]", group: str) -> str:
    """The bounds in words, such as `1 to 8`, `above 0 s, or null`, `tpe | random`; empty where there are none."""
    bounds = declared.metadata
    words = bounds.get("allowed") or " | ".join(bounds.get("choices", ()))
    if "at_least" in bounds or "above" in bounds:
        words = str(bounds["at_least"]) if "at_least" in bounds else f"above {bounds['above']}"
        if "at_most" in bounds:
            words += f" to {f'{group}.' if isinstance(bounds['at_most'], str) else ''}{bounds['at_most']}"
        elif "below" in bounds:
            words += f" to below {bounds['below']}"
        elif "at_least" in bounds:
            words += " or more"
        words = f"{words} {bounds.get('unit', '')}".rstrip()
    return f"{words}, or null" if words and _may_be_none(declared) else words


def _is_allowed(value: Any, declared: "Field[Any]", settings: Any) -> bool:
    if value is None:
        return _may_be_none(declared)
    bounds = {name: declared.metadata[name] for name in _RULES if name in declared.metadata}
    if isinstance(bounds.get("at_most"), str):
        bounds["at_most"] = getattr(settings, bounds["at_most"])
    return all(_RULES[name](value, bound) for name, bound in bounds.items())


def _may_be_none(declared: "Field[Any]") -> bool:
    return declared.type is Any or type(None) in get_args(declared.type)
