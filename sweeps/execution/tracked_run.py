"""What trackers get of a unit: its run, its epochs, its end."""

import hashlib
import re
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from emodarts.experiment.unit_spec import UnitSpec
from emodarts.records import LATE_DEV, EpochRecord
from emodarts.results.commits import Commit
from emodarts.results.reader import SweepTables
from emodarts.storage import Storage
from sweeps.settings import flatten
from sweeps.units.outcomes import unit_title

_FIGURES = ("uar", "war", "macro_f1")


@dataclass(frozen=True)
class TrackedRun:
    """A unit as its trackers see it: `identity` is the same at all of its starts, `settings` have dotted names."""

    title: str  # as in Ray's dashboard
    sweep: str
    identity: str  # letters, digits and -
    settings: dict[str, Any]
    tags: dict[str, str]
    storage: Storage  # of the sweep

    @classmethod
    def of(cls, unit: UnitSpec, token: str, storage: Storage) -> "TrackedRun":
        """The run of a unit."""
        key = unit.key
        tags = {name: str(getattr(key, name)) for name in ("sweep", "system", "study", "trial", "seed", "fold")}
        digest = hashlib.sha256(key.name.encode()).hexdigest()[:12]
        settings = dict(flatten(asdict(unit.settings)))
        return cls(unit_title(key), key.sweep, f"{token}-{digest}", settings, tags, storage.below(key.sweep))


@dataclass(frozen=True)
class TrackedEnd:
    """How a unit ended, as its tables have it: figures by name, and genotypes as JSON and as pictures (PNG)."""

    status: str
    figures: dict[str, float]
    genotypes: dict[str, tuple[str, bytes]]

    @classmethod
    def of(cls, commit: Commit, storage: Storage) -> "TrackedEnd":
        """What was committed of a unit. Raises StorageError."""
        if commit.status != "complete":
            return cls(commit.status, {}, {})
        tables = SweepTables(storage, commit.key.sweep)
        rows = tables.read_unit("folds", commit).to_pylist()
        figures = {f"{_part(row)}/{name}": row[name] for row in rows for name in _FIGURES if row[name] is not None}
        costs = {name: rows[0][name] for name in ("parameters", "macs", "search_seconds", "train_seconds")}
        genotypes = tables.read_unit("genotypes", commit).to_pylist()
        names = ["genotype"] if len(genotypes) == 1 else [f"genotype-{number}" for number in range(len(genotypes))]
        drawn = {name: (row["genotype"], _draw(name, rows[0], row)) for name, row in zip(names, genotypes, strict=True)}
        return cls(commit.status, {**figures, **costs}, drawn)


def _part(row: dict[str, Any]) -> str:
    """What figures are of: `dev`, `test/emodb`, `cross/ravdess/train`; `supernet/dev`."""
    of_set = row["test_set"] if row["test_set"] != row["role"] else None
    by = row["normalisation"] if row["role"] == "cross" else None
    rule = row["epoch_rule"] if row["epoch_rule"] != LATE_DEV else None
    parts = ("supernet" if row["stage"] == "supernet" else None, row["role"], of_set, row["condition"], by, rule)
    return re.sub(r"[^\w\-. /]", "-", "/".join(filter(None, parts)))


def _draw(name: str, row: dict[str, Any], genotype_row: dict[str, Any]) -> bytes:
    """A picture (PNG) of the network of a row of `genotypes`, trained with the settings of a row of `folds`."""
    from emodarts.report.sections.networks import network_drawing, network_figure  # matplotlib, for its canvas

    drawing = network_drawing(row, genotype_row)
    assert drawing is not None, "a row of genotypes is always drawn"
    return network_figure(name, name, drawing).to_bytes("png")


class Tracker(Protocol):
    """A unit's run in one tracker, which goes on where the unit had one; what is logged twice counts once."""

    def log_epoch(self, number: int, values: dict[str, float], record: EpochRecord) -> None:
        """Take an epoch: `number` counts those of the unit from 0, and of a unit that goes on they come again."""

    def reset(self) -> None:
        """The unit begins anew: its epochs so far do not count."""

    def end(self, about: TrackedEnd) -> None:
        """Take the unit's end."""

    def close(self) -> None:
        """The unit was stopped before its end; it may go on elsewhere."""
