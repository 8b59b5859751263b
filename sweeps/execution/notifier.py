"""`sweep.notify`: a JSON object by POST at a sweep's end, at its failure, and when nothing has moved for an hour."""

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from emodarts.storage import Storage, StorageError
from sweeps.units.checkpoint_folders import checkpoint_mark
from sweeps.units.system_queues import SystemQueues

QUIET_SECONDS = 3600.0  # without an ended unit or a new checkpoint
_LOOK_EVERY = 600.0  # s
_TIMEOUT = 10.0  # s
_PAUSES = (1.0, 4.0)  # s between tries
_WATCHED_UNITS = 32  # of those that run, whose checkpoints are looked at: one that moves is enough


class Notifier:
    """Posts what happens to a sweep to a URL; without one it does nothing.

    The object has `text` (what chat webhooks show), `event` (complete, stopped, failed or quiet), `sweep`, `results`,
    `units_ended`, `units_total` and `host`. That one cannot be delivered is told to `on_failure`, and ends nothing.
    """

    def __init__(self, url: str | None, results: str, on_failure: Callable[[str], None]):
        self.url, self.results, self.on_failure = url, results, on_failure

    def send(self, event: str, sweep: str, text: str, ended: int | None = None, total: int | None = None) -> None:
        """Post a message; the counts of units are None where the sweep has not come as far as to know them."""
        if self.url is None:
            return
        counts = "" if total is None else f" ({ended} of {total} units ended)"
        content = {
            "text": f"emodarts {sweep}: {event}{counts}: {text}",
            "event": event,
            "sweep": sweep,
            "results": self.results,
            "units_ended": ended,
            "units_total": total,
            "host": socket.gethostname(),
        }
        try:
            self._post(self.url, json.dumps(content).encode())
        except (OSError, ValueError) as error:  # HTTPError is an OSError; ValueError: a redirection to what is no URL
            host = urlsplit(self.url).hostname  # no more of it: webhooks carry their secret in the path
            self.on_failure(f"sweep.notify: {host} did not take the message '{event}' ({error}); the sweep goes on")

    @contextmanager
    def watching(self, sweep: str, storage: Storage, queues: SystemQueues) -> Iterator[None]:
        """During the block, say once each time that nothing has moved for an hour."""
        if self.url is None:
            yield
            return
        end = threading.Event()
        thread = threading.Thread(target=self._watch, args=(sweep, storage, queues, end), daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join(_TIMEOUT)

    def _watch(self, sweep: str, storage: Storage, queues: SystemQueues, end: threading.Event) -> None:
        last, since, is_told = _progress_mark(storage, queues), time.monotonic(), False
        while not end.wait(min(_LOOK_EVERY, QUIET_SECONDS / 6)):
            mark = _progress_mark(storage, queues)
            if mark != last:
                last, since, is_told = mark, time.monotonic(), False
            elif not is_told and time.monotonic() - since >= QUIET_SECONDS:
                is_told = True
                running = sum(len(queue.running) for queue in queues)
                text = f"nothing has moved for {QUIET_SECONDS / 60:.0f} min; {running} units are handed out"
                self.send("quiet", sweep, text, queues.units_ended, queues.units_total)

    def _post(self, url: str, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": "emodarts"}
        for pause in (*_PAUSES, None):
            try:
                with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=_TIMEOUT):
                    return
            except OSError:
                if pause is None:
                    raise
                time.sleep(pause)


def _progress_mark(storage: Storage, queues: SystemQueues) -> Hashable:
    """Changes with each unit that ends and with the checkpoints of those that run."""
    running = [unit for queue in queues for unit in list(queue.running.values())[:_WATCHED_UNITS]]
    with suppress(StorageError):
        return queues.units_ended, tuple(checkpoint_mark(storage, unit.key) for unit in running[:_WATCHED_UNITS])
    return queues.units_ended
