"""How features reach another node: published once, fetched once, whole or not at all. A local folder is the results."""

import errno
import multiprocessing
import os
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from emodarts.features.store.store import open_store
from emodarts.storage import Storage, StorageError
from sweeps.data import placement
from sweeps.data.placement import publish, store_on_this_node


@pytest.fixture
def node_cache(tmp_path, monkeypatch):
    """The cache of this node."""
    monkeypatch.setenv("EMODARTS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def storage(tmp_path):
    return Storage.open(tmp_path / "results")


@pytest.fixture
def place(demo_store, storage, node_cache):
    """A store that was published by a driver elsewhere."""
    return replace(publish(demo_store, storage, joined=True), host="elsewhere")


def shared(storage, place):
    return storage.root + "/features/" + place.shared


def contents(folder):
    return {entry.name: open(entry.path, "rb").read() for entry in os.scandir(folder)}


def counted(monkeypatch, name, log):
    """Storage's method notes each file that it copies, whichever process it is called in."""
    original = getattr(Storage, name)

    def method(self, relative, path):
        with open(log, "a") as file:
            file.write(f"{relative}\n")
        time.sleep(0.05)  # so that two that do not wait for each other meet
        original(self, relative, path)

    monkeypatch.setattr(Storage, name, method)
    return lambda: sorted(log.read_text().split()) if log.exists() else []


def test_two_workers_of_a_node_fetch_a_store_once(place, storage, node_cache, demo_store, tmp_path, monkeypatch):
    copied = counted(monkeypatch, "download", tmp_path / "log")
    context = multiprocessing.get_context("fork")
    together = context.Barrier(3)

    def work():
        together.wait(60)
        store_on_this_node(place, storage)

    workers = [context.Process(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    wanted = contents(demo_store.folder)
    names = [name for name in wanted if name in copied()]
    assert copied() == sorted(names), "each file once"
    assert os.listdir(node_cache) == [place.shared]
    fetched = open_store(store_on_this_node(place, storage))
    assert fetched.utterances.equals(demo_store.utterances)
    assert contents(node_cache / place.shared) == {n: c for n, c in wanted.items() if n in {*names, "store.json"}}


@pytest.mark.parametrize("damage", ["cut", "missing", "unfinished"])
def test_a_damaged_copy_is_fetched_again_not_used(place, storage, node_cache, demo_store, damage):
    folder = store_on_this_node(place, storage)
    whole = contents(folder)
    if damage == "cut":
        (folder / "index.arrow").write_bytes(b"half")
    else:
        (folder / ("index.arrow" if damage == "missing" else "store.json")).unlink()
    left = node_cache / f"{place.shared}.0123abcd.partial"  # of a process that was killed while it fetched
    left.mkdir()
    assert store_on_this_node(place, storage) == folder
    assert contents(folder) == whole
    assert not left.exists()


def test_a_published_copy_that_is_cut_off_is_refused_and_mended_at_the_next_start(
    place, storage, node_cache, demo_store, tmp_path, monkeypatch
):
    index = shared(storage, place) + "/index.arrow"
    with open(index, "wb") as file:
        file.write(b"half")
    with pytest.raises(StorageError, match=r"are not whole .*index\.arrow has 4 bytes.*a new start mends them"):
        store_on_this_node(place, storage)
    os.unlink(index)
    with pytest.raises(StorageError, match=r"are not whole .*a new start mends them"):
        store_on_this_node(place, storage)
    assert os.listdir(node_cache) == []
    copied = counted(monkeypatch, "upload", tmp_path / "log")
    publish(demo_store, storage, joined=True)
    assert copied() == ["index.arrow"]
    assert open_store(store_on_this_node(place, storage)).utterances.equals(demo_store.utterances)
    publish(demo_store, storage, joined=True)
    assert copied() == ["index.arrow"], "what is whole is not copied again"


def test_publishing_that_stops_half_way_leaves_nothing_to_be_used(storage, node_cache, demo_store, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(StorageError, match="No space left on device; make room"):
            publish(demo_store, storage, joined=True)
    place = replace(publish(demo_store, Storage.open(storage.root + "2"), joined=True), host="elsewhere")
    with pytest.raises(StorageError, match="sees no features at"):
        store_on_this_node(place, storage)


def test_a_node_without_room_says_so(place, storage, node_cache, monkeypatch):
    monkeypatch.setattr(placement.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=r"has no room for the features: they need .* has 1 kB; .*EMODARTS_CACHE"):
        store_on_this_node(place, storage)


def test_a_cache_that_cannot_be_written_says_so(place, storage, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("EMODARTS_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"cannot keep features in .*EMODARTS_CACHE"):
        store_on_this_node(place, storage)


def test_the_drivers_own_folder_is_used_on_its_host_while_it_is_whole(storage, node_cache, demo_store, tmp_path):
    own = tmp_path / demo_store.folder.name
    shutil.copytree(demo_store.folder, own)
    alone, with_others = (publish(open_store(own), storage, joined) for joined in (False, True))
    assert alone.shared is None
    assert store_on_this_node(alone, storage) == own
    assert store_on_this_node(with_others, storage) == own
    (own / "index.arrow").write_bytes(b"half")
    with pytest.raises(StorageError, match=r"cannot use the features at .*index\.arrow has 4 bytes"):
        store_on_this_node(alone, storage)
    assert store_on_this_node(with_others, storage) == node_cache / own.name
