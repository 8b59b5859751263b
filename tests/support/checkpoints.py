"""Checkpoints in a file of a test's own folder."""

from pathlib import Path

from emodarts.checkpoints import Checkpoints
from emodarts.storage import Storage


def checkpoints_at(file: Path, identity=None, seconds=0.0):
    """Checkpoints in this file."""
    return Checkpoints(Storage.open(file.parent), file.name, identity or {}, seconds)


def file_of(checkpoints):
    """The file that holds them."""
    return Path(checkpoints.storage.path(checkpoints.name))
