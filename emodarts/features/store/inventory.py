"""Which feature stores there are in the cache, how far the unfinished ones are, and how to delete one."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emodarts.errors import EmodartsError
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.files import INDEX, PLAN, STORE_JSON
from emodarts.features.store.plan import ExtractionPlan
from emodarts.features.store.store import open_store
from emodarts.files import file_lock

UNFINISHED = "unfinished"


@dataclass(frozen=True)
class StoreListing:
    """A store's folder as it stands: `bytes` on the disk, `state` in words."""

    folder: Path
    corpus: str
    settings: str
    utterances: int | None
    bytes: int
    complete: bool
    state: str


def list_stores(cache: Path) -> list[StoreListing]:
    """The stores below the cache, sorted by name; also those of an older version, and what an ended build left."""
    return [_list_store(folder) for folder in _folders(cache)]


def delete_stores(cache: Path, name: str) -> list[StoreListing]:
    """Delete the store of this name, or all unfinished ones; what was deleted.

    Raises EmodartsError for an unknown name, and for a store that a process is building.
    """
    chosen = [s for s in list_stores(cache) if (not s.complete if name == UNFINISHED else s.folder.name == name)]
    if not chosen and name != UNFINISHED:
        raise EmodartsError(f"no feature store {name} in {cache}; `emodarts features --list` shows which there are")
    busy = [store.folder.name for store in chosen if not _delete(store.folder, only_unfinished=name == UNFINISHED)]
    if busy and name != UNFINISHED:
        raise EmodartsError(f"{name} is being built right now; stop that first")
    return [store for store in chosen if store.folder.name not in busy]


def _delete(folder: Path, only_unfinished: bool) -> bool:
    """Whether the folder could be deleted: not while it is built, nor once it is finished where that matters."""
    with file_lock(folder, keep_waiting=lambda holder: False) as locked:
        if not locked or (only_unfinished and _list_store(folder).complete):
            return False
        for name in (STORE_JSON, INDEX):  # killed in between, it is an unfinished store, not a damaged one
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder)
        return True


def _folders(cache: Path) -> Iterator[Path]:
    if cache.is_dir():
        yield from sorted(p for p in cache.iterdir() if (p / PLAN).exists() or (p / STORE_JSON).exists())


def _list_store(folder: Path) -> StoreListing:
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    try:
        description = json.loads((folder / STORE_JSON).read_text())
        open_store(folder)
        corpus, utterances, dropped = (description[name] for name in ("corpus", "utterances", "dropped"))
        settings = describe_settings(FeatureSettings(**description["settings"]))
        state = f"complete, {len(dropped)} dropped" if dropped else "complete"
        return StoreListing(folder, corpus, settings, utterances, size, True, state)
    except (OSError, ValueError, KeyError, TypeError, EmodartsError) as error:
        damaged = f"damaged, or of another version: {error}" if (folder / STORE_JSON).exists() else None
        return _unfinished(folder, size, damaged)


def _unfinished(folder: Path, size: int, damaged: str | None) -> StoreListing:
    try:
        plan = ExtractionPlan.read(folder)
    except (EmodartsError, KeyError, TypeError) as error:
        return StoreListing(folder, "?", "", None, size, False, damaged or f"cannot be read: {error}")
    done = len(list(folder.glob("shard-*.arrow")))
    state = damaged or f"{done} of {plan.shards} shards"
    return StoreListing(folder, plan.corpus, describe_settings(plan.settings), plan.rows.num_rows, size, False, state)


def describe_settings(settings: FeatureSettings) -> str:
    """The settings that tell stores apart, in one line."""
    if settings.is_encoder:
        layers = settings.layers if isinstance(settings.layers, list) else settings.content["layers"]
        parts = [settings.model or settings.bundle, f"layers {layers} {settings.weighting}"]
        parts.append(f"{settings.frames_per_second:g}/s {settings.precision}")
    elif settings.kind == "egemaps":
        parts = ["eGeMAPS functionals"]
    else:
        values = settings.n_mfcc if settings.kind == "mfcc" else settings.n_mels
        parts = [f"{settings.kind} {values}", f"{settings.window_ms:g}/{settings.hop_ms:g} ms"]
        parts += ["deltas"] if settings.deltas else []
    parts.append(f"{settings.sample_rate} Hz")
    parts += [f"speeds {','.join(f'{s:g}' for s in settings.speeds)}"] if len(settings.speeds) > 1 else []
    parts += [f"noise {','.join(f'{s:g}' for s in settings.noise_snr_db)} dB"] if settings.noise_snr_db else []
    return " ".join(parts)
