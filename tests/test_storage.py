"""Results on object storage, stores that are away for a moment, full disks."""

import errno
import gzip
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pyarrow.fs as pafs
import pytest

from emodarts import corpora, exclusive
from emodarts.checkpoints import Checkpoint, Checkpoints
from emodarts.corpora import remote
from emodarts.corpora.remote import mirror
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.experiment.unit import run_fold
from emodarts.experiment.unit_checkpoints import discard_checkpoints
from emodarts.features.store.store import open_store
from emodarts.results import reader
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage, StorageError
from sweeps.data.placement import publish, store_on_this_node
from tests.support.interruptions import without_times


@pytest.fixture
def storage(bucket, request):
    return Storage.open(bucket.format(request.node.name.replace("[", "-").replace("]", "")))


def test_files_on_an_object_store(storage):
    storage.check_writable()
    assert not storage.exists("a/b.txt")
    storage.write("a/b.txt", b"one")
    storage.write("a/b.txt", b"two")
    assert storage.read("a/b.txt") == b"two"
    assert storage.list("a") == ["b.txt"]
    assert storage.below("a").read("b.txt") == b"two"
    storage.delete_folder("a")
    assert not storage.exists("a/b.txt")
    with pytest.raises(FileNotFoundError):
        storage.read("a/b.txt")


def make_at_once(storage, count=4):
    """Several threads create one file; which of them did."""
    together = threading.Barrier(count)

    def make(number):
        together.wait()
        return storage.write_new("a/b.txt", str(number).encode())

    with ThreadPoolExecutor(count) as pool:
        made = list(pool.map(make, range(count)))
    return [number for number, is_own in enumerate(made) if is_own]


@pytest.mark.parametrize("way", ["link", "no-links", "put", "no-conditional-put"])
def test_a_new_file_is_made_by_one_of_many(way, storage, tmp_path, monkeypatch, caplog):
    place = Storage.open(tmp_path) if "link" in way else storage
    if way == "no-links":

        def link(source, target):
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", link)
    elif way == "no-conditional-put":
        monkeypatch.setattr(exclusive, "_conditional_put", lambda filesystem: None)
        monkeypatch.setattr(exclusive, "SETTLING", 3.0)
        monkeypatch.setattr(exclusive, "_warned_of_settling", set())
    (maker,) = make_at_once(place)
    assert place.read("a/b.txt") == str(maker).encode()
    assert not place.write_new("a/b.txt", b"later")
    assert place.read("a/b.txt") == str(maker).encode()
    assert place.list("a") == ["b.txt"]
    assert sum("no conditional PUT" in line for line in caplog.messages) == (way == "no-conditional-put")


@pytest.mark.slow
def test_a_unit_on_an_object_store_goes_on_after_its_worker_died(storage, demo, demo_store, tiny):
    fold = demo[2][0]
    expected = without_times(run_fold(demo_store, fold, tiny, 3))
    place = storage.below("s/checkpoints/unit")

    class Killed(Exception):
        pass

    for phase, epoch in (("search", 0), ("train", 0)):

        def stop(record, phase=phase, epoch=epoch):
            if (record.phase, record.epoch) == (phase, epoch):
                raise Killed

        with pytest.raises(Killed):
            run_fold(demo_store, fold, tiny, 3, on_epoch_end=stop, checkpoints=place)
    assert storage.list("s/checkpoints/unit")
    assert without_times(run_fold(demo_store, fold, tiny, 3, checkpoints=place)) == expected
    discard_checkpoints(place)
    assert storage.list("s/checkpoints/unit") == []


def test_tables_on_an_object_store(storage):
    from tests.support.unit_records import key, records

    register(storage, "s", {})
    writer = SweepWriter(storage, "s")
    writer.commit(key(0), records(), "b")
    assert writer.commit_ended(key(0), "failed", "late", (), "c").status == "complete"
    opened = reader.Results.of(storage, ["s"])
    assert [(c.attempt, c.status) for c in opened.commits] == [("b", "complete")]
    assert opened.table("predictions").num_rows == 8


