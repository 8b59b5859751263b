"""Predictions utterance by utterance: those of systems' winners with probabilities, and what is known of utterances."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from emodarts.report.comparisons import ComparedSystem, Comparison
from emodarts.report.report_data import UNKNOWN, EvaluationPart, ReportData, SystemResults
from emodarts.results.statistics import fit_temperature, with_temperature

_COLUMNS = ["system", "study", "trial", "seed", "fold", "role", "test_set", "normalisation"]
_VALUES = ["utterance", "speaker", "label", "probabilities"]
UtteranceFacts = Mapping[str, Any]  # a row of the table `utterances`


@dataclass(frozen=True)
class PartPredictions:
    """A system's predictions of the labelled utterances of a part, a row a fold's utterance.

    `folds`, `labels (rows,)` (class indices), `probabilities (seeds, rows, classes)`, of the seeds that every fold has.
    """

    utterances: tuple[str, ...]
    speakers: tuple[str, ...]
    folds: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """The mean of the seeds' probabilities `(rows, classes)`."""
        return np.asarray(self.probabilities.mean(0))


@dataclass(frozen=True)
class SystemPredictions:
    """A compared system's predictions of the test part, and of dev (None where the protocol has no dev part)."""

    system: ComparedSystem
    test: PartPredictions
    dev: PartPredictions | None

    @property
    def name(self) -> str:
        """As the comparison has it."""
        return self.system.name

    @cached_property
    def temperatures(self) -> dict[tuple[int, int], float]:
        """(Place of the seed, fold) -> the temperature that suits dev there; the fold's test part has no say."""
        dev = self.dev
        if dev is None:
            return {}
        seeds = range(min(len(dev.probabilities), len(self.test.probabilities)))
        places = {fold: np.flatnonzero(dev.folds == fold) for fold in np.unique(dev.folds).tolist()}
        return {
            (seed, fold): fit_temperature(dev.labels[rows], dev.probabilities[seed, rows])
            for seed in seeds
            for fold, rows in places.items()
        }

    @cached_property
    def calibrated(self) -> NDArray[np.float64] | None:
        """Test probabilities `(seeds, rows, classes)` at the temperatures of dev; None where a fold has no dev part."""
        scaled = np.empty_like(self.test.probabilities)
        for seed in range(len(scaled)):
            for fold in np.unique(self.test.folds).tolist():
                if (seed, fold) not in self.temperatures:
                    return None
                rows = self.test.folds == fold
                scaled[seed, rows] = with_temperature(
                    self.test.probabilities[seed, rows], self.temperatures[seed, fold]
                )
        return scaled


@dataclass(frozen=True)
class PredictedComparison:
    """A comparison with the predictions of its systems (ensembles left out), the reference first."""

    comparison: Comparison
    systems: tuple[SystemPredictions, ...]


def load_predictions(data: ReportData, comparisons: Sequence[Comparison]) -> list[PredictedComparison]:
    """The predictions behind some comparisons. Raises EmodartsError for files that are none."""
    of_systems: dict[int, dict[EvaluationPart, PartPredictions]] = {}
    predicted = []
    for comparison in comparisons:
        systems = []
        for system in (s for s in comparison.systems if not s.results.is_ensemble):
            if id(system.results) not in of_systems:
                of_systems[id(system.results)] = _read_system(data, system.results)
            parts = of_systems[id(system.results)]
            dev = next((parts[part] for part in system.results.parts("dev") if part in parts), None)
            systems.append(SystemPredictions(system, parts[system.part], dev))
        predicted.append(PredictedComparison(comparison, tuple(systems)))
    return predicted


def load_utterances(data: ReportData) -> dict[str, dict[str, UtteranceFacts]]:
    """Sweep -> utterance -> what its corpus says of it; nothing of sweeps of before there was such a table."""
    return {
        sweep.name: {row["utterance"]: row for row in sweep.table("utterances").to_pylist()}
        for sweep in data.results.parts
    }


def _read_system(data: ReportData, system: SystemResults) -> dict[EvaluationPart, PartPredictions]:
    (sweep,) = (part for part in data.results.parts if part.name == system.sweep)
    trials = {winner.key for winner in system.winners.values()}
    wanted = pc.field("role").isin(["dev", "test"]) & (pc.field("epoch_rule") == system.epoch_rule)
    where = wanted & (pc.field("stage") == "final") & pc.field("label").is_valid() & pc.field("target").is_null()
    columns = [*_COLUMNS, *_VALUES]
    pieces = list(sweep.read_trials("predictions", trials, columns, where & pc.field("condition").is_null()))
    of_units: dict[EvaluationPart, dict[tuple[int, int], pa.Table]] = defaultdict(dict)
    for piece in (piece for piece in pieces if len(piece)):
        numbered = piece.select(_COLUMNS).append_column("row", pa.array(np.arange(len(piece))))
        for group in numbered.group_by(_COLUMNS, use_threads=False).aggregate([("row", "list")]).to_pylist():
            if (group["fold"] in system.winners) and system.winners[group["fold"]].trial == group["trial"]:
                of_units[EvaluationPart.of(group)][group["fold"], group["seed"]] = piece.take(sorted(group["row_list"]))
    return {
        part: _stack(system, part, of_units[part])
        for part in system.tallies
        if part in of_units and part.role != "cross"
    }


def _stack(system: SystemResults, part: EvaluationPart, units: dict[tuple[int, int], pa.Table]) -> PartPredictions:
    """Folds below each other, seeds behind each other."""
    folds, n_classes = system.folds_of(part), len(system.classes)
    by_seed = [[units[fold, seed].sort_by("utterance") for fold in folds] for seed in system.seeds(part)]
    first = pa.concat_tables(by_seed[0])
    flat = [np.asarray(pc.list_flatten(pa.concat_tables(tables)["probabilities"])) for tables in by_seed]
    return PartPredictions(
        tuple(first["utterance"].to_pylist()),
        tuple(speaker or UNKNOWN for speaker in first["speaker"].to_pylist()),
        np.repeat(folds, [len(table) for table in by_seed[0]]),
        np.asarray(pc.index_in(first["label"], pa.array(system.classes)).to_numpy(), np.int64),
        np.stack(flat).astype(np.float64).reshape(len(flat), -1, n_classes),
    )
