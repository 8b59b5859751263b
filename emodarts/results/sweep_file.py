"""`sweep.json`: the settings a sweep was begun with. Other settings under its name are refused."""

import json
from typing import Any

from emodarts.errors import EmodartsError
from emodarts.results.schemas import SCHEMA_VERSION, check_version
from emodarts.storage import Storage

SWEEP_FILE = "sweep.json"


def register(storage: Storage, sweep: str, settings: dict[str, Any]) -> None:
    """Write the settings (dotted name -> JSON value) at the first start; later compare. Raises EmodartsError."""
    path = f"{sweep}/{SWEEP_FILE}"
    present = json.loads(json.dumps(settings))
    if not storage.exists(path):
        content = {"schema_version": SCHEMA_VERSION, "settings": present}
        storage.write(path, json.dumps(content, indent=1, sort_keys=True).encode())
        return
    stored = settings_of(storage, sweep)
    differing = [key for key in sorted({*present, *stored}) if present.get(key) != stored.get(key)]
    if differing:
        changes = "; ".join(f"{key} was {stored.get(key)}, now {present.get(key)}" for key in differing[:8])
        raise EmodartsError(
            f"sweep '{sweep}' was begun with other settings or data: {changes}; take them back or another sweep.name"
        )


def settings_of(storage: Storage, sweep: str) -> dict[str, Any]:
    """The settings that a sweep was begun with: dotted name -> value.

    Raises EmodartsError where the file is gone, damaged or of another schema version.
    """
    path = f"{sweep}/{SWEEP_FILE}"
    try:
        content = json.loads(storage.read(path))
        check_version(content["schema_version"], storage.path(path))
        settings: dict[str, Any] = content["settings"]
    except FileNotFoundError as error:
        raise EmodartsError(f"{storage.path(path)} is gone: the sweep's folder was moved or deleted") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EmodartsError(
            f"{storage.path(path)} is damaged ({error}); restore it or take another sweep.name"
        ) from error
    return settings
