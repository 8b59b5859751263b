"""How features reach a worker, wherever its node is."""

import json
import shutil
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from emodarts import corpora
from emodarts.features.store.files import STORE_JSON, format_bytes
from emodarts.features.store.store import Store, store_fault
from emodarts.files import PARTIAL, atomic_folder, file_lock
from emodarts.storage import Storage, StorageError

_SHARED = "features"  # below the results
_COPIERS = 8  # files at once


@dataclass(frozen=True)
class StoreLocation:
    """A feature store: its folder on the driver's `host`, and its name below the results' `features/` (None: not there,
    all workers are on that host).
    """

    folder: str
    host: str
    shared: str | None


def publish(store: Store, storage: Storage, joined: bool) -> StoreLocation:
    """Where workers find a store. For other nodes of a cluster it is copied below the results, once for all sweeps.

    The copy is complete when its `store.json` is there; files that are missing or cut off are copied again. Raises
    StorageError.
    """
    location = StoreLocation(str(store.folder), socket.gethostname(), store.folder.name if joined else None)
    if location.shared is None:
        return location
    target = storage.below(f"{_SHARED}/{location.shared}")
    description, published = (store.folder / STORE_JSON).read_bytes(), target.sizes("")
    missing = [name for name, size in json.loads(description)["files"].items() if published.get(name) != size]
    _copy_all(lambda name: target.upload(name, store.folder / name), missing)
    if missing or STORE_JSON not in published:
        target.write(STORE_JSON, description)
    return location


def store_on_this_node(location: StoreLocation, storage: Storage) -> Path:
    """The folder of a store that this node can map: the driver's own, or a copy that is fetched once a node.

    A copy that is cut off or damaged is fetched again. Raises StorageError where it can be neither.
    """
    host, own = socket.gethostname(), Path(location.folder)
    fault = store_fault(own) if location.host == host else f"it is on {location.host}"
    if fault is None:
        return own
    if location.shared is None:
        raise StorageError(f"{host} cannot use the features at {location.folder}: {fault}")
    folder = corpora.cache_folder() / _SHARED / location.shared
    try:
        with file_lock(folder):
            if store_fault(folder) is not None:
                _fetch(storage.below(f"{_SHARED}/{location.shared}"), folder)
    except OSError as error:
        raise StorageError(
            f"{host} cannot keep features in {folder.parent} ({error}): make room, or set EMODARTS_CACHE there"
        ) from error
    return folder


def _fetch(shared: Storage, folder: Path) -> None:
    """Copy a published store into the cache; it appears whole. The caller holds the folder's lock."""
    host = socket.gethostname()
    try:
        description = shared.read(STORE_JSON)
    except FileNotFoundError as error:
        raise StorageError(
            f"{host} sees no features at {shared.root}: results has to be a place that every node sees (s3://, or a "
            "shared folder)"
        ) from error
    sizes: dict[str, int] = json.loads(description)["files"]
    for leftover in folder.parent.glob(f"{folder.name}.*{PARTIAL}"):  # of a process that was killed here
        shutil.rmtree(leftover, ignore_errors=True)
    required, free = sum(sizes.values()), shutil.disk_usage(folder.parent).free
    if required > free:
        raise StorageError(
            f"{host} has no room for the features: they need {format_bytes(required)}, and {folder.parent} has "
            f"{format_bytes(free)}; make room, or set EMODARTS_CACHE there"
        )
    try:
        with atomic_folder(folder) as temporary:
            _copy_all(lambda name: shared.download(name, temporary / name), sizes)
            (temporary / STORE_JSON).write_bytes(description)
            if (fault := store_fault(temporary)) is not None:
                raise StorageError(f"the features at {shared.root} are not whole ({fault}): a new start mends them")
            if folder.exists():  # half a store
                shutil.rmtree(folder)
    except FileNotFoundError as error:
        raise StorageError(f"the features at {shared.root} are not whole ({error}): a new start mends them") from error


def _copy_all(copy: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(_COPIERS) as pool:
        for _ in pool.map(copy, names):
            pass  # the first error ends it
