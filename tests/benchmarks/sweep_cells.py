"""What benchmarks that are tables of ordinary sweeps share: the features of a cell, and running what is missing."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
ENCODERS = {"tiny.en": "whisper-tiny.en", "base": "whisper-base"}
FRAMES_PER_SECOND = 25


@dataclass(frozen=True)
class Condition:
    """Features, and whose statistics standardise them."""

    features: str
    normalisation: str

    @property
    def title(self) -> str:
        """As the table has it."""
        return f"{'log-mel' if self.features == 'log_mel' else f'whisper-{self.features}'}, {self.normalisation}"

    @property
    def name(self) -> str:
        """As names of sweeps and folders have it."""
        return f"{self.features.replace('.', '_')}-{self.normalisation}"

    def settings(self, encoders: str | None) -> list[str]:
        """Overrides of the sweep; without a folder of encoders they are named as their library's cache has them."""
        by = [f"features.normalisation={self.normalisation}"]
        if self.features == "log_mel":
            return by
        name = ENCODERS[self.features]
        model = f"openai/{name}" if encoders is None else Path(encoders).resolve() / name
        return ["features=whisper", f"features.model={model}", f"features.frames_per_second={FRAMES_PER_SECOND}", *by]


@dataclass(frozen=True)
class Cell:
    """One sweep of a table: its name, what is said behind `sweeps/run.py`, its results and its log."""

    name: str
    overrides: tuple[str, ...]
    results: Path
    log: Path


RunCell = Callable[[Cell, float | None], int]  # (cell, hours left) -> exit code


def run_in_process_of_its_own(cell: Cell, hours: float | None) -> int:
    """Run a sweep, or go on with it, by the command itself; its exit code."""
    budget = [] if hours is None else [f"sweep.time_budget_hours={hours:.3f}"]
    own = [f"sweep.name={cell.name}", f"results={cell.results.resolve()}", "ray.address=none"]
    command = [sys.executable, str(TREE / "sweeps" / "run.py"), *cell.overrides, *own, *budget]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TREE)}
    cell.results.mkdir(parents=True, exist_ok=True)
    with cell.log.open("a") as log:
        return subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False).returncode


def run_cells(cells: Sequence[Cell], minutes: float | None, run: RunCell = run_in_process_of_its_own) -> int:
    """The sweeps that are missing, one after the other; 0 where all are finished."""
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    for number, cell in enumerate(cells):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left < 60:
            print(f"time is over: {len(cells) - number} sweeps are not finished; the same command goes on")
            return 1
        print(f"{cell.name}: {number + 1} of {len(cells)}", flush=True)
        code = run(cell, None if left is None else left / 3600)
        if code:
            log = cell.log.read_text(errors="replace").splitlines() if cell.log.exists() else []
            print(*[line for line in log if line.startswith("error: ")][-1:], sep="\n")
            print(f"ended with {code}, see {cell.log}; the same command goes on")
            return code
    print("all sweeps are finished")
    return 0
