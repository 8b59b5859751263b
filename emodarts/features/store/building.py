"""Building a store: under its lock, shard by shard, in one process or several, resumable at any moment."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from emodarts.corpora.table import Dropped
from emodarts.errors import EmodartsError
from emodarts.features.extractors.extractor import frame_shape, make_extractor
from emodarts.features.settings import FeatureSettings
from emodarts.features.store import files
from emodarts.features.store.files import INDEX, SCHEMA_VERSION, STORE_JSON, format_bytes, shard_name
from emodarts.features.store.plan import ExtractionPlan
from emodarts.features.store.store import Store, open_store, store_fault
from emodarts.features.store.workers import extract_in_processes
from emodarts.files import PARTIAL, atomic_write, file_lock, sync
from emodarts.processors import choose_device, processors

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]  # utterances done, of so many
# Writes shards of a plan (its missing ones, by number) into the store's folder elsewhere than in this process, and
# yields their numbers as they are done; None: it does not.
Extraction = Callable[[ExtractionPlan, Path, Sequence[int]], Generator[int, None, None] | None]
# Rough costs of one core, which decide whether further processes are worth their start.
_START_SECONDS = 3.0  # a process that imports torch
_DECODING, _SPECTRA, _RESAMPLED = 3e-4, 1e-4, 6e-4  # seconds a second of sound (and copy)
_TRANSFORM = {"pretrained": 0.1, "encoder": 0.1, "egemaps": 0.02}
_ENCODER_BYTES = 4 << 30


def build_store(
    utterances: pa.Table,
    root: Path,
    settings: FeatureSettings,
    cache: Path,
    device: str = "cpu",
    processes: int | None = None,
    progress: Progress = lambda done, total: None,
    extraction: Extraction = lambda plan, folder, missing: None,
) -> Store:
    """The store of these utterances (schema UTTERANCES), built below `cache` unless it is there.

    The key covers the settings and each audio file's path, size and time. Several processes may ask at once: one
    builds, the others wait, and one of them goes on if the builder dies. Recordings that cannot be used are in
    `Store.dropped`. `device` (auto chooses) is an encoder's. `processes` None: as many as are worth their start. Raises
    EmodartsError.
    """
    plan = ExtractionPlan.of(utterances, root, settings)
    return build_planned(plan, cache, device, processes, progress, extraction)


def build_planned(
    plan: ExtractionPlan,
    cache: Path,
    device: str = "cpu",
    processes: int | None = None,
    progress: Progress = lambda done, total: None,
    extraction: Extraction = lambda plan, folder, missing: None,
) -> Store:
    """The store of a plan, as `build_store`."""
    if processes is not None and processes < 1:
        raise EmodartsError(f"{processes} processes cannot build features; give 1 or more")
    folder = cache / plan.name
    if store_fault(folder):
        with _disk_errors(folder), file_lock(folder, _keep_waiting(plan, folder, progress)):
            if store_fault(folder):
                _build(plan, folder, device, processes, progress, extraction)
    store = open_store(folder)
    if len(store.utterances) == 0:
        first = store.dropped[0]
        raise EmodartsError(
            f"none of the {plan.rows.num_rows} recordings of {plan.corpus} can be used; the first, {first.path}: "
            f"{first.reason}"
        )
    return store


def _build(
    plan: ExtractionPlan, folder: Path, device: str, processes: int | None, progress: Progress, extraction: Extraction
) -> None:
    folder.mkdir(exist_ok=True)
    _clear(folder)
    try:
        plan.write(folder)
        missing = [number for number in range(plan.shards) if not _is_whole(plan, folder, number)]
        _check_disk(plan, folder, missing)
        done = plan.rows.num_rows - sum(plan.shard_rows(number) for number in missing)
        progress(done, plan.rows.num_rows)
        elsewhere = extraction(plan, folder, missing) if missing else None
        shards = elsewhere if elsewhere is not None else _extract(plan, folder, missing, device, processes)
        with closing(shards) as extracted:  # no worker outlives the lock
            for number in extracted:
                done += plan.shard_rows(number)
                progress(done, plan.rows.num_rows)
        finish_store(plan, folder)
    finally:
        _clear_partial(folder)


def _extract(
    plan: ExtractionPlan, folder: Path, missing: list[int], device: str, processes: int | None
) -> Generator[int, None, None]:
    """Write the missing shards; yields their numbers as they are done."""
    # Of spectra decoding is the limit; and so the bytes do not depend on the machine.
    device = choose_device(device) if plan.settings.is_encoder else "cpu"
    count = 1 if device != "cpu" else min(len(missing), processes or _worthwhile_processes(plan, len(missing)))
    if count > 1:
        yield from extract_in_processes(folder, missing, count)
        return
    from emodarts.features.store import extraction  # torch, which takes seconds: a store that is there needs none

    with _one_thread():
        extractor = make_extractor(plan.settings) if missing else None
        for number in missing:
            assert extractor is not None
            extraction.extract_shard(plan, number, folder, extractor, device)
            yield number


def _worthwhile_processes(plan: ExtractionPlan, missing: int) -> int:
    """How many processes to start: one where the work is done sooner than others would have started."""
    native = [v.speed == 1.0 for v in plan.settings.variants]
    copies = len(native) * _TRANSFORM.get(plan.settings.kind, _SPECTRA)
    work = plan.seconds * missing / plan.shards * (_DECODING + copies + _RESAMPLED * native.count(False))
    most = processors()
    if plan.settings.is_encoder:  # each process has the weights, and its activations
        most = max(1, min(most, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _ENCODER_BYTES))
    return 1 if work < 2 * _START_SECONDS else min(most, 1 + int(work / _START_SECONDS))


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch, as in the worker processes: sums in the same order give the same bytes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def finish_store(plan: ExtractionPlan, folder: Path) -> None:
    """Write the index and, when all else is on the disk, the file that makes the store complete."""
    bins, channels = frame_shape(plan.settings)
    rows, dropped, names = [], list[Dropped](), [shard_name(number) for number in range(plan.shards)]
    for number, name in enumerate(names):
        shard = files.map_table(folder / name)
        rows.append(files.index_rows(number, shard, bins * channels))
        dropped += files.shard_dropped(shard)
    count = files.write_index(folder / INDEX, rows)
    for name in [*names, INDEX]:  # at the end, when most is written already: once a shard would stop the extraction
        sync(folder / name)
    description = {
        "schema_version": SCHEMA_VERSION,
        "corpus": plan.corpus,
        "root": str(plan.root),
        "settings": asdict(plan.settings),
        "utterances": count,
        "bins": bins,
        "channels": channels,
        "variants": [[v.speed, v.snr_db] for v in plan.settings.variants],
        "files": {name: (folder / name).stat().st_size for name in [*names, INDEX]},
        "dropped": [asdict(row) for row in dropped],
    }
    with atomic_write(folder / STORE_JSON, durable=True) as temporary:
        temporary.write_text(json.dumps(description, indent=1))
    sync(folder)


def _is_whole(plan: ExtractionPlan, folder: Path, number: int) -> bool:
    """Whether a shard is there, and is this plan's: it may be torn by a crash, or cut or mixed up by a copy."""
    bins, channels = frame_shape(plan.settings)
    try:
        shard = files.map_table(folder / shard_name(number))
        values = int(files.matrix(shard.column("frames")).sum()) * bins * channels
        planned = {row["utterance"] for row in plan.shard(number)}.issuperset(shard.column("utterance").to_pylist())
        complete = shard.num_rows + len(files.shard_dropped(shard)) == plan.shard_rows(number)
        return planned and complete and len(files.shard_values(shard)) == values
    except (EmodartsError, KeyError, pa.ArrowInvalid):
        return False


