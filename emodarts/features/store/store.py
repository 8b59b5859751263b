"""The feature store: a folder of Arrow shards and an index, complete when `store.json` is there, opened by memory map.

All workers of a node share one copy in the page cache. An interrupted build goes on with the shards that are missing.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from emodarts.corpora.table import Dropped
from emodarts.errors import EmodartsError
from emodarts.features.measures import MEASURES
from emodarts.features.settings import Variant
from emodarts.features.store import files
from emodarts.features.store.files import INDEX, STORE_JSON, shard_name


@dataclass(frozen=True)
class Store:
    """An opened store. Utterances have positions, 0 to n - 1 in the order of their ids; variant 0 is the recording.

    Nothing of it is held in memory: ids, lengths and frames are read where they lie in the memory map.
    """

    folder: Path
    bins: int
    channels: int
    variants: tuple[Variant, ...]
    dropped: tuple[Dropped, ...]

    @cached_property
    def _index(self) -> pa.RecordBatch:
        return files.map_table(self.folder / INDEX)

    @cached_property
    def _places(self) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
        shard = self._index.column("shard").to_numpy(zero_copy_only=True)
        return shard, files.matrix(self._index.column("first")), files.matrix(self._index.column("frames"))

    @cached_property
    def _values(self) -> dict[int, NDArray[np.float16]]:
        return {}  # of the shards that were read from so far

    @property
    def utterances(self) -> pa.StringArray:
        """The ids of the utterances that have features, sorted; an id's place is its position."""
        return self._index.column("utterance")

    def positions(self, utterances: Sequence[str]) -> NDArray[np.int64]:
        """Positions `(n,)` of utterances. Raises EmodartsError for one without features."""
        ids = pa.array(utterances, pa.string())
        indices = pc.index_in(ids, value_set=self.utterances)
        if indices.null_count:
            missing = ids.filter(pc.is_null(indices))[0]
            raise EmodartsError(
                f"{self.folder}: no features of {missing} ({indices.null_count} utterances have none); build the store "
                "again, or see what was dropped"
            )
        positions: NDArray[np.int64] = indices.to_numpy().astype(np.int64)
        return positions

    def lengths(self, positions: NDArray[np.int64] | Sequence[int], variant: int = 0) -> NDArray[np.int32]:
        """Numbers of frames `(n,)` of a variant of the utterances at these positions."""
        return self._places[2][np.asarray(positions, np.int64), variant]

    def read(self, position: int, variant: int = 0) -> NDArray[np.float16]:
        """Frames `(time, channels * bins)` of a variant of the utterance at a position, a view of the memory map."""
        shards, firsts, frames = self._places
        number, first, count = shards.item(position), firsts.item(position, variant), frames.item(position, variant)
        values = self._values.get(number)
        if values is None:
            values = self._values[number] = files.shard_values(files.map_table(self.folder / shard_name(number)))
        width = self.channels * self.bins
        return values[first : first + count * width].reshape(count, width)

    def frames(self, utterance: str, variant: int = 0) -> NDArray[np.float16]:
        """As `read`, by id; for a few utterances."""
        return self.read(int(self.positions([utterance])[0]), variant)

    def measures(self) -> pa.Table:
        """What was measured of each recording (schema MEASURES), in the order of the positions."""
        return pa.table({field.name: self._index.column(field.name) for field in MEASURES}, MEASURES)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_store, (self.folder,)  # a copy in another process maps the same files


def open_store(folder: Path) -> Store:
    """Open a complete store. Raises EmodartsError for a missing, unfinished, damaged or other-version one."""
    try:
        description = json.loads((folder / STORE_JSON).read_text())
        version = description.get("schema_version")
    except (OSError, ValueError, AttributeError) as error:
        raise EmodartsError(
            f"{folder} is no complete feature store ({error}); run `emodarts features`, or the sweep, again"
        ) from error
    files.check_version(version, folder)
    try:
        expected, dropped = description["files"], tuple(Dropped(**row) for row in description["dropped"])
        variants = tuple(Variant(speed, snr_db) for speed, snr_db in description["variants"])
        store = Store(folder, description["bins"], description["channels"], variants, dropped)
    except (KeyError, TypeError, ValueError) as error:
        raise EmodartsError(f"{folder / STORE_JSON} is damaged ({error!r}); run `emodarts features` again") from error
    _check_sizes(folder, expected)
    return store


def store_fault(folder: Path) -> str | None:
    """Why the store in a folder cannot be opened (missing, unfinished, damaged, of another version), or None."""
    try:
        open_store(folder)
    except EmodartsError as error:
        return str(error)
    return None


def _check_sizes(folder: Path, expected: dict[str, int]) -> None:
    with os.scandir(folder) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if entry.name in expected}
    for name, size in expected.items():
        if sizes.get(name) != size:
            has = f"has {sizes[name]} bytes, not {size}" if name in sizes else "is missing"
            raise EmodartsError(
                f"{folder / name} {has}; run `emodarts features`, or the sweep, again to mend the store"
            )
