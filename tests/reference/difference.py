"""Where two digests first differ. Nothing of the product is imported here."""

import math
from typing import Any

EPOCH_COLUMNS = (
    "phase",
    "epoch",
    "train_loss",
    "alpha_loss",
    "dev_loss",
    "dev_uar",
    "dev_war",
    "alpha_entropy",
    "alpha_margin",
    "skip_connections",
    "alpha_distance",
    "discretised_dev_uar",
    "search_macs",
)


def first_difference(recorded: Any, present: Any, where: tuple[str, ...] = ()) -> str | None:
    """Where two digests first differ, in the order in which a unit comes about; None where they are equal."""
    if isinstance(recorded, dict) and isinstance(present, dict):
        for name, value in recorded.items():
            if name not in present:
                return f"{_path(where)}: {name} is missing now"
            if (difference := first_difference(value, present[name], (*where, name))) is not None:
                return difference
        added = [name for name in present if name not in recorded]
        return f"{_path(where)}: {added[0]} is new" if added else None
    if isinstance(recorded, list) and isinstance(present, list):
        for number, (value, other) in enumerate(zip(recorded, present, strict=False)):
            if (difference := first_difference(value, other, (*where, _entry(where, number, value)))) is not None:
                return difference
        if len(recorded) != len(present):
            return f"{_path(where)}: {len(recorded)} entries recorded, {len(present)} now"
        return None
    if isinstance(recorded, str) and isinstance(present, str) and where[-1:] == ("rows",):
        return first_difference(recorded.split(), present.split(), (*where, "hash"))
    return None if _equal(recorded, present) else f"{_path(where)}: {recorded!r} recorded, {present!r} now"


def _entry(where: tuple[str, ...], number: int, value: Any) -> str:
    if where[-1:] == ("epochs",):
        return f"{value[0]} {value[1]}"
    if len(where) > 1 and where[-2] == "epochs":
        return EPOCH_COLUMNS[number]
    return str(number)


def _equal(recorded: Any, present: Any) -> bool:
    if isinstance(recorded, float) and isinstance(present, float):
        return recorded == present or (math.isnan(recorded) and math.isnan(present))
    return type(recorded) is type(present) and recorded == present


def _path(where: tuple[str, ...]) -> str:
    return " > ".join(where) or "the digest"
