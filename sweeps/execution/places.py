"""Places: a node, or one of its GPUs; and the list of those that are set aside, which every worker looks at first."""

import json
import time
from functools import cache
from urllib.parse import quote

import ray

from emodarts.storage import Storage

_FOLDER = "set_aside"  # below the sweep


@cache
def _node_names() -> dict[str, str]:
    """Names of the cluster's nodes by id: the node's address, unless it was started with a name."""
    return {node["NodeID"]: node["NodeName"] for node in ray.nodes()}


def current_place() -> str:
    """The place of this process: `10.0.0.2`, or with its GPUs `10.0.0.2 GPU 3`."""
    node = ray.get_runtime_context().get_node_id()
    gpus = " ".join(str(gpu) for gpu in ray.get_gpu_ids())
    return _node_names().get(node, node) + (f" GPU {gpus}" if gpus else "")


def count_places() -> int:
    """How many places the cluster has now: its GPUs, or where there are none, its nodes with processors."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(resources.get("GPU", 0)) for resources in alive)
    return max(1, gpus or sum(resources.get("CPU", 0) > 0 for resources in alive))


def write_set_aside(storage: Storage, sweep: str, place: str, reason: str, until: float) -> None:
    """Set a place aside until a time (s since 1970). Raises StorageError."""
    content = json.dumps({"place": place, "reason": reason, "until": until}).encode()
    storage.write(f"{sweep}/{_FOLDER}/{quote(place, safe='')}.json", content)


def seconds_set_aside(storage: Storage, sweep: str, place: str) -> float:
    """How long a place is still set aside; 0: it is not. Raises StorageError."""
    try:
        about = json.loads(storage.read(f"{sweep}/{_FOLDER}/{quote(place, safe='')}.json"))
        return max(0.0, float(about["until"]) - time.time())
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0.0
