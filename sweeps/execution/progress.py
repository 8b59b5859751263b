"""What a console shows while a sweep runs: a live table in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from rich.console import Console
from rich.live import Live
from rich.table import Table

from emodarts.console import print_line
from emodarts.experiment.fold_settings import SEARCHED
from emodarts.experiment.unit_spec import UnitSpec
from sweeps.execution.faults import QUICK_FAULTS, SET_ASIDE_SECONDS
from sweeps.execution.metrics import SweepMetrics
from sweeps.execution.tracking import describe_failure
from sweeps.execution.tune_hooks import Stateless, unit_of
from sweeps.nodes.session import describe_waiting
from sweeps.units.outcomes import UnitOutcome, unit_title
from sweeps.units.system_queues import SystemQueues

_METRICS_INTERVAL = 5.0  # s
_LOOK_EVERY = 1.0  # s: Tune has all trials since its start, and a step for each of their events
_SAY_AFTER, _SAY_AGAIN = 30.0, 600.0  # s without a unit that runs


class ProgressTable(Stateless, tune.Callback):
    """Shows each study's progress; one line an ended unit where the output is no terminal."""

    def __init__(self, queues: SystemQueues, console: Console, sweep: str, clock: Callable[[], float] = time.time):
        self.queues, self.console, self.clock = queues, console, clock
        self.running_count = 0  # units that run, not those that wait for resources
        self.waiting_since: float | None = None
        self.waiting_said_at = 0.0
        self.metrics = SweepMetrics(sweep)
        self.ended_before = queues.units_ended
        self.live: Live | None = None
        self.start = clock()
        self.looked_at = self.metrics_set_at = 0.0
        self.trackers_given_up: set[str] = set()  # by name: each is said once

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
        """A unit was struck by its place."""
        unit = unit_of(trial)
        if self.queues.outcome_of(unit) is None:
            waits = "it waits for the next start" if self.queues.stopped else "it goes on from its last checkpoint"
            self._print(unit, f"its worker died, or could not go on; {waits}")
        self.on_unit_end(unit)

    def on_set_aside(self, place: str, reason: str) -> None:
        """A place struck several units in a row."""
        minutes = SET_ASIDE_SECONDS / 60
        text = f"{place} is set aside for {minutes:.0f} min: {QUICK_FAULTS} units in a row were struck there ({reason})"
        print_line(self.console, f"{self._minutes():6.1f} min  {text}")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Count what runs; say where nothing does, for want of resources. Set the sweep's metrics, now and then."""
        if self.clock() - self.looked_at < _LOOK_EVERY:
            return
        self.looked_at = self.clock()
        statuses = [trial.status for trial in trials]
        self.running_count = statuses.count(Trial.RUNNING)
        if self.running_count or Trial.PENDING not in statuses:
            self.waiting_since = None
        elif self.waiting_since is None:
            self.waiting_since, self.waiting_said_at = self.clock(), 0.0
        elif self.clock() - max(self.waiting_since + _SAY_AFTER - _SAY_AGAIN, self.waiting_said_at) >= _SAY_AGAIN:
            self.waiting_said_at = self.clock()
            pending = next(trial for trial in trials if trial.status == Trial.PENDING)
            resources = pending.placement_group_factory
            print_line(self.console, self._waiting_in_words(resources.required_resources if resources else {}))
        if self.clock() - self.metrics_set_at > _METRICS_INTERVAL:
            self.metrics_set_at = self.clock()
            for queue in self.queues:
                self.metrics.set_units(queue.system, queue.units_ended, len(queue.running), queue.units_total)

    def _waiting_in_words(self, requested: dict[str, float]) -> str:
        assert self.waiting_since is not None
        return f"{self._minutes():6.1f} min  {describe_waiting(requested, self.clock() - self.waiting_since)}"

    def on_unit_end(self, unit: UnitSpec) -> None:
        """Print how a unit ended, if it has."""
        outcome = self.queues.outcome_of(unit)
        if outcome is not None:
            self._print(unit, _describe(outcome))
            errors = outcome.tracker_errors or {}
            for name in errors.keys() - self.trackers_given_up:
                self.trackers_given_up.add(name)
                print_line(self.console, f"{self._minutes():6.1f} min  {describe_failure(name, errors[name])}")

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
            f"{self.running_count} running, {self._time_left()}"
            + ("" if self.waiting_since is None else "; waiting for resources")
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
        return (self.clock() - self.start) / 60


def _describe(outcome: UnitOutcome) -> str:
    if outcome.status == "failed":
        return f"failed: {outcome.reason}"
    if outcome.status == "complete":
        return "ended" if outcome.dev_uar is None else f"dev UAR {outcome.dev_uar:.3f}"  # None: a fold without dev part
    return outcome.status
