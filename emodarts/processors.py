"""What this process may compute on: how many processors, and which device."""

import os


def processors() -> int:
    """Those that the system lets this process run on, at least 1; a scheduler may give fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_device(name: str) -> str:
    """`auto` -> cuda where there is one, else cpu; other names as they are."""
    if name != "auto":
        return name
    import torch  # an import of seconds, needed here alone

    return "cuda" if torch.cuda.is_available() else "cpu"
