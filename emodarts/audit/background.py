"""The audit in a process of its own, fed and heard by pipes, which takes the processor time that nobody else wants."""

import os
import pickle
import subprocess
import sys
from contextlib import suppress
from typing import Any

from emodarts.audit.model import Audit
from emodarts.errors import EmodartsError
from emodarts.processors import module_environment


def audit_in_background(*arguments: Any) -> Audit:
    """As `audit_corpus`, whose arguments it takes: the same audit, later on a machine that is busy. Raises what that
    does, and EmodartsError where the process dies.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "emodarts.audit.background"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=module_environment(),
        process_group=0,  # Ctrl-C is the driver's
    )
    answer, _ = process.communicate(pickle.dumps(arguments))
    if process.returncode:
        name = f"{arguments[0].name} ended with {process.returncode}"
        raise EmodartsError(f"the process that audited {name}: memory may be short; run again")
    result: Audit | Exception = pickle.loads(answer)
    if isinstance(result, Exception):
        raise result
    return result


def yield_processors() -> None:
    """Let this process run behind all others; on Linux behind those at a niceness of 15, too, as Ray's workers are."""
    os.nice(19)
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _audit() -> None:
    yield_processors()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand in the answer
    arguments = pickle.load(sys.stdin.buffer)  # from the process that started this one, as is the answer back
    from emodarts.audit.audit import audit_corpus

    try:
        answer: Audit | Exception = audit_corpus(*arguments)
    except Exception as error:
        answer = error
    with suppress(BrokenPipeError), answers:  # nobody waits any longer
        pickle.dump(answer, answers)


if __name__ == "__main__":
    _audit()
