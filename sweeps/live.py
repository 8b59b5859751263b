"""What one sees while a sweep runs: a live table in a terminal, plain lines elsewhere."""

import time
from typing import Any

from ray import tune
from rich.console import Console
from rich.live import Live
from rich.table import Table

from sweeps.studies import Studies


class LiveTable(tune.Callback):
    """Shows each study's progress; one line an ended unit where the output is no terminal."""

    def __init__(self, studies: Studies, console: Console):
        self.studies, self.console = studies, console
        self.live: Live | None = None
        self.begin = time.time()
        self.ended = 0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune snapshots its callbacks; there is nothing here to keep

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        """Tune begins."""
        if self.console.is_terminal:
            self.live = Live(get_renderable=self.table, console=self.console, refresh_per_second=1, transient=True)
            self.live.start()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A unit ended."""
        self._say(trial, trial.last_result or {})

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A unit's worker died for good."""
        self._say(trial, {"status": "failed", "reason": "its worker died again and again"})

    def close(self) -> None:
        """Take the live table away."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def table(self) -> Table:
        """Studies, configurations that ended, best dev UAR."""
        table = Table(title=f"{self._minutes():.1f} min, {self.ended} units ended, {len(self.studies.running)} running")
        for name, side in (("study", "left"), ("ended", "right"), ("of", "right"), ("best dev UAR", "right")):
            table.add_column(name, justify=side)  # type: ignore[arg-type]
        for study, trials in self.studies.trials.items():
            # Copied first: the table is drawn by another thread than the one that adds trials.
            ended = [t for (_, seed), t in list(trials.items()) if seed == 0 and t.status != "running"]
            best = max((t.values[0] for t in ended if t.values), default=None)
            told = "" if best is None else f"{best:.3f}"
            table.add_row(study, str(len(ended)), str(self.studies.settings.trials), told)
        return table

    def _say(self, trial: Any, result: dict[str, Any]) -> None:
        self.ended += 1
        if self.live is not None:
            return
        unit = trial.config["unit"]
        told = (
            f"dev UAR {result['dev_uar']:.3f}"
            if result.get("dev_uar") is not None
            else f"{result.get('status')}: {result.get('reason')}"
        )
        name = f"trial {unit['trial']} · fold {unit['fold']}" + (f" · seed {unit['seed']}" if unit["seed"] else "")
        self.console.print(f"{self._minutes():6.1f} min  {name}  {told}", highlight=False, soft_wrap=True)

    def _minutes(self) -> float:
        return (time.time() - self.begin) / 60
