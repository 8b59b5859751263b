"""How many processors this process may use."""

import os


def processors() -> int:
    """Those that the system lets this process run on, at least 1; a scheduler may give fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
