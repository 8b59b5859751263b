"""`sweep.json`: the settings a sweep was begun with. Other settings under its name are refused."""

import json
from typing import Any

from emodarts.errors import EmodartsError
from emodarts.results.schemas import SCHEMA_VERSION
from emodarts.storage import Storage


def register(storage: Storage, sweep: str, settings: dict[str, Any]) -> None:
    """Write the settings (dotted name -> JSON value) at the first start; later compare. Raises EmodartsError."""
    path = f"{sweep}/sweep.json"
    mine = json.loads(json.dumps(settings))
    if not storage.exists(path):
        content = {"schema_version": SCHEMA_VERSION, "settings": mine}
        storage.write(path, json.dumps(content, indent=1, sort_keys=True).encode())
        return
    theirs = settings_of(storage, sweep)
    differing = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
    if differing:
        told = "; ".join(f"{key} was {theirs.get(key)}, now {mine.get(key)}" for key in differing[:8])
        raise EmodartsError(
            f"sweep '{sweep}' was begun with other settings or data: {told}; take them back or another sweep.name"
        )


def settings_of(storage: Storage, sweep: str) -> dict[str, Any]:
    """The settings that a sweep was begun with: dotted name -> value. Raises EmodartsError where there are none."""
    path = f"{sweep}/sweep.json"
    try:
        settings: dict[str, Any] = json.loads(storage.read(path))["settings"]
    except FileNotFoundError as error:
        raise EmodartsError(f"{storage.path(path)} is gone: the sweep's folder was moved or deleted") from error
    except (ValueError, KeyError) as error:
        raise EmodartsError(
            f"{storage.path(path)} is damaged ({error}); restore it or take another sweep.name"
        ) from error
    return settings
