"""The sweep's lock: a lease that its holder rewrites, so that two drivers never work on one sweep."""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emodarts.errors import EmodartsError
from emodarts.files import file_lock
from emodarts.storage import Storage

RENEWAL = 30.0  # s
STALE = 180.0  # s without renewal, judged from another host


class Lease:
    """`with Lease(storage, sweep):` holds the sweep, or raises EmodartsError saying who does.

    On one host a holder is judged by process id and start time, elsewhere by its last renewal. `on_lost` is called
    (from a thread) where somebody else is found to hold the lease.
    """

    def __init__(
        self,
        storage: Storage,
        sweep: str,
        on_lost: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
        host: str | None = None,
    ):
        self.storage, self.sweep, self.on_lost, self.clock = storage, sweep, on_lost, clock
        self.path = f"{sweep}/lease.json"
        self.token = uuid.uuid4().hex
        self.host = host or socket.gethostname()
        self.since = clock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Lease":
        # Where files cannot be locked, two drivers are told apart below.
        with file_lock(Path(self.storage.path(self.path))) if self.storage.is_local else nullcontext():
            holder = self._read()
            if holder is not None and self._is_alive(holder):
                raise EmodartsError(self._refusal(holder))
            self._write()
        if not self.storage.is_local:
            time.sleep(1.0)  # two PUTs at once: the later one stays, and both read it back
            if (self._read() or {}).get("token") != self.token:
                raise EmodartsError(f"another driver took sweep '{self.sweep}' at the same moment; watch that one")
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        if (self._read() or {}).get("token") == self.token:
            self.storage.delete(self.path)

    def _renew(self) -> None:
        while not self._stop.wait(RENEWAL):
            try:
                holder = self._read()
                if holder is not None and holder["token"] != self.token:
                    self.on_lost()
                    return
                self._write()
            except (EmodartsError, OSError):
                continue  # the store is away for a moment; the lease lasts longer than some renewals

    def _read(self) -> dict[str, Any] | None:
        try:
            content: dict[str, Any] = json.loads(self.storage.read(self.path))
            return content
        except (FileNotFoundError, ValueError):
            return None

    def _write(self) -> None:
        content = {
            "token": self.token,
            "host": self.host,
            "process": os.getpid(),
            "started": process_start(os.getpid()),
            "since": self.since,
            "renewed": self.clock(),
        }
        self.storage.write(self.path, json.dumps(content).encode())

    def _is_alive(self, holder: dict[str, Any]) -> bool:
        if holder["host"] == self.host:
            return process_start(holder["process"]) == holder["started"]
        return self.clock() - float(holder["renewed"]) < STALE

    def _refusal(self, holder: dict[str, Any]) -> str:
        since = datetime.fromtimestamp(holder["since"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return (
            f"sweep '{self.sweep}' is held by process {holder['process']} on {holder['host']} since {since}; "
            f"wait for it, stop it, or take another sweep.name"
        )


def process_start(pid: int) -> str | None:
    """Start time of a process of this host (clock ticks since boot), or None where there is no such process."""
    try:
        # A process's name is cut at 15 bytes there, be it within a character.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except OSError:
        try:
            os.kill(pid, 0)
        except OSError:
            return None
        return "unknown"
