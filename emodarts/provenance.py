"""What made a figure: the commit, and the versions of the packages that shape a number."""

import hashlib
import importlib.metadata
import json
import os
import subprocess
from functools import lru_cache
from pathlib import Path


@lru_cache
def git_revision() -> str | None:
    """The checked-out commit (`-dirty` where files were changed), or None outside of a checkout.

    `$EMODARTS_REVISION` goes first: a sweep's driver tells its workers what they run.
    """
    given = os.environ.get("EMODARTS_REVISION")
    if given:
        return given
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


@lru_cache
def source_digest() -> str:
    """A digest of this package's source: what a checkpoint goes on with must be what made it."""
    mark, root = hashlib.sha256(), Path(__file__).parent
    for file in sorted(root.rglob("*.py")):
        mark.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return mark.hexdigest()[:16]


@lru_cache
def package_versions() -> str:
    """Versions of what shapes a number, as JSON."""
    names = ("emodarts", "torch", "torchaudio", "numpy", "pyarrow", "soundfile", "soxr")
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return json.dumps(found, sort_keys=True)
