"""Requests to stop, which reach a unit between two batches: its driver stops, or its node is drained.

Tune asks a worker to stop by a call that waits behind the running one, and ends it ten seconds later. So the driver
leaves a word in the cluster's own store of keys first, where a thread beside each unit looks; no batch waits for it.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray._private import state
from ray.experimental import internal_kv

DRIVER, NODE = "the driver stops", "the node is drained"
_INTERVAL = 1.0  # s between two looks at the driver's word: a millisecond each
_NODE_LOOKS = 3  # of them to a look at the node
_NAMESPACE = "emodarts"


def request_stop() -> None:
    """Have all units of this driver stop at their next batch."""
    internal_kv._internal_kv_put(_key(), b"", namespace=_NAMESPACE)


def withdraw_stop() -> None:
    """Units of this driver run to their end."""
    internal_kv._internal_kv_del(_key(), namespace=_NAMESPACE)


def _key() -> str:
    return f"stop-{ray.get_runtime_context().get_job_id()}"


class StopListener:
    """Listens while its block runs; `reason` is why the unit is to stop, or None."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._ended = threading.Event()

    def __enter__(self) -> "StopListener":
        threading.Thread(target=self._listen, name="stop requests", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()

    def should_stop(self) -> bool:
        """Whether the unit is to stop."""
        return self.reason is not None

    def _listen(self) -> None:
        looks = 0
        while self.reason is None and not self._ended.wait(_INTERVAL):
            if not ray.is_initialized():
                continue
            with suppress(Exception):  # a cluster that does not answer: the next look, or the unit is ended with it
                if internal_kv._internal_kv_exists(_key(), namespace=_NAMESPACE):
                    self.reason = DRIVER
                elif looks % _NODE_LOOKS == 0 and _own_node_is_drained():
                    self.reason = NODE
            looks += 1


def _own_node_is_drained() -> bool:
    return ray.get_runtime_context().get_node_id() in state.state.get_draining_nodes()


def ask_workers_to_stop_first() -> None:
    """Make Tune (of Ray 2.60) leave the word for its workers before it ends the trials of an experiment."""
    from ray.tune.execution.tune_controller import TuneController

    clean_up: Callable[[Any], None] = TuneController._cleanup_trials
    if getattr(clean_up, "asks_first", False):
        return

    def ask_and_clean_up(self: Any) -> None:
        with suppress(Exception):  # then they end without having been asked, at their last checkpoint
            request_stop()
        clean_up(self)

    ask_and_clean_up.asks_first = True  # type: ignore[attr-defined]
    TuneController._cleanup_trials = ask_and_clean_up  # type: ignore[method-assign]
