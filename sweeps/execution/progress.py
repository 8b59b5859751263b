"""What a console shows while a sweep runs: a live table in a terminal, plain lines elsewhere."""

import time
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from rich.console import Console
from rich.live import Live
from rich.table import Table

from emodarts.console import print_line
from emodarts.experiment.fold_data import SEARCHED
from emodarts.experiment.unit_spec import UnitSpec
from sweeps.execution.metrics import SweepMetrics
from sweeps.execution.tune_hooks import Stateless, unit_of
from sweeps.units.outcomes import UnitOutcome, unit_title
from sweeps.units.system_queues import SystemQueues

_METRICS_INTERVAL = 5.0  # s


class ProgressTable(Stateless, tune.Callback):
    """Shows each study's progress; one line an ended unit where the output is no terminal."""

    def __init__(self, queues: SystemQueues, console: Console, sweep: str):
        self.queues, self.console = queues, console
        self.metrics = SweepMetrics(sweep)
        self.ended_before = queues.units_ended
        self.live: Live | None = None
        self.start = time.time()
        self.metrics_set_at = 0.0

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        """Tune begins."""
        waiting = self.queues.units_total - self.ended_before
        self.console.print(f"{waiting} units to run; each is told of when it ends", highlight=False)
        if self.console.is_terminal:
            self.live = Live(get_renderable=self.table, console=self.console, refresh_per_second=1, transient=True)
            self.live.start()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A unit ended, or was stopped with the experiment."""
        self.on_unit_end(unit_of(trial))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A unit's workers died for good."""
        unit = unit_of(trial)
        if self.queues.outcome_of(unit) is None:
            self._print(unit, "stopped: it waits for the next start")
        self.on_unit_end(unit)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A unit's worker died, and the unit is begun again."""
        self._print(unit_of(trial), "its worker died; it goes on from its last epoch")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Set the sweep's metrics, now and then."""
        if time.time() - self.metrics_set_at > _METRICS_INTERVAL:
            self.metrics_set_at = time.time()
            for queue in self.queues:
                self.metrics.set_units(queue.system, queue.units_ended, len(queue.running), queue.units_total)

    def on_unit_end(self, unit: UnitSpec) -> None:
        """Print how a unit ended, if it has."""
        outcome = self.queues.outcome_of(unit)
        if outcome is not None:
            self._print(unit, _describe(outcome))

    def close(self) -> None:
        """Take the live table away."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def table(self) -> Table:
        """Studies, configurations that ended, best dev UAR; units and the time that they will still take."""
        queues = self.queues
        table = Table(
            title=f"{self._minutes():.1f} min, {queues.units_ended} of {queues.units_total} units ended, "
            f"{queues.running_count} running, {self._time_left()}"
        )
        table.add_column("study")
        for name in ("ended", "of", "best dev UAR"):
            table.add_column(name, justify="right")
        for queue in queues:
            for study, trials in queue.trials.items():
                # Copied first: the table is drawn by another thread than the one that adds trials.
                ended = [t for (_, seed), t in list(trials.items()) if seed == 0 and t.status != "running"]
                best = max((t.values[0] for t in ended if t.values), default=None)
                name = f"{queue.system} · {study}" if self._several_systems else study
                figure = "" if best is None else f"{best:.3f}"
                table.add_row(name, str(len(ended)), str(queue.settings.trials), figure)
        return table

    @property
    def _several_systems(self) -> bool:
        return len(self.queues.by_system) > 1

    def _time_left(self) -> str:
        ended = self.queues.units_ended - self.ended_before
        if ended == 0:
            return "time left is not known yet"
        left = (self.queues.units_total - self.queues.units_ended) * self._minutes() / ended
        return f"about {left:.0f} min left"

    def _print(self, unit: UnitSpec, event: str) -> None:
        if self.live is None:
            title = unit_title(unit.key)
            if self._several_systems and unit.key.system == SEARCHED:
                title = f"{SEARCHED} · {title}"  # beside others, whose titles name them
            print_line(self.console, f"{self._minutes():6.1f} min  {title}  {event}")

    def _minutes(self) -> float:
        return (time.time() - self.start) / 60


def _describe(outcome: UnitOutcome) -> str:
    if outcome.status == "failed":
        return f"failed: {outcome.reason}"
    if outcome.status == "complete":
        return "ended" if outcome.dev_uar is None else f"dev UAR {outcome.dev_uar:.3f}"  # None: a fold without dev part
    return outcome.status
