"""What Ray Tune asks while units run: whether one is to be pruned, and what became of a worker that died.

Nothing is kept here: the studies decide, and write it down first.
"""

from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from emodarts.errors import EmodartsError
from emodarts.records import EpochRecord
from emodarts.storage import StorageError
from sweeps.units.system_queues import SystemQueues
from sweeps.units.unit import Unit

DEATHS = 3  # of a unit's workers, then it has failed
_REASON = 400  # characters


class UnitScheduler(FIFOScheduler):
    """First come, first served; a unit that comes to a rung goes on or is pruned as the studies say."""

    def __init__(self, systems: SystemQueues):
        super().__init__()
        self.systems = systems

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """CONTINUE, or STOP for a pruned unit, whose worker then hears of it at its next report."""
        if "rung" not in result:
            return TrialScheduler.CONTINUE
        epochs = tuple(EpochRecord(**record) for record in result["epochs"])
        try:
            pruned = self.systems.rung(unit_of(trial), result["rung"], epochs)
        except EmodartsError as error:
            self.systems.stop(str(error))
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP if pruned else TrialScheduler.CONTINUE

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a snapshot of its scheduler; there is nothing to keep


class WorkerFailureCallback(tune.Callback):
    """Counts what was begun again, and ends what died for good."""

    def __init__(self, systems: SystemQueues):
        self.systems = systems

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A unit's worker died, or its node; Tune begins it again."""
        self._told(lambda: self.systems.restarted(unit_of(trial)))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A unit's workers died again and again. Where the results cannot be written it is not the unit's failure."""
        unit, text = unit_of(trial), _last_error(trial)
        if StorageError.__name__ in text:
            self.systems.stop(_reason(text))
        if self.systems.stopped:  # then workers are killed with the experiment, too
            self.systems.give_back(unit)
            return
        reason = f"its worker died {DEATHS} times (out of memory? a lost node?): {_reason(text)}"
        self._told(lambda: self.systems.died(unit, reason))

    def _told(self, tell: Any) -> None:
        try:
            tell()
        except EmodartsError as error:
            self.systems.stop(str(error))

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StopWithStudies(tune.Stopper):
    """Ends the experiment as soon as the studies are stopped: what runs is taken up at the next start."""

    def __init__(self, systems: SystemQueues):
        self.systems = systems

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No unit is stopped alone."""
        return False

    def stop_all(self) -> bool:
        """Whether the studies are stopped."""
        return self.systems.stopped is not None

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _last_error(trial: Any) -> str:
    """The text of the last of a trial's failures; Tune appends them to a file, which it copies away later."""
    try:
        return Path(trial.error_file).read_text(errors="replace").rpartition("Failure # ")[2]
    except (OSError, TypeError):
        return ""


def _reason(text: str) -> str:
    """The line of a traceback that says what happened."""
    return (text.strip().splitlines() or ["no reason is known"])[-1][:_REASON]


def unit_of(trial: Any) -> Unit:
    """The unit that a Tune trial runs."""
    unit = dict(trial.config["unit"])
    return Unit(**{**unit, "rungs": tuple((phase, share) for phase, share in unit["rungs"])})
