"""Files and folders appear whole or not at all; one process at a time holds a lock."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from emodarts.files import PARTIAL, atomic_folder, atomic_write, file_lock, sync, temporary_name

CONTEXT = multiprocessing.get_context("fork")


def start(target, *arguments):
    process = CONTEXT.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


def write_half_and_hang(path, ready):
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"half")
        ready.set()
        time.sleep(300)


def hold(path, ready):
    with file_lock(path):
        ready.set()
        time.sleep(300)


def count_up(path, times):
    for _ in range(times):
        with file_lock(path):
            number = int(path.read_text())
            time.sleep(0.001)
            path.write_text(str(number + 1))


# The atomic write


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "table.csv"
    with atomic_write(path) as temporary:
        temporary.write_text("a,b\n")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "a,b\n"
    with atomic_write(path, durable=True) as temporary:
        temporary.write_text("c\n")
        assert path.read_text() == "a,b\n"
    assert path.read_text() == "c\n"
    assert os.listdir(path.parent) == ["table.csv"]


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("a mistake"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_no_half_one(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_where_the_name_is_taken_by_a_folder_nothing_is_left(tmp_path):
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path / "table.csv") as temporary:
        temporary.write_text("a")
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_killed_writer_leaves_no_file_of_that_name(tmp_path):
    path, ready = tmp_path / "table.csv", CONTEXT.Event()
    process = start(write_half_and_hang, path, ready)
    assert ready.wait(30)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not path.exists()
    (left,) = os.listdir(tmp_path)
    assert left.startswith("table.csv.")
    assert left.endswith(PARTIAL)


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "table.csv"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_folder_has_its_name_only_when_it_is_whole(tmp_path):
    folder = tmp_path / "exports" / "model"
    with atomic_folder(folder) as temporary:
        (temporary / "weights").write_bytes(b"1")
        assert not folder.exists()
    assert (folder / "weights").read_bytes() == b"1"
    assert os.listdir(folder.parent) == ["model"]


def test_a_folder_takes_the_place_of_an_empty_one_only(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    with atomic_folder(folder) as temporary:
        (temporary / "weights").write_bytes(b"1")
    with pytest.raises(OSError, match="not empty"), atomic_folder(folder) as temporary:
        (temporary / "weights").write_bytes(b"2")
    assert (folder / "weights").read_bytes() == b"1"
    assert os.listdir(tmp_path) == ["model"]


def test_an_error_leaves_no_folder(tmp_path):
    def write():
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / "weights").write_bytes(b"half")
            raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        write()
    assert os.listdir(tmp_path) == []


def test_temporary_names_say_whose_they_are_and_differ():
    names = {temporary_name("index.arrow") for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(f"index.arrow.{os.getpid()}-") and name.endswith(PARTIAL) for name in names)


def test_files_and_folders_can_be_synced(tmp_path):
    (tmp_path / "file").write_text("a")
    sync(tmp_path / "file")
    sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "nothing")


# The lock


def test_a_lock_leaves_no_file(tmp_path):
    path = tmp_path / "new" / "store"
    with file_lock(path) as locked:
        assert locked
        assert os.listdir(path.parent) == ["store.lock"]
    assert os.listdir(path.parent) == []
    with pytest.raises(ValueError, match="a mistake"), file_lock(path):
        raise ValueError("a mistake")
    assert os.listdir(path.parent) == []


def test_who_waits_hears_the_holder_and_may_leave(tmp_path):
    path, ready, holders = tmp_path / "store", CONTEXT.Event(), []
    process = start(hold, path, ready)
    assert ready.wait(30)

    def keep_waiting(holder):
        holders.append(holder)
        return len(holders) < 3

    try:
        with file_lock(path, keep_waiting) as locked:
            assert not locked
        assert holders == [f"process {process.pid} on {os.uname().nodename}"] * 3
        assert (tmp_path / "store.lock").exists()  # who gives up takes nothing away
    finally:
        process.kill()
        process.join()


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    path, ready = tmp_path / "store", CONTEXT.Event()
    process = start(hold, path, ready)
    assert ready.wait(30)
    process.kill()
    process.join()
    assert (tmp_path / "store.lock").exists()
    with file_lock(path, lambda holder: False) as locked:
        assert locked
    assert os.listdir(tmp_path) == []


def test_who_waits_goes_on_when_the_holder_dies(tmp_path):
    path, ready = tmp_path / "store", CONTEXT.Event()
    process = start(hold, path, ready)
    assert ready.wait(30)

    def kill_holder(holder):
        process.kill()
        return True

    with file_lock(path, kill_holder) as locked:
        assert locked
    process.join()


def test_one_process_at_a_time(tmp_path):
    path = tmp_path / "number"
    path.write_text("0")
    processes = [start(count_up, path, 10) for _ in range(4)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert path.read_text() == "40"
    assert os.listdir(tmp_path) == ["number"]


def test_one_thread_at_a_time(tmp_path):
    path = tmp_path / "number"
    path.write_text("0")
    threads = [threading.Thread(target=count_up, args=(path, 10)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert path.read_text() == "30"


def test_within_a_process_a_second_lock_is_refused_as_well(tmp_path):
    with file_lock(tmp_path / "store"), file_lock(tmp_path / "store", lambda holder: False) as locked:
        assert not locked
    with file_lock(tmp_path / "store", lambda holder: False) as locked:
        assert locked


def test_a_deleted_lock_file_is_made_anew_for_who_waits(tmp_path):
    """The holder deletes the file before it lets go: nobody goes on with the lock of a file that is gone."""
    path, order = tmp_path / "store", []

    def wait():
        with file_lock(path) as locked:
            assert (tmp_path / "store.lock").read_text().endswith(f" {os.getpid()}")
            order.append(locked)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    with file_lock(path):
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        assert order == []
    for thread in threads:
        thread.join(60)
    assert order == [True] * 3
    assert not Path(tmp_path / "store.lock").exists()
