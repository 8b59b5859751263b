"""What an audit looks at, taken out of the tables once: lists and arrays in the order of the utterances."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emodarts.corpora.labels import Labels, label_source
from emodarts.corpora.settings import CorpusSettings
from emodarts.features.store.plan import seconds_of

_COLUMNS = ("speaker", "session", "recording", "gender", "scenario", "split", "text")
MEASURED = ("seconds", "leading_zeros", "trailing_zeros", "dc", "noise_floor", "peak", "clipped")


@dataclass(frozen=True)
class AuditData:
    """N utterances. `columns`: name -> N values, `word` among them; `classes`: N class names, None: not labelled.

    `measures`: name -> `(N,)`, NaN where a recording was not measured; `hashes`: of the decoded audio, None there.
    `seconds` `(N,)` comes from the headers.
    """

    ids: list[str]
    place: Mapping[str, int]
    columns: Mapping[str, list[str | None]]
    classes: list[str | None]
    seconds: NDArray[np.float64]
    measures: Mapping[str, NDArray[np.float64]]
    hashes: list[str | None]

    @classmethod
    def of(
        cls, utterances: pa.Table, labels: Labels | None, measures: pa.Table, settings: CorpusSettings
    ) -> "AuditData":
        """Align labels and measures (schema MEASURES; rows of other utterances are ignored) to the utterance table."""
        ids = utterances["utterance"].to_pylist()
        place = {utterance: row for row, utterance in enumerate(ids)}
        columns = {name: utterances[name].to_pylist() for name in _COLUMNS}
        columns["word"] = utterances[label_source(settings)].to_pylist()
        by_utterance = labels.by_utterance if labels else {}
        rows = np.array([place.get(utterance, -1) for utterance in measures["utterance"].to_pylist()], np.int64)
        known = rows >= 0
        aligned = {}
        for name in MEASURED:
            values = np.full(len(ids), np.nan)
            values[rows[known]] = measures[name].to_numpy(zero_copy_only=False).astype(np.float64)[known]
            aligned[name] = values
        hashes: list[str | None] = [None] * len(ids)
        for row, value in zip(rows, measures["audio_hash"].to_pylist(), strict=True):
            if row >= 0:
                hashes[row] = value
        classes = [by_utterance.get(utterance) for utterance in ids]
        return cls(ids, place, columns, classes, seconds_of(utterances), aligned, hashes)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """`(N,)`: whether the recording was decoded."""
        return ~np.isnan(self.measures["dc"])

    def silent(self) -> NDArray[np.bool_]:
        """`(N,)`: whether every sample is the same."""
        return self.measures["peak"] - np.abs(self.measures["dc"]) < 1e-6  # False where NaN


def examples(names: list[str]) -> tuple[str, ...]:
    """The first five, in order."""
    return tuple(sorted(names)[:5])
