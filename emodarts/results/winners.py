"""Which configuration of each study counts: the best on dev alone, by the first seed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emodarts.results.reader import Results, SweepTables

_PLACE = ["system", "study"]


@dataclass(frozen=True)
class Winner:
    """A configuration that was chosen among `of` complete ones; `dev_uar` is what it was chosen by.

    That is None where nothing was measured on dev, and then there was nothing to choose.
    """

    sweep: str
    system: str
    study: str
    trial: int
    dev_uar: float | None
    parameters: dict[str, Any]
    of: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What names it within its sweep."""
        return self.system, self.study, self.trial


def winners(results: Results) -> tuple[Winner, ...]:
    """The winner of each study: highest dev value, then fewer parameters (mean over folds), then the lower number.

    A study without dev values, as that of a published protocol, has none.
    """
    found = (w for part, one in results.each() for w in winners_among(ranked(one), part, one))
    return tuple(w for w in found if w.dev_uar is not None)


def ranked(results: Results) -> pa.Table:
    """The complete configurations of one sweep's studies, the best of each first.

    Columns `system, study, trial, value` (of the first seed, null where there is none) and `size` (parameters, null
    where a unit wrote none).
    """
    wanted = (pc.field("status") == "complete") & (pc.field("seed") == 0)
    trials = results.table("trials", [*_PLACE, "trial", "values"], wanted)
    first = pc.list_slice(trials["values"], 0, 1, return_fixed_size_list=True).combine_chunks()
    trials = trials.drop_columns("values").append_column("value", first.flatten())
    units = results.table("folds", [*_PLACE, "trial", "parameters"], pc.field("seed") == 0)
    sizes = units.group_by([*_PLACE, "trial"]).aggregate([("parameters", "mean")])
    joined = trials.join(sizes.rename_columns([*_PLACE, "trial", "size"]), [*_PLACE, "trial"])
    keys = [(name, "ascending") for name in _PLACE]
    return joined.sort_by([*keys, ("value", "descending"), ("size", "ascending"), ("trial", "ascending")])


def winners_among(table: pa.Table, part: SweepTables, one: Results) -> Iterator[Winner]:
    """Those of one sweep, whose `ranked` table this is; the only configuration of a study needs no dev value."""
    firsts, counts = _groups(table)
    best = table.take(pa.array(firsts, pa.int64())).to_pylist()
    parameters = _parameters(one, [(row["system"], row["study"], row["trial"]) for row in best])
    for row, count in zip(best, counts, strict=True):
        key, value = (row["system"], row["study"], row["trial"]), row["value"]
        measured = value is not None and value == value
        if measured or count == 1:
            yield Winner(part.name, *key, value if measured else None, parameters[key], count)


def _groups(table: pa.Table) -> tuple[list[int], list[int]]:
    """Where each study of a sorted table begins, and how many rows it has."""
    if not len(table):
        return [], []
    changes = np.zeros(len(table), bool)
    changes[0] = True
    for name in _PLACE:
        codes = np.asarray(table[name].combine_chunks().dictionary_encode().indices)
        changes[1:] |= codes[1:] != codes[:-1]
    firsts = np.flatnonzero(changes)
    return firsts.tolist(), np.diff([*firsts, len(table)]).tolist()


def _parameters(one: Results, keys: list[tuple[str, str, int]]) -> dict[tuple[str, str, int], dict[str, Any]]:
    numbers = pa.array(sorted({trial for _, _, trial in keys}), pa.int32())
    where = (pc.field("seed") == 0) & pc.field("trial").isin(numbers)
    rows = one.table("trials", [*_PLACE, "trial", "parameters"], where).to_pylist()
    texts = {(row["system"], row["study"], row["trial"]): row["parameters"] for row in rows}
    return {key: json.loads(texts[key]) for key in keys}