def _clear(folder: Path) -> None:
    """Take away what says that the store is complete, and what dead builders left."""
    for name in (STORE_JSON, INDEX):
        (folder / name).unlink(missing_ok=True)
    _clear_partial(folder)


def _clear_partial(folder: Path) -> None:
    for path in folder.glob(f"*{PARTIAL}"):
        path.unlink(missing_ok=True)


def _check_disk(plan: ExtractionPlan, folder: Path, missing: Sequence[int]) -> None:
    """Log how large the store will be at most, and refuse where the disk has less."""
    size, free = plan.size, shutil.disk_usage(folder).free
    needed = size * len(missing) // plan.shards
    copies = len(plan.settings.variants)
    times = "one copy" if copies == 1 else f"{copies} copies"
    bins, channels = frame_shape(plan.settings)
    layers = f"{channels} x {bins}" if channels > 1 else f"{bins}"
    rate = f"{plan.settings.frame_rate:g} frames a second" if plan.settings.frame_rate else "one frame"
    present = "" if len(missing) == plan.shards else f", {plan.shards - len(missing)} of {plan.shards} shards are there"
    logger.info(
        f"features of {plan.corpus}: {plan.rows.num_rows} utterances, {times} of each, {rate} of {layers} values, "
        f"at most {format_bytes(size)} ({size} bytes) in {folder}{present}; {format_bytes(free)} are free"
    )
    if needed > free:
        raise EmodartsError(
            f"the features need up to {format_bytes(needed)}, and {folder} has {format_bytes(free)}: free some, or set "
            "EMODARTS_CACHE to a folder with space"
        )


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EmodartsError(
                f"the disk of {folder} is full; what is finished is kept, and the next start goes on; free some space, "
                "or set EMODARTS_CACHE to a folder with space"
            ) from error
        raise EmodartsError(f"cannot build features in {folder}: {error}; or set EMODARTS_CACHE to another") from error


def _keep_waiting(plan: ExtractionPlan, folder: Path, progress: Progress) -> Callable[[str], bool]:
    """Log once who builds, and show how far they are."""
    is_logged = False

    def keep_waiting(holder: str) -> bool:
        nonlocal is_logged
        if not is_logged:
            logger.info(f"{folder.name} is being built by {holder}; waiting for it")
            is_logged = True
        progress(
            min(plan.rows.num_rows, len(list(folder.glob("shard-*.arrow"))) * plan.rows_per_shard), plan.rows.num_rows
        )
        return True

    return keep_waiting