def failing(storage, monkeypatch, error, times):
    """The storage's writes fail so many times first."""
    original, left = Storage._write_local, [times]

    def write(path, content):
        if left[0] > 0:
            left[0] -= 1
            raise error
        original(path, content)

    monkeypatch.setattr(Storage, "_write_local", staticmethod(write))
    return left


def test_a_store_that_is_away_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    storage = Storage.open(tmp_path)
    waited = []
    monkeypatch.setattr("emodarts.storage.time.sleep", waited.append)
    failing(storage, monkeypatch, OSError(errno.ESTALE, "Stale file handle"), 3)
    storage.write("a", b"content")
    assert storage.read("a") == b"content"
    assert waited == [0.5, 1.0, 2.0]
    left = failing(storage, monkeypatch, OSError(errno.EIO, "Input/output error"), 100)
    with pytest.raises(StorageError, match=r"cannot write .*Input/output error"):
        storage.write("a", b"other")
    assert left == [92]  # the first attempt and one after each pause
    assert sum(waited[3:]) > 60


def test_a_full_disk_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("emodarts.storage.time.sleep", lambda s: pytest.fail("waiting makes no room"))
    storage = Storage.open(tmp_path)
    failing(storage, monkeypatch, OSError(errno.ENOSPC, "No space left on device"), 1)
    with pytest.raises(StorageError, match="No space left on device; make room"):
        storage.write("a", b"content")
    assert storage.list("") == []


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_told_soon():
    storage = Storage.open("s3://test:test@nowhere/x?scheme=http&endpoint_override=127.0.0.1:9&region=us-east-1")
    with pytest.raises(StorageError, match="cannot write nowhere/x"):
        replace(storage, pauses=()).check_writable()  # the client itself tries for 6 s


def test_an_access_key_is_not_told_to_anybody():
    with pytest.raises(EmodartsError) as told:
        Storage.open("s4://key:secret@emotions/x")
    assert "results=s4://emotions/x cannot be opened" in str(told.value)
    with pytest.raises(EmodartsError) as told:
        corpora.read(CorpusSettings(name="emodb", root="s4://key:secret@emotions/x"))
    assert "the corpus at s4://emotions/x cannot be read" in str(told.value)


