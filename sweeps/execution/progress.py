"""What one sees while a sweep runs: a live table in a terminal, plain lines elsewhere."""

import time
from dataclasses import asdict
from typing import Any

from ray import tune
from rich.console import Console
from rich.live import Live
from rich.table import Table

from emodarts.experiment.fold_data import SEARCHED
from sweeps.execution.metrics import SweepMetrics
from sweeps.execution.scheduler import unit_of
from sweeps.units.system_queues import SystemQueues
from sweeps.units.unit import Unit, unit_name

_EVERY = 5.0  # s between two tellings of the numbers


class ProgressTable(tune.Callback):
    """Shows each study's progress; one line an ended unit where the output is no terminal."""

    def __init__(self, systems: SystemQueues, console: Console, sweep: str):
        self.systems, self.console = systems, console
        self.telemetry = SweepMetrics(sweep)
        self.before = systems.units_ended
        self.live: Live | None = None
        self.begin = time.time()
        self.told = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune snapshots its callbacks; there is nothing here to keep

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        """Tune begins."""
        waiting = self.systems.units_total - self.before
        self.console.print(f"{waiting} units to run; each is told of when it ends", highlight=False)
        if self.console.is_terminal:
            self.live = Live(get_renderable=self.table, console=self.console, refresh_per_second=1, transient=True)
            self.live.start()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A unit ended."""
        self.ended(unit_of(trial), trial.last_result or {})

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A unit's worker died for good."""
        outcome = self.systems.outcome(unit := unit_of(trial))
        self._line(unit, f"failed: {outcome.reason}" if outcome else "stopped: it waits for the next start")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A unit's worker died, and the unit is begun again."""
        self._line(unit_of(trial), "its worker died; it goes on from its last epoch")

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tell the cluster's metrics the present numbers, now and then."""
        if time.time() - self.told > _EVERY:
            self.told = time.time()
            for studies in self.systems:
                ended, running = studies.units_ended, len(studies.running)
                self.telemetry.tell(studies.system, ended, running, studies.units_total)

    def ended(self, unit: Unit, result: dict[str, Any]) -> None:
        """A unit ended, and this is the last that it reported."""
        if result.get("status") == "running":
            self._line(unit, "pruned")
        elif result.get("dev_uar") is not None:
            self._line(unit, f"dev UAR {result['dev_uar']:.3f}")
        elif result.get("status") == "complete":
            self._line(unit, "ended")  # a fold without dev part
        elif result:
            self._line(unit, f"{result.get('status')}: {result.get('reason')}")

    def close(self) -> None:
        """Take the live table away."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def table(self) -> Table:
        """Studies, configurations that ended, best dev UAR; units and the time that they will still take."""
        systems = self.systems
        told = (
            f"{self._minutes():.1f} min, {systems.units_ended} of {systems.units_total} units ended, "
            f"{len(systems.running)} running, {self._left()}"
        )
        table = Table(title=told)
        for name, side in (("study", "left"), ("ended", "right"), ("of", "right"), ("best dev UAR", "right")):
            table.add_column(name, justify=side)  # type: ignore[arg-type]
        several = len(systems.studies) > 1
        for studies in systems:
            for study, trials in studies.trials.items():
                # Copied first: the table is drawn by another thread than the one that adds trials.
                ended = [t for (_, seed), t in list(trials.items()) if seed == 0 and t.status != "running"]
                best = max((t.values[0] for t in ended if t.values), default=None)
                shown = "" if best is None else f"{best:.3f}"
                name = f"{studies.system} · {study}" if several else study
                table.add_row(name, str(len(ended)), str(studies.settings.trials), shown)
        return table

    def _left(self) -> str:
        ended = self.systems.units_ended - self.before
        if ended == 0:
            return "time left is not known yet"
        left = (self.systems.units_total - self.systems.units_ended) * self._minutes() / ended
        return f"about {left:.0f} min left"

    def _line(self, unit: Unit, told: str) -> None:
        if self.live is None:
            name = unit_name(asdict(unit))
            if len(self.systems.studies) > 1 and unit.system == SEARCHED:
                name = f"{SEARCHED} · {name}"  # beside others, which are named
            self.console.print(f"{self._minutes():6.1f} min  {name}  {told}", highlight=False, soft_wrap=True)

    def _minutes(self) -> float:
        return (time.time() - self.begin) / 60
