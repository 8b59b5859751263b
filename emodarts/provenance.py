"""Where a figure comes from: the commit, and the versions of the packages that it depends on."""

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
    revision = os.environ.get("EMODARTS_REVISION")
    if revision:
        return revision
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


@lru_cache
def source_digest() -> str:
    """A digest of this package's source: a checkpoint is used by the code that wrote it alone."""
    digest, root = hashlib.sha256(), Path(__file__).parent
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


@lru_cache
def package_versions() -> str:
    """Versions of the packages that a figure depends on, as JSON."""
    names = ("emodarts", "torch", "torchaudio", "numpy", "pyarrow", "soundfile", "soxr")
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return json.dumps(versions, sort_keys=True)
