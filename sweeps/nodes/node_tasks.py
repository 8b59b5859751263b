"""The driver's own work on a GPU (an encoder's features, what is measured) as Ray tasks on nodes that have one.

The driver's process touches no GPU: on a cluster it runs on a head that has none.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import ray
from rich.console import Console

from emodarts.console import print_line
from emodarts.errors import EmodartsError
from emodarts.processors import choose_device
from sweeps.nodes.session import check_gpu_here, describe_waiting, session, trial_resources
from sweeps.settings import NO_RAY, Settings

_SAY_AFTER, _SAY_AGAIN = 30.0, 600.0  # s without a result, while the cluster lacks what is asked for
_MOST_IN_FLIGHT = 64  # tasks whose arguments lie in the driver's memory
_LOOK_EVERY = 5.0  # s
_RETRIES = 3  # of a task whose worker or node died


@contextmanager
def node_tasks(settings: Settings, console: Console) -> Iterator["NodeTasks | None"]:
    """Tasks with the resources of a unit; None where the driver's own process computes: on a CPU, or without Ray.

    Raises EmodartsError for `resources.device=cuda` where there is no GPU and none can come.
    """
    device, address = settings.resources.device, settings.ray.address
    wants_cuda = device.startswith("cuda")
    if device != "auto" and not wants_cuda:
        yield None
        return
    if not settings.ray.joins_cluster:
        check_gpu_here(device)
        if address == NO_RAY or not choose_device("auto").startswith("cuda"):
            yield None
            return
    with session(settings.ray, settings.resources, console):
        if wants_cuda or ray.cluster_resources().get("GPU", 0) > 0:
            yield NodeTasks(trial_resources(settings.resources), console)
            return
    yield None


class NodeTasks:
    """Runs functions on nodes with these resources (`cpu`, `gpu`), each again where its node is lost."""

    def __init__(self, resources: dict[str, float], console: Console):
        self.resources, self.console = resources, console

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of one call. Raises as `map`."""
        ((_, result),) = self.map(function, [(None, arguments)])
        return result

    def map(self, function: Callable[..., Any], calls: Iterable[tuple[Any, tuple[Any, ...]]]) -> Iterator[Any]:
        """(name, result) of each call `(name, arguments)`, as they end; `calls` is read as far as there is room.

        Raises EmodartsError for what a call raised, or for a task that died again and again.
        """
        task = ray.remote(function).options(
            num_cpus=self.resources["cpu"], num_gpus=self.resources["gpu"], max_retries=_RETRIES
        )
        pending, running = iter(calls), dict[Any, Any]()
        since, said_at = time.monotonic(), 0.0
        try:
            while True:
                for name, arguments in islice(pending, self._room() - len(running)):
                    running[task.remote(*arguments)] = name
                if not running:
                    return
                ended, _ = ray.wait(list(running), timeout=_LOOK_EVERY)
                for reference in ended:
                    yield running.pop(reference), _result(reference)
                    since, said_at = time.monotonic(), 0.0
                waited = time.monotonic() - since
                if waited >= _SAY_AFTER and time.monotonic() - said_at >= _SAY_AGAIN and not self._fits():
                    said_at = time.monotonic()
                    requested = {name.upper(): amount for name, amount in self.resources.items()}
                    print_line(self.console, describe_waiting(requested, waited, "this work"))
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def _room(self) -> int:
        """Twice as many tasks as run at once: the next ones' arguments are there when a place is free."""
        total = ray.cluster_resources()
        slots = [total.get(n.upper(), 0) / amount for n, amount in self.resources.items() if amount]
        return max(2, min(_MOST_IN_FLIGHT, int(2 * min(slots, default=1))))

    def _fits(self) -> bool:
        total = ray.cluster_resources()
        return all(total.get(name.upper(), 0) >= amount for name, amount in self.resources.items())


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EmodartsError):
            raise error.cause from None
        raise EmodartsError(f"on a node: {error.cause!r}; what is finished is kept: run again") from error
    except ray.exceptions.RayError as error:
        raise EmodartsError(f"on a node: {str(error).splitlines()[0]}; what is finished is kept: run again") from error
