"""Metrics for a cluster's dashboard and Prometheus, of units and of the sweep, and process titles of workers."""

from functools import lru_cache
from typing import Any

import ray
from ray._raylet import setproctitle  # type: ignore[attr-defined]  # Ray holds the title: no other library can set it
from ray.util.metrics import Counter, Gauge

from emodarts.records import EpochRecord

_TAGS = ("sweep", "system", "phase")


@lru_cache
def _unit_metrics() -> dict[str, Any]:
    # Once a process: a worker runs many units, and Ray refuses a second metric of one name.
    return {
        "dev_uar": Gauge("emodarts_dev_uar", "dev UAR of the last epoch of a worker's unit", tag_keys=_TAGS),
        "seconds": Gauge("emodarts_epoch_seconds", "seconds of the last epoch", tag_keys=_TAGS),
        "rate": Gauge("emodarts_utterances_per_second", "utterances of train a second", tag_keys=_TAGS),
        "epochs": Counter("emodarts_epochs", "epochs that ended", tag_keys=_TAGS),
        "ended": Counter("emodarts_units_ended", "units that ended", tag_keys=("sweep", "system", "status")),
    }


class UnitMetrics:
    """Those of a unit in its worker, by phase; `trial 12 · fold 3 · search` is the process's title."""

    def __init__(self, title: str, sweep: str, system: str, utterances: int):
        self.title, self.tags, self.utterances = title, {"sweep": sweep, "system": system}, utterances
        self.phase = ""
        self._set_title("begins")

    def on_epoch_end(self, record: EpochRecord) -> None:
        """An epoch ended."""
        if record.phase != self.phase:
            self.phase = record.phase
            self._set_title(record.phase)
        if ray.is_initialized():
            metrics, tags = _unit_metrics(), {**self.tags, "phase": record.phase}
            rate = self.utterances / record.seconds if record.seconds > 0 else None
            for name, value in (("dev_uar", record.dev_uar), ("seconds", record.seconds), ("rate", rate)):
                if value is not None:
                    metrics[name].set(value, tags)
            metrics["epochs"].inc(1, tags)

    def on_unit_end(self, status: str) -> None:
        """The unit ended."""
        self._set_title("ended")
        if ray.is_initialized():
            _unit_metrics()["ended"].inc(1, {**self.tags, "status": status})

    def _set_title(self, phase: str) -> None:
        if ray.is_initialized():
            setproctitle(f"ray::{self.title} · {phase}")


class SweepMetrics:
    """Those of the sweep, in its driver: how many units have ended, run, and wait."""

    def __init__(self, sweep: str):
        self.sweep = sweep
        self.units = Gauge("emodarts_units", "units by state", tag_keys=("sweep", "system", "state"))

    def set_units(self, system: str, ended: int, running: int, total: int) -> None:
        """Set the present numbers of a system."""
        tags = {"sweep": self.sweep, "system": system}
        for state, count in (("ended", ended), ("running", running), ("waiting", max(0, total - ended - running))):
            self.units.set(count, {**tags, "state": state})
