"""Units of work as the driver sees them: what is to run, and how it ended."""

from dataclasses import dataclass
from typing import Any

from emodarts.experiment.fold_data import SEARCHED
from emodarts.experiment.unit_spec import Rung
from emodarts.results.commits import Commit
from emodarts.results.reader import Results


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
class UnitOutcome:
    """How a unit ended: status {complete, pruned, failed}; dev UAR and parameters (of the network) if complete."""

    status: str
    dev_uar: float | None = None
    size: int | None = None
    reason: str | None = None


def outcomes_in(known: Results, system: str) -> dict[tuple[str, int, int, int], UnitOutcome]:
    """The outcome of each unit of a system that was committed."""
    mine = ((commit.key, outcome_of(commit)) for commit in known.commits if commit.key.system == system)
    return {(key.study, key.trial, key.seed, key.fold): outcome for key, outcome in mine}


def outcome_of(commit: Commit) -> UnitOutcome:
    """The outcome of one unit, by its commit."""
    return UnitOutcome(commit.status, commit.dev_uar, commit.parameters, commit.reason)


def unit_name(unit: dict[str, Any]) -> str:
    """The name of a unit that people read: `trial 12 · fold 3`, before it the system if it is none of the search's."""
    system = "" if unit["system"] == SEARCHED else f"{unit['system']} · "
    return f"{system}trial {unit['trial']} · fold {unit['fold']}" + (f" · seed {unit['seed']}" if unit["seed"] else "")
