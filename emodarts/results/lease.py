"""The sweep's lock: a lease that its holder rewrites, so that two drivers never work on one sweep.

A lease is taken by exclusive creation of `lease.json`. A stale one is taken over by exclusive creation of its
successor, `lease.<token of the stale one>.json`, which only one driver can make: who made the last of that chain holds
the sweep.
"""

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emodarts.errors import EmodartsError
from emodarts.storage import Storage

RENEWAL = 30.0  # s
STALE = 180.0  # s without renewal, judged from another host
_UNREADABLE = "unreadable"  # the token of a file that was cut off as its machine died
WAITING = 5.0  # s between two looks at a lease that is waited for


class Lease:
    """`with Lease(storage, sweep):` holds the sweep, or raises EmodartsError saying who does.

    On one host a holder is judged by process id and start time, elsewhere by its last renewal. `on_lost` is called
    (from a thread) where somebody else is found to hold the lease. `on_wait`: where it is held, this is called once
    with the words that else would be raised, and the lease is waited for.
    """

    def __init__(
        self,
        storage: Storage,
        sweep: str,
        on_lost: Callable[[], None] = lambda: None,
        on_wait: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.time,
        host: str | None = None,
    ):
        self.storage, self.sweep, self.on_lost, self.on_wait, self.clock = storage, sweep, on_lost, on_wait, clock
        self.path = self._path_after(None)
        self.token = uuid.uuid4().hex
        self.host = host or socket.gethostname()
        self.since = clock()
        self._chain: list[str] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Lease":
        while not self._take():
            time.sleep(WAITING)
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        if self._is_lost():
            return
        for path in self._chain:  # from the first on: once that is gone, the next driver may begin
            with suppress(FileNotFoundError):
                self.storage.delete(path)

    def _take(self) -> bool:
        """Take the lease; False: it is held, and to be waited for. Raises EmodartsError where it is held."""
        chain, holder = [self._path_after(None)], self._read(self._path_after(None))
        while holder is not None and not self._is_alive(holder):
            chain.append(self._path_after(holder["token"]))
            holder = self._read(chain[-1])
        if holder is None:
            self.path, self._chain = chain[-1], chain
            if self.storage.write_new(self.path, self._content()) or not self._is_lost():
                return True
            holder = self._read(self.path)
        if holder is None or holder["token"] == _UNREADABLE:
            refusal = f"another driver took sweep '{self.sweep}' at this moment; watch that one"
        else:
            refusal = self._refusal(holder)
        if self.on_wait is None:
            raise EmodartsError(refusal)
        self.on_wait(refusal)
        self.on_wait = lambda refusal: None  # said once
        return False

    def _path_after(self, token: str | None) -> str:
        return f"{self.sweep}/lease.json" if token is None else f"{self.sweep}/lease.{token}.json"

    def _is_lost(self) -> bool:
        """Whether the file is somebody else's by now, or has a successor."""
        is_own = (self._read(self.path) or {}).get("token") == self.token
        return not is_own or self.storage.exists(self._path_after(self.token))

    def _renew(self) -> None:
        while not self._stop.wait(RENEWAL):
            try:
                if self._is_lost():
                    self.on_lost()
                    return
                self.storage.write(self.path, self._content())
            except (EmodartsError, OSError):
                continue  # the store is away for a moment; the lease lasts longer than some renewals

    def _read(self, path: str) -> dict[str, Any] | None:
        """Who holds the lease of a path; None where there is no such file."""
        try:
            content = self.storage.read(path)
        except FileNotFoundError:
            return None
        try:
            holder: dict[str, Any] = json.loads(content)
            if not re.fullmatch("[0-9a-f]{32}", holder["token"]):  # it becomes part of a file's name
                raise ValueError
        except (ValueError, KeyError, TypeError):
            return {"token": _UNREADABLE}
        return holder

    def _content(self) -> bytes:
        content = {
            "token": self.token,
            "host": self.host,
            "process": os.getpid(),
            "started": process_start(os.getpid()),
            "since": self.since,
            "renewed": self.clock(),
        }
        return json.dumps(content).encode()

    def _is_alive(self, holder: dict[str, Any]) -> bool:
        if holder["token"] == _UNREADABLE:
            return False
        if holder["host"] == self.host:
            return process_start(holder["process"]) == holder["started"]
        return self.clock() - float(holder["renewed"]) < STALE

    def _refusal(self, holder: dict[str, Any]) -> str:
        since = datetime.fromtimestamp(holder["since"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return (
            f"sweep '{self.sweep}' is held by process {holder['process']} on {holder['host']} since {since}; "
            f"wait for it (sweep.wait=true), stop it, or take another sweep.name"
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
