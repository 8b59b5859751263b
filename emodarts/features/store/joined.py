"""Several feature stores as one: what trains on several corpora reads each where it lies, and nothing is copied."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from emodarts.errors import EmodartsError
from emodarts.features.settings import Variant
from emodarts.features.store.store import Store


@dataclass(frozen=True)
class JoinedStore:
    """Stores of different corpora, one behind the other: the positions of the second go on where the first ends.

    Raises EmodartsError for none, and for stores whose frames are not alike (bins, channels, variants).
    """

    stores: tuple[Store, ...]

    def __post_init__(self) -> None:
        if not self.stores:
            raise EmodartsError("no feature stores to join: give one or more")
        first = self.stores[0]
        for store in self.stores[1:]:
            if _kind(store) != _kind(first):
                raise EmodartsError(
                    f"{first.folder} and {store.folder} hold different features and cannot be joined: build both with "
                    "the same settings"
                )

    @property
    def bins(self) -> int:
        """Values of a frame in each channel."""
        return self.stores[0].bins

    @property
    def channels(self) -> int:
        """Channels of a frame."""
        return self.stores[0].channels

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The copies of each utterance; the first is the recording."""
        return self.stores[0].variants

    @cached_property
    def _firsts(self) -> list[int]:
        """The position of each store's first utterance."""
        sizes = [len(store.utterances) for store in self.stores[:-1]]
        return [0, *np.cumsum(sizes, dtype=np.int64).tolist()]

    @property
    def utterances(self) -> pa.ChunkedArray:
        """The ids of the utterances in the order of their positions, one chunk a store."""
        return pa.chunked_array([store.utterances for store in self.stores])

    def positions(self, utterances: Sequence[str]) -> NDArray[np.int64]:
        """Positions `(n,)` of utterances. Raises EmodartsError for one without features."""
        ids = pa.array(utterances, pa.string())
        positions = np.full(len(ids), -1, np.int64)
        for first, store in zip(self._firsts, self.stores, strict=True):
            within = pc.index_in(ids, value_set=store.utterances).fill_null(-1).to_numpy(zero_copy_only=False)
            positions[within >= 0] = first + within[within >= 0]
        missing = np.flatnonzero(positions < 0)
        if len(missing):
            folders = ", ".join(str(store.folder) for store in self.stores)
            raise EmodartsError(
                f"{folders}: no features of {ids[missing[0]]} ({len(missing)} utterances have none); build the "
                "stores again, or see what was dropped"
            )
        return positions

    def lengths(self, positions: NDArray[np.int64] | Sequence[int], variant: int = 0) -> NDArray[np.int32]:
        """Numbers of frames `(n,)` of a variant of the utterances at these positions."""
        rows = np.asarray(positions, np.int64)
        numbers = np.searchsorted(self._firsts, rows, side="right") - 1
        lengths = np.zeros(len(rows), np.int32)
        for number, store in enumerate(self.stores):
            within = numbers == number
            lengths[within] = store.lengths(rows[within] - self._firsts[number], variant)
        return lengths

    def read(self, position: int, variant: int = 0) -> NDArray[np.float16]:
        """Frames `(time, channels * bins)` of a variant of the utterance at a position, a view of the memory map."""
        number = bisect_right(self._firsts, position) - 1
        return self.stores[number].read(position - self._firsts[number], variant)

    def measures(self) -> pa.Table:
        """What was measured of each recording (schema MEASURES), in the order of the positions."""
        return pa.concat_tables([store.measures() for store in self.stores])


AnyStore = Store | JoinedStore  # what batches are made of


def join_stores(stores: Sequence[Store]) -> AnyStore:
    """The stores as one; a single store is itself. Raises EmodartsError for stores that are not alike."""
    return stores[0] if len(stores) == 1 else JoinedStore(tuple(stores))


def _kind(store: Store) -> tuple[int, int, tuple[Variant, ...]]:
    return store.bins, store.channels, store.variants