@pytest.mark.slow
def test_a_corpus_on_an_object_store(storage, bucket, small_corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("EMODARTS_CACHE", str(tmp_path / "cache"))
    for path in small_corpus.rglob("*"):
        if path.is_file():
            storage.write(f"corpora/manifest/{path.relative_to(small_corpus).as_posix()}", path.read_bytes())
    uri = bucket.format(storage.root.partition("/")[2] + "/corpora")
    local = corpora.read(CorpusSettings(name="manifest", root=str(small_corpus), class_set="angry,sad"))
    monkeypatch.setenv("EMODARTS_CORPORA", uri)
    settings = CorpusSettings(name="manifest", class_set="angry,sad")
    first = corpora.read(settings)
    assert first.utterances.drop(["path"]).equals(local.utterances.drop(["path"]))
    times = {p: p.stat().st_ino for p in first.root.rglob("*.wav")}
    storage.write("corpora/manifest/a/angry0.wav", b"changed")
    storage.delete("corpora/manifest/a/angry1.wav")
    (first.root / "a" / "sad0.wav").write_bytes(b"half")
    again = corpora.read(settings)
    assert (again.root / "a" / "angry0.wav").read_bytes() == b"changed"
    assert not (again.root / "a" / "angry1.wav").exists()
    assert (again.root / "a" / "sad0.wav").read_bytes() == (small_corpus / "a" / "sad0.wav").read_bytes()
    assert sum(p.stat().st_ino != times[p] for p in again.root.rglob("*.wav")) == 2  # the others were not fetched again
    with pytest.raises(EmodartsError, match="there are no files at s3://emotions/nothing"):
        corpora.read(replace(settings, root=bucket.format("nothing")))


def test_files_of_a_mirror_are_as_they_were_packed(storage, bucket, tmp_path, caplog):
    caplog.set_level("INFO", logger="emodarts")
    packed = gzip.compress(b"file,speaker,label")
    storage.write("table.csv.gz", packed)
    folder = mirror(bucket.format(storage.root.partition("/")[2]), tmp_path)
    assert (folder / "table.csv.gz").read_bytes() == packed
    (line,) = [record.message for record in caplog.records if record.name.startswith("emodarts")]
    assert ": 1 of 1 files (0.00 GB) to copy to " in line
    assert "endpoint" not in line, "options of the address, and keys, are not told"
    mirror(bucket.format(storage.root.partition("/")[2]), tmp_path)
    lines = [record.message for record in caplog.records if record.name.startswith("emodarts")]
    assert lines == [line], "nothing is left to copy"


def test_a_mirror_stays_in_its_folder(tmp_path, monkeypatch):
    listed = [pafs.FileInfo(f"emotions/x/{name}", pafs.FileType.File, size=0) for name in ("a.wav", "b/../../c.wav")]
    served = SimpleNamespace(get_file_info=lambda selector: listed)
    monkeypatch.setattr(remote, "_opened", lambda root: (served, "emotions/x"))
    with pytest.raises(EmodartsError, match=r"holds b/\.\./\.\./c\.wav, which would lie outside of its folder"):
        mirror("s3://emotions/x", tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_mirrors_at_once_fetch_each_file_once(storage, bucket, tmp_path, monkeypatch):
    for number in range(12):
        storage.write(f"{number}.wav", bytes(1000 + number))
    original, fetched = remote._fetch, []

    def fetch(filesystem, info, path):
        fetched.append(path.name)
        original(filesystem, info, path)

    monkeypatch.setattr(remote, "_fetch", fetch)
    uri = bucket.format(storage.root.partition("/")[2])
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: mirror(uri, tmp_path), range(2))
    assert first == second
    assert sorted(fetched) == sorted(f"{number}.wav" for number in range(12))
    assert sorted(p.name for p in first.iterdir()) == sorted(fetched)


def test_a_file_of_a_mirror_that_came_cut_off_is_not_used(storage, bucket, tmp_path, monkeypatch):
    storage.write("a.wav", bytes(1000))
    uri = bucket.format(storage.root.partition("/")[2])
    with monkeypatch.context() as patch:
        patch.setattr(remote.shutil, "copyfileobj", lambda source, target, block: target.write(source.read(400)))
        with pytest.raises(EmodartsError, match=r"a\.wav: 400 bytes of 1000 came.*run again, or set EMODARTS_CACHE"):
            mirror(uri, tmp_path)
        assert not list(tmp_path.rglob("*.wav"))
    assert (mirror(uri, tmp_path) / "a.wav").stat().st_size == 1000


def test_a_store_is_fetched_once_a_node(storage, demo_store, tmp_path, monkeypatch):
    monkeypatch.setenv("EMODARTS_CACHE", str(tmp_path / "cache"))
    here = publish(demo_store, storage, joined=False)
    assert store_on_this_node(here, storage) == demo_store.folder
    place = replace(publish(demo_store, storage, joined=True), host="elsewhere")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: store_on_this_node(place, storage), range(2))
    assert first == second != demo_store.folder
    assert open_store(first).utterances.equals(demo_store.utterances)
    (first / "index.arrow").write_bytes(b"half")
    assert open_store(store_on_this_node(place, storage)).utterances.equals(demo_store.utterances)
    with pytest.raises(StorageError, match="results has to be a place that every node sees"):
        store_on_this_node(replace(place, shared="other"), storage)


def test_checkpoints_on_an_object_store(storage):
    kept = Checkpoints(storage, "unit/search.safetensors", {"seed": 1})
    assert kept.load() is None
    kept.save(Checkpoint({}, {"epoch": 1}))
    kept.save(Checkpoint({}, {"epoch": 2}))
    assert kept.load().state == {"epoch": 2}
    kept.delete()
    kept.delete()
    assert kept.load() is None
    assert storage.list("unit") == []
