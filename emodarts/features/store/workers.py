"""Worker processes that extract shards: started as a module of their own, fed and heard by pipes.

A worker reads shard numbers from its standard input and answers each with one line of JSON. It ends when that input
does, which the system closes if the builder dies: no worker outlives its builder. Nothing of the builder's main
module is imported again, as `multiprocessing` would do.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from emodarts.errors import EmodartsError
from emodarts.processors import module_environment

_LOOK_SECONDS = 2.0  # without an answer, until it is looked whether the workers live


def extract_in_processes(folder: Path, numbers: Sequence[int], processes: int) -> Iterator[int]:
    """Write shards of the plan in a store's folder; yields their numbers as they are done.

    Raises what a worker met (EmodartsError, OSError), and EmodartsError where one dies. All end with the generator.
    """
    queue = list(reversed(numbers))
    workers: list[subprocess.Popen[str]] = []
    busy: dict[int, int] = {}  # place of a worker -> the shard that it writes
    try:
        for _ in range(min(processes, len(numbers))):
            workers.append(_start(folder))
        with selectors.DefaultSelector() as selector:
            for place, worker in enumerate(workers):
                assert worker.stdout is not None
                selector.register(worker.stdout, selectors.EVENT_READ, place)
                busy[place] = queue.pop()
                _send_shard(worker, busy[place])
            while busy:
                ready = selector.select(_LOOK_SECONDS)
                if not ready:
                    _check_alive([(workers[place], number) for place, number in busy.items()])
                for key, _ in ready:
                    worker = workers[key.data]
                    done = busy.pop(key.data)
                    _read_answer(worker, done)
                    if queue:
                        busy[key.data] = queue.pop()
                        _send_shard(worker, busy[key.data])
                    else:
                        selector.unregister(key.fileobj)
                    yield done
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait()  # not `communicate`: what a worker started may hold its output open
            for pipe in (worker.stdin, worker.stdout):
                with suppress(OSError):  # of a shard number that a dead worker did not take
                    assert pipe is not None
                    pipe.close()


def _start(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        # -P: a module of the user's working directory must not take the place of one of ours.
        [sys.executable, "-P", "-m", "emodarts.features.store.workers", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=module_environment(),
        process_group=0,  # Ctrl-C is the builder's, who ends its workers
    )


def _send_shard(worker: "subprocess.Popen[str]", number: int) -> None:
    assert worker.stdin is not None
    try:
        worker.stdin.write(f"{number}\n")
        worker.stdin.flush()
    except BrokenPipeError:
        pass  # it died: `_read_answer` finds its output closed and says so


def _read_answer(worker: "subprocess.Popen[str]", number: int) -> None:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line.endswith("\n"):
        raise _death(worker.wait(), number)
    answer = json.loads(line)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["error"])
    if "traceback" in answer:
        raise RuntimeError(f"in a process that extracted features, shard {number}:\n{answer['traceback']}")
    if "error" in answer:
        raise EmodartsError(answer["error"])


def _check_alive(busy: Sequence[tuple["subprocess.Popen[str]", int]]) -> None:
    """Raise EmodartsError for a worker that is dead, whose output something that it started holds open."""
    for worker, number in busy:
        if (status := worker.poll()) is not None:
            raise _death(status, number)


def _death(status: int, number: int) -> EmodartsError:
    end = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return EmodartsError(
        f"a process that extracted features {end} in shard {number} (is there memory enough?); what is finished is "
        "kept: run again, with fewer processes if it was memory"
    )


def _work(folder: Path) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not stand between the answers
    requests: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, requests), daemon=True).start()

    import torch  # after the thread has started: a builder may die while this takes its seconds

    from emodarts.features.extractors.extractor import make_extractor
    from emodarts.features.store.extraction import extract_shard
    from emodarts.features.store.plan import ExtractionPlan

    torch.set_num_threads(1)
    plan, extractor = None, None
    while True:
        number = requests.get()
        answer: dict[str, object] = {"shard": number}
        try:
            if plan is None or extractor is None:
                plan = ExtractionPlan.read(folder)
                extractor = make_extractor(plan.settings)
            extract_shard(plan, number, folder, extractor)
        except EmodartsError as error:
            answer = {"error": str(error)}
        except OSError as error:
            answer = {"errno": error.errno or 0, "error": str(error.strerror or error)}
        except Exception:
            answer = {"traceback": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _listen(source: IO[str], requests: "SimpleQueue[int]") -> None:
    for line in source:
        requests.put(int(line))
    os._exit(0)


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
