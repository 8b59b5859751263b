"""Where units have their checkpoints, and what workers left of them."""

from emodarts.records import UnitKey
from emodarts.results.reader import Results
from emodarts.storage import Storage

CHECKPOINTS = "checkpoints"  # below the sweep


def checkpoint_folder(storage: Storage, key: UnitKey) -> Storage:
    """The folder of a unit's checkpoints."""
    return storage.below(f"{key.sweep}/{CHECKPOINTS}/{key.name}")


def checkpoint_mark(storage: Storage, key: UnitKey) -> tuple[tuple[str, int, int], ...]:
    """Changes with every checkpoint of a unit; empty where there is none. Raises StorageError."""
    return checkpoint_folder(storage, key).marks("")


def units_with_checkpoints(storage: Storage, sweep: str) -> frozenset[str]:
    """Names of the units that have come as far as a checkpoint. Raises StorageError."""
    return frozenset(storage.list(f"{sweep}/{CHECKPOINTS}"))


def delete_checkpoints_of_ended_units(storage: Storage, results: Results) -> None:
    """Delete what workers left that were killed between a unit's commit and the end of its checkpoints."""
    ended = {commit.key.name for commit in results.commits}
    for sweep in results.sweeps:
        for unit in storage.list(f"{sweep}/{CHECKPOINTS}"):
            if unit in ended:
                storage.delete_folder(f"{sweep}/{CHECKPOINTS}/{unit}")
