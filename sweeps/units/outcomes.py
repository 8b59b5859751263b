"""How units ended, and the names of units within a system."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emodarts.experiment.fold_data import SEARCHED
from emodarts.records import TrialRecord, UnitKey
from emodarts.results.commits import Commit

UnitId = tuple[str, int, int, int]  # study, trial, seed and fold: what names a unit within its system
ENDED = ("complete", "pruned", "failed")


@dataclass(frozen=True)
class UnitOutcome:
    """How a unit ended: status {complete, pruned, failed}; dev UAR and parameters (of the network) if complete."""

    status: str
    dev_uar: float | None = None
    parameters: int | None = None
    reason: str | None = None

    @classmethod
    def of_commit(cls, commit: Commit) -> "UnitOutcome":
        """The outcome that a unit's commit holds."""
        return cls(commit.status, commit.dev_uar, commit.parameters, commit.reason)

    @classmethod
    def of_report(cls, report: Mapping[str, Any] | None) -> "UnitOutcome | None":
        """The outcome that a worker reported last; None: it has not come to the unit's end."""
        if report is None or report.get("status") not in ENDED:
            return None
        return cls(report["status"], report.get("dev_uar"), report.get("parameters"), report.get("reason"))


def unit_id(key: UnitKey) -> UnitId:
    """What names a unit within its system."""
    return key.study, key.trial, key.seed, key.fold


def unit_ids(trial: TrialRecord, folds: tuple[int, ...]) -> list[UnitId]:
    """The units of a configuration on some folds."""
    return [(trial.study, trial.trial, trial.seed, fold) for fold in folds]


def unit_title(key: UnitKey) -> str:
    """The name of a unit for people: `trial 12 · fold 3`, before it the system if it is none of the search's."""
    system = "" if key.system == SEARCHED else f"{key.system} · "
    return f"{system}trial {key.trial} · fold {key.fold}" + (f" · seed {key.seed}" if key.seed else "")


def failure_reason(error: BaseException) -> str:
    """Why a unit failed, in a line: the error, and the file and line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
