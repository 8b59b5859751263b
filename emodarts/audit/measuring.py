"""Decode and measure every recording of a corpus, in several processes; what cannot be decoded becomes a drop."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa

from emodarts.corpora.table import Dropped
from emodarts.errors import EmodartsError
from emodarts.features.audio import UnusableAudio, decode
from emodarts.features.measures import MEASURES, measure
from emodarts.processors import processors

_CHUNK = 128  # utterances a task
_FEW = 512  # below this, starting processes takes longer than measuring

Progress = Callable[[int, int], None]  # utterances done, of so many
_Row = tuple[str, str, float | None, float | None]  # utterance, path, start, end


def measure_recordings(
    utterances: pa.Table, root: Path, processes: int | None = None, progress: Progress | None = None
) -> tuple[pa.Table, tuple[Dropped, ...]]:
    """Measures (schema MEASURES, in the order of the utterances) and drops of a table of schema UTTERANCES.

    `processes` None: one a core. Raises EmodartsError where a worker process dies.
    """
    columns = (utterances[name].to_pylist() for name in ("utterance", "path", "start", "end"))
    rows: list[_Row] = list(zip(*columns, strict=True))
    chunks = [rows[first : first + _CHUNK] for first in range(0, len(rows), _CHUNK)]
    workers = min(processes or processors(), len(chunks))
    measures: list[dict[str, Any]] = []
    dropped: list[Dropped] = []
    done = 0
    for chunk, results in zip(chunks, _results(chunks, root, 1 if len(rows) < _FEW else workers), strict=True):
        measures += [result for result in results if isinstance(result, dict)]
        dropped += [result for result in results if isinstance(result, Dropped)]
        done += len(chunk)
        if progress is not None:
            progress(done, len(rows))
    return pa.Table.from_pylist(measures, MEASURES), tuple(dropped)


def _results(chunks: Sequence[list[_Row]], root: Path, workers: int) -> Iterator[list[dict[str, Any] | Dropped]]:
    if workers <= 1:
        yield from (_measure_chunk(root, chunk) for chunk in chunks)
        return
    # A fresh interpreter each: forking a process that has threads (Arrow, a search) can hang it.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        with _interrupts_wait():
            results = pool.map(_measure_chunk, repeat(root), chunks)
        yield from results
    except BrokenProcessPool as error:
        raise EmodartsError(
            f"a process that measured the recordings of {root} died: memory may be short, or a file crashes the "
            "decoder; run again with --processes 1 to see which"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C reaches this process after the block, and the processes started in it never: they end with the pool."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _measure_chunk(root: Path, rows: Sequence[_Row]) -> list[dict[str, Any] | Dropped]:
    return [_measure_one(root, row) for row in rows]


def _measure_one(root: Path, row: _Row) -> dict[str, Any] | Dropped:
    utterance, path, start, end = row
    try:
        return {"utterance": utterance, **measure(*decode(root / path, start, end))}
    except UnusableAudio as error:
        return Dropped(path, str(error))
    except MemoryError:
        return Dropped(path, "cannot be decoded: it claims to be larger than the memory")
