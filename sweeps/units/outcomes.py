"""How units ended, and the names of units within a system."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from emodarts.experiment.fold_settings import SEARCHED
from emodarts.records import TrialRecord, UnitKey
from emodarts.results.commits import Commit

ENDED = ("complete", "pruned", "failed")


class UnitId(NamedTuple):
    """What names a unit within its system."""

    study: str
    trial: int
    seed: int
    fold: int
    inner: int | None = None


@dataclass(frozen=True)
class UnitOutcome:
    """How a unit ended: status {complete, pruned, failed}; dev UAR, parameters and macs (of the network), and
    what else it may be chosen by, if complete.

    `attempt`: that of its commit; `tracker_errors`: why trackers were given up, by their names.
    """

    status: str
    dev_uar: float | None = None
    parameters: int | None = None
    reason: str | None = None
    macs: int | None = None
    choices: Mapping[str, float] = field(default_factory=dict)
    attempt: str | None = None
    tracker_errors: Mapping[str, str] | None = None

    @classmethod
    def of_commit(cls, commit: Commit) -> "UnitOutcome":
        """The outcome that a unit's commit holds."""
        figures = (commit.dev_uar, commit.parameters, commit.reason, commit.macs, commit.choices)
        return cls(commit.status, *figures, commit.attempt)

    def commit_of(self, key: UnitKey) -> Commit | None:
        """The reverse of `of_commit`; None: the outcome names no attempt."""
        if self.attempt is None:
            return None
        figures = (self.reason, self.dev_uar, self.parameters, self.macs, dict(self.choices))
        return Commit(key, self.attempt, self.status, *figures)

    @classmethod
    def of_report(cls, report: Mapping[str, Any] | None) -> "UnitOutcome | None":
        """The outcome that a worker reported last; None: it has not come to the unit's end."""
        if report is None or report.get("status") not in ENDED:
            return None
        return cls(**{declared.name: report[declared.name] for declared in fields(cls) if declared.name in report})


def unit_id(key: UnitKey) -> UnitId:
    """What names a unit within its system."""
    return UnitId(key.study, key.trial, key.seed, key.fold, key.inner)


def unit_ids(trial: TrialRecord, folds: tuple[int, ...], inner: int = 0) -> list[UnitId]:
    """The units of a configuration on some folds, or on so many inner splits of each."""
    splits = range(inner) if inner else (None,)
    return [UnitId(trial.study, trial.trial, trial.seed, fold, split) for fold in folds for split in splits]


def unit_title(key: UnitKey) -> str:
    """The name of a unit for people: `trial 12 · fold 3`, before it the system if it is none of the search's."""
    system = "" if key.system == SEARCHED else f"{key.system} · "
    split = "" if key.inner is None else f" · split {key.inner}"
    return f"{system}trial {key.trial} · fold {key.fold}{split}" + (f" · seed {key.seed}" if key.seed else "")


def failure_reason(error: BaseException) -> str:
    """Why a unit failed, in a line: the error, and the file and line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
