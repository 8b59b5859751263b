"""The epochs of a unit so far: metrics of each, and a report at each rung, where the driver may prune the unit."""

from collections.abc import Callable
from typing import Any

from emodarts.experiment.unit_spec import UnitSpec
from emodarts.records import EpochRecord
from sweeps.execution.metrics import UnitMetrics

Report = Callable[[dict[str, Any]], None]  # as `tune.report`


class EpochReporter:
    """Collects the epochs of a unit; `report` may raise SystemExit, and the unit is pruned then.

    A unit that goes on from a checkpoint passes its old epochs again, and reports the same rungs.
    """

    def __init__(self, unit: UnitSpec, metrics: UnitMetrics, report: Report):
        self.unit, self.metrics, self.report = unit, metrics, report
        self.reset()

    def reset(self) -> None:
        """The unit begins anew."""
        self.epochs: list[EpochRecord] = []
        self.rungs_ahead = list(enumerate(self.unit.rungs))

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Take an epoch. Raises SystemExit where the unit was pruned."""
        self.epochs.append(record)
        self.metrics.on_epoch_end(record)
        settings = self.unit.settings
        lengths = {"search": settings.search.epochs, "train": settings.training.epochs}
        for number, (phase, fraction) in tuple(self.rungs_ahead):
            if phase == record.phase and record.epoch + 1 >= fraction * lengths[phase]:
                self.rungs_ahead.remove((number, (phase, fraction)))
                epochs = tuple(self.epochs)
                self.report({"status": "running", "rung": number, "dev_uar": record.dev_uar, "epochs": epochs})
