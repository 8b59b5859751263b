"""Which configuration of each study counts: the best on dev alone, by the first seed. The rule is `rank_on_dev`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from emodarts.results.constraints import Constraint, keeps_to
from emodarts.results.reader import Results, SweepTables

_STUDY = ["system", "study"]


def rank_on_dev(dev_uar: ArrayLike, parameters: ArrayLike, numbers: ArrayLike | None = None) -> NDArray[np.int64]:
    """Positions of configurations, the winner first: the highest UAR on dev, ties by fewer parameters of the network,
    then by the lower trial number (without `numbers`: the lower position).

    Each `(configurations,)`; NaN stands for what is not known, and comes last.
    """
    uar = np.asarray(dev_uar, np.float64)
    last = np.arange(len(uar)) if numbers is None else np.asarray(numbers)
    return np.lexsort((last, np.asarray(parameters, np.float64), -uar))


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
    """The winner of each study by `rank_on_dev`; a study without dev values (a published protocol's) has none."""
    chosen = (winner for sweep in results.parts for winner in first_of_studies(sweep, rank_configurations(sweep)))
    return tuple(winner for winner in chosen if winner.dev_uar is not None)


def rank_configurations(sweep: SweepTables) -> pa.Table:
    """The complete configurations of a sweep's studies, the best of each first (`rank_on_dev`).

    Columns `system, study, trial, value` (UAR on dev of the first seed, null where there is none) and `size`
    (parameters, mean over folds; null where a unit wrote none). `value` is null, too, where a network does not keep to
    the sweep's constraints: it is never chosen.
    """
    is_complete = (pc.field("status") == "complete") & (pc.field("seed") == 0)
    trials = sweep.table("trials", [*_STUDY, "trial", "values"], is_complete)
    first = pc.list_slice(trials["values"], 0, 1, return_fixed_size_list=True).combine_chunks()
    trials = trials.drop_columns("values").append_column("value", first.flatten())
    table = trials.join(network_costs(sweep, pc.field("seed") == 0), [*_STUDY, "trial"])
    table = _without_excess(table, [Constraint.parse(text) for text in sweep.settings.get("sweep.constraints", [])])
    table = table.take(rank_on_dev(*(table[name].to_numpy() for name in ("value", "size", "trial"))))
    return table.take(pc.sort_indices(table, [(name, "ascending") for name in _STUDY]))  # stable


def network_costs(sweep: SweepTables, where: pc.Expression | None = None) -> pa.Table:
    """Columns `system, study, trial, size, macs` of configurations: parameters and macs, means over their units.

    Of a configuration that was judged on inner splits over these alone, as the driver counts.
    """
    key = [*_STUDY, "trial"]
    units = sweep.table("folds", [*key, "inner", "parameters", "macs"], where, with_inner=True)
    units = units.set_column(3, "inner", pc.is_valid(units["inner"]))
    means = units.group_by([*key, "inner"]).aggregate([("parameters", "mean"), ("macs", "mean")])
    means = means.rename_columns([*key, "inner", "size", "macs"])
    judged = means.filter(means["inner"]).drop_columns("inner")
    others = means.filter(pc.invert(means["inner"])).drop_columns("inner")
    return pa.concat_tables([judged, others.join(judged, key, join_type="left anti")]) if len(judged) else others


def _without_excess(table: pa.Table, constraints: Sequence[Constraint]) -> pa.Table:
    """The table without the column `macs`, and without the values of what does not keep to the constraints."""
    costs = [{"parameters": row["size"] or 0, "macs": row["macs"] or 0} for row in table.to_pylist() if constraints]
    table = table.drop_columns("macs")
    if not constraints:
        return table
    is_kept = pa.array([keeps_to(constraints, cost) for cost in costs])
    values = pc.if_else(is_kept, table["value"], pa.scalar(None, pa.float64()))
    return table.set_column(table.column_names.index("value"), "value", values)


def first_of_studies(sweep: SweepTables, ranking: pa.Table) -> list[Winner]:
    """The winners of a sweep by its `rank_configurations`; the only configuration of a study needs no dev value."""
    firsts, counts = _groups(ranking)
    best = ranking.take(pa.array(firsts, pa.int64())).to_pylist()
    keys = [(row["system"], row["study"], row["trial"]) for row in best]
    parameters = _parameters(sweep, keys)
    chosen = []
    for key, value, count in zip(keys, (row["value"] for row in best), counts, strict=True):
        is_measured = value is not None and value == value
        if is_measured or count == 1:
            chosen.append(Winner(sweep.name, *key, value if is_measured else None, parameters[key], count))
    return chosen


def _groups(table: pa.Table) -> tuple[list[int], list[int]]:
    """Where each study of a sorted table begins, and how many rows it has."""
    if not len(table):
        return [], []
    changes = np.zeros(len(table), bool)
    changes[0] = True
    for name in _STUDY:
        codes = np.asarray(table[name].combine_chunks().dictionary_encode().indices)
        changes[1:] |= codes[1:] != codes[:-1]
    firsts = np.flatnonzero(changes)
    return firsts.tolist(), np.diff([*firsts, len(table)]).tolist()


def _parameters(sweep: SweepTables, keys: Sequence[tuple[str, str, int]]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Their hyperparameters, of configurations that are named by system, study and trial."""
    numbers = pa.array(sorted({trial for _, _, trial in keys}), pa.int32())
    where = (pc.field("seed") == 0) & pc.field("trial").isin(numbers)
    rows = sweep.table("trials", [*_STUDY, "trial", "parameters"], where).to_pylist()
    texts = {(row["system"], row["study"], row["trial"]): row["parameters"] for row in rows}
    return {key: json.loads(texts[key]) for key in keys}
