"""The audit in a process of its own, which takes the processor time that nobody else wants."""

import os
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from emodarts.audit.measuring import interrupts_wait
from emodarts.audit.model import Audit
from emodarts.errors import EmodartsError


def audit_in_background(*arguments: Any) -> Audit:
    """As `audit_corpus`, whose arguments it takes: the same audit, later on a machine that is busy.

    Raises what `audit_corpus` does, and EmodartsError where the process dies. It ends with the one that waits for it.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_audit, args=(sender, arguments), daemon=True)
    with interrupts_wait():
        process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError as error:
        process.join()
        raise EmodartsError(
            f"the process that audited {arguments[0].name} died with {process.exitcode}: memory may be short; what is "
            "finished is kept, run again"
        ) from error
    finally:
        receiver.close()
    process.join()
    if isinstance(answer, Exception):
        raise answer
    audit: Audit = answer
    return audit


def yield_processors() -> None:
    """Let this process run behind all others; on Linux behind those at a niceness of 15, too, as Ray's workers are."""
    os.nice(19)
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _audit(sender: Connection, arguments: tuple[Any, ...]) -> None:
    yield_processors()
    from emodarts.audit.audit import audit_corpus

    try:
        answer: Audit | Exception = audit_corpus(*arguments)
    except Exception as error:
        answer = error
    with suppress(BrokenPipeError):  # nobody waits any longer
        sender.send(answer)
