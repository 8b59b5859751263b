"""What this process and those that it starts compute on: how many processors, which device, which code."""

import os
from pathlib import Path

from emodarts.errors import EmodartsError


def processors() -> int:
    """Those that the system lets this process run on, at least 1; a scheduler may give fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def module_environment() -> dict[str, str]:
    """The environment of a process that runs a module of this package, which has one thread."""
    path = os.pathsep.join(p for p in (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")) if p)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def choose_device(name: str) -> str:
    """`auto` -> cuda where there is one, else cpu; other names as they are."""
    if name != "auto":
        return name
    import torch  # an import of seconds, needed here alone

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> None:
    """Raise EmodartsError for a `--device` that this machine has not."""
    import torch

    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise EmodartsError(f"--device {device}: there is no such device here; take cpu, or cuda where there is a GPU")
