"""How features and code reach a worker, wherever its node is."""

import json
import os
import shutil
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from emodarts import corpora
from emodarts.features.files import ABOUT, PARTIAL
from emodarts.features.locks import locked
from emodarts.features.store import Store, open_store
from emodarts.provenance import git_revision
from emodarts.results.storage import Storage, StorageError

REPOSITORY = Path(__file__).resolve().parent.parent
_SHARED = "features"  # below the results


@dataclass(frozen=True)
class StorePlace:
    """A feature store: its folder on the driver's `host`, and its name below the results' `features/` (None: not there,
    all workers are on that host).
    """

    folder: str
    host: str
    shared: str | None


def publish(store: Store, storage: Storage, joined: bool) -> StorePlace:
    """Where workers find a store. For other nodes of a cluster it is copied below the results, once for all sweeps.

    The copy is complete when its `store.json` is there. Raises StorageError.
    """
    place = StorePlace(str(store.folder), socket.gethostname(), store.folder.name if joined else None)
    if place.shared is None:
        return place
    target = f"{_SHARED}/{place.shared}"
    if not storage.exists(f"{target}/{ABOUT}"):
        about = (store.folder / ABOUT).read_bytes()
        files = [*json.loads(about)["files"]]
        _copy(pafs.LocalFileSystem(), str(store.folder), storage.filesystem, storage.path(target), files)
        storage.write(f"{target}/{ABOUT}", about)
    return place


def store_on_this_node(place: StorePlace, storage: Storage) -> Path:
    """The folder of a store that this node can map: the driver's own, or a copy that is fetched once a node.

    Raises StorageError where it can be neither.
    """
    if place.host == socket.gethostname() and Path(place.folder, ABOUT).exists():
        return Path(place.folder)
    if place.shared is None:
        raise StorageError(f"{socket.gethostname()} cannot see the features at {place.folder} on {place.host}")
    folder = corpora.cache_folder() / _SHARED / place.shared
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder, waiting=lambda holder: True):
        if not (folder / ABOUT).exists():
            _fetch(storage, f"{_SHARED}/{place.shared}", folder)
    open_store(folder)  # looks at sizes too
    return folder


def runtime_environment(threads: int, joined: bool) -> dict[str, Any]:
    """Ray's runtime environment: threads of a worker, the commit for the rows, and this code.

    On this machine workers import it from where it is. A cluster is sent it with the job, unless the job was submitted
    with a working directory, which has it already.
    """
    variables = {"OMP_NUM_THREADS": str(threads), "EMODARTS_REVISION": git_revision() or ""}
    if not joined:
        return {"env_vars": {**variables, "PYTHONPATH": str(REPOSITORY)}}
    environment: dict[str, Any] = {"env_vars": variables}
    if not _submitted().get("working_dir"):
        environment["py_modules"] = [str(REPOSITORY / name) for name in ("emodarts", "sweeps")]
    return environment


def _submitted() -> dict[str, Any]:
    """The runtime environment of `ray job submit`, where this driver runs as such a job."""
    try:
        content = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    except ValueError:
        return {}
    found: dict[str, Any] = content.get("runtime_env") or {}
    return found


def _fetch(storage: Storage, source: str, folder: Path) -> None:
    try:
        about = storage.read(f"{source}/{ABOUT}")
    except FileNotFoundError as error:
        raise StorageError(
            f"{socket.gethostname()} sees no features at {storage.path(source)}: results has to be a place that every "
            "node sees (s3://, or a shared folder)"
        ) from error
    temporary = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    try:
        files = [*json.loads(about)["files"]]
        _copy(storage.filesystem, storage.path(source), pafs.LocalFileSystem(), str(temporary), files)
        (temporary / ABOUT).write_bytes(about)
        if folder.exists():  # without its store.json: half a store
            shutil.rmtree(folder)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy(source: pafs.FileSystem, root: str, target: pafs.FileSystem, to: str, files: list[str]) -> None:
    try:
        target.create_dir(to, recursive=True)
        for name in files:
            pafs.copy_files(f"{root}/{name}", f"{to}/{name}", source_filesystem=source, destination_filesystem=target)
    except OSError as error:
        raise StorageError(f"cannot copy the features from {root} to {to}: {error}") from error
