"""Checkpoints in a file of a test's own folder."""

from pathlib import Path

from emodarts.checkpoints import Checkpoints
from emodarts.storage import Storage


def checkpoints_at(file: Path, identity=None, every=1):
    """Checkpoints in this file."""
    return Checkpoints(Storage.open(file.parent), file.name, identity or {}, every)


def file_of(checkpoints):
    """The file that holds them."""
    return Path(checkpoints.storage.path(checkpoints.name))
