"""Units of work as the driver sees them: what is to run, and how it ended."""

from dataclasses import asdict, dataclass
from typing import Any

from emodarts.experiment import SEARCHED
from emodarts.results.commits import Commit, path_of, read_parquet
from emodarts.results.reader import Results
from emodarts.results.writer import SweepWriter
from sweeps.pruning import Rung

_FIGURES = ["system", "study", "trial", "seed", "fold", "uar", "parameters"]


@dataclass(frozen=True)
class Unit:
    """One unit of work: a configuration with a seed on a fold; `rungs`: where it is to report for pruning."""

    system: str
    study: str
    trial: int
    seed: int
    fold: int
    parameters: dict[str, Any]
    rungs: tuple[Rung, ...] = ()

    @property
    def key(self) -> tuple[str, int, int, int]:
        """What names it within its system."""
        return self.study, self.trial, self.seed, self.fold


@dataclass(frozen=True)
class Outcome:
    """How a unit ended: status {complete, pruned, failed}; dev UAR and parameters (of the network) if complete."""

    status: str
    dev_uar: float | None = None
    size: int | None = None
    reason: str | None = None


def outcomes_in(known: Results, system: str) -> dict[tuple[str, int, int, int], Outcome]:
    """The outcome of each unit of a system that was committed."""
    dev = {_key(row): row for row in known.figures("dev", "final", _FIGURES) if row["system"] == system}
    commits = [commit for commit in known.commits if commit.key.system == system]
    return {_key(asdict(c.key)): _outcome(c, dev.get(_key(asdict(c.key)))) for c in commits}


def outcome_of(writer: SweepWriter, commit: Commit) -> Outcome:
    """The outcome of one unit, by its commit."""
    if commit.status != "complete":
        return Outcome(commit.status, reason=commit.reason)
    path = path_of(commit.key.sweep, commit.key.name)
    rows = read_parquet(writer.storage.read(path), "folds", writer.storage.path(path)).to_pylist()
    return _outcome(commit, next((r for r in rows if r["role"] == "dev" and r["stage"] == "final"), None))


def _outcome(commit: Commit, dev: dict[str, Any] | None) -> Outcome:
    if dev is None:
        return Outcome(commit.status, reason=commit.reason)
    return Outcome(commit.status, dev["uar"], dev["parameters"], commit.reason)


def _key(row: dict[str, Any]) -> tuple[str, int, int, int]:
    return row["study"], row["trial"], row["seed"], row["fold"]


def unit_name(unit: dict[str, Any]) -> str:
    """The name of a unit that people read: `trial 12 · fold 3`, before it the system if it is none of the search's."""
    system = "" if unit["system"] == SEARCHED else f"{unit['system']} · "
    return f"{system}trial {unit['trial']} · fold {unit['fold']}" + (f" · seed {unit['seed']}" if unit["seed"] else "")
