"""How long one waits for commands: a start with nothing to do, the first epoch, `--help`, a report, a comparison.

    python tests/benchmarks/waiting.py [--against COMMIT] [--rounds 3] [--quick] [--without-ray] [--only NAME ...]
        [--demo RESULTS]

Each in processes of their own, both trees in turns, on the demo corpus, whose features are extracted before; of each
the best round counts. `--demo`: results of `python sweeps/run.py` that are complete (else each tree runs it once).
Wall seconds, since that is what one waits, and CPU seconds of the command itself beside them, which other work on the
machine changes less. Last line: one JSON object, all `_s` wall seconds:
first_epoch_s = from the command until a worker has a search's first epoch behind it (its checkpoint is there)
noop_start_s  = the same command where the sweep is complete;   help_s = `--help`
report_s      = `emodarts report --html` of that sweep;         comparison_s = of a sweep of seven systems
and `*_cpu_s`; `*_imports`: these in units of those that `import torch` takes, which holds on other machines;
with --against the other tree's as `against_*`, and `*_ratio`, its CPU seconds over ours.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.compare_commits import WORKING_TREE, check_out

SWEEP = "waiting"
FIGURES = ("noop_start", "help", "report", "comparison", "first_epoch")
SHORT = ("sweep.trials=1", "sweep.folds=[0,1]", "search.epochs=4", "training.epochs=2")
SYSTEMS = ("emodarts", "emodarts:random_search:joint", "emodarts:random_architecture:joint", "cnn", "lstm", "svm")
SKILLS = dict(zip((*SYSTEMS, "cnn_lstm_attention"), (0.7, 0.66, 0.62, 0.6, 0.58, 0.55, 0.66), strict=True))
# By each tree's own writer: an older one cannot read what a newer one writes.
WRITE_COMPARISON = f"""
from tests.support.made_results import Made, write
write("seven", Made(skills={SKILLS}, folds=6, speakers=2, takes=4, seeds=3))
"""
PATIENCE = 900  # s until a command has failed


@dataclass(frozen=True)
class Tree:
    """A checkout, and a folder of its own for what its commands write."""

    name: str
    root: Path
    folder: Path

    def sweep(self, results: str, *overrides: str) -> list[str]:
        """The command of a sweep that searches, on the demo corpus."""
        own = ["system=emodarts", f"results={self.folder / results}"]
        return [str(self.root / "sweeps" / "run.py"), *own, *overrides]

    def report(self, results: Path) -> list[str]:
        """The command that writes the page of some results."""
        return ["-m", "emodarts.cli", "report", str(results), "--html", str(self.folder / "page.html")]

    def start(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        """Begin a command; what it prints goes to a file."""
        environment = {**os.environ, "PYTHONPATH": str(self.root), "EMODARTS_CACHE": str(self.folder / "cache")}
        with (self.folder / "output").open("wb") as output:
            command = [sys.executable, *arguments]
            return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=self.folder)

    def run(self, arguments: list[str]) -> tuple[float, float]:
        """Wall and CPU seconds of a command; ends the benchmark with what it printed where it fails."""
        begin = time.perf_counter()
        process = self.start(arguments)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        self.check(process)
        return seconds, usage.ru_utime + usage.ru_stime

    def check(self, process: subprocess.Popen[bytes]) -> None:
        """End the benchmark where a command has failed."""
        if process.returncode:
            printed = (self.folder / "output").read_text(errors="replace")[-3000:]
            sys.exit(f"{self.name}: {process.args} ended with {process.returncode}:\n{printed}")

    def first_epoch(self, overrides: tuple[str, ...]) -> float:
        """Seconds until the first epoch of a new sweep has ended; the sweep is then stopped."""
        results = self.folder / "stopped"
        shutil.rmtree(results, ignore_errors=True)
        begin = time.perf_counter()
        process = self.start(self.sweep("stopped", f"sweep.name={SWEEP}", *overrides))
        while not any((results / SWEEP / "checkpoints").glob("*/*.safetensors")):
            time.sleep(0.02)
            if process.poll() is not None or time.perf_counter() - begin > PATIENCE:
                process.kill()
                process.returncode = process.wait() or 1
                self.check(process)
        seconds = time.perf_counter() - begin
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        return seconds


def measure(trees: list[Tree], options: argparse.Namespace, overrides: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Tree -> figure -> the best seconds."""
    best: dict[str, dict[str, float]] = {tree.name: {} for tree in trees}

    def note(tree: Tree, name: str, seconds: float) -> None:
        best[tree.name][name] = min(seconds, best[tree.name].get(name, seconds))

    for tree in trees:  # the corpus and its features are there afterwards, and a sweep that is complete
        if options.demo is not None:
            shutil.copytree(options.demo, tree.folder / "results")
        tree.run(tree.sweep("results", *overrides))
        tree.run(["-c", WRITE_COMPARISON])
    for _ in range(options.rounds):
        for tree in trees:
            commands = {
                "noop_start": tree.sweep("results", *overrides),
                "help": [str(tree.root / "sweeps" / "run.py"), "--help"],
                "report": tree.report(tree.folder / "results"),
                "comparison": tree.report(tree.folder / "seven"),
            }
            for name in options.only:
                if name in commands:
                    wall, cpu = tree.run(commands[name])
                    note(tree, f"{name}_s", wall)
                    note(tree, f"{name}_cpu_s", cpu)
            note(tree, "torch_cpu_s", tree.run(["-c", "import torch"])[1])
            if "first_epoch" in options.only:
                note(tree, "first_epoch_s", tree.first_epoch(overrides))
            print(tree.name, {name: round(seconds, 2) for name, seconds in best[tree.name].items()}, flush=True)
    return best


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", help="another commit, measured in turns with the working tree")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a demo of two short units")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=FIGURES)
    parser.add_argument("--demo", type=Path, metavar="RESULTS", help="a complete demo sweep, so that none is run")
    parser.add_argument("--without-ray", action="store_true", help="ray.address=none: one process")
    options = parser.parse_args()
    overrides = (*(SHORT if options.quick else ()), *(("ray.address=none",) if options.without_ray else ()))
    with tempfile.TemporaryDirectory(prefix="waiting-") as temporary:
        folder = Path(temporary)
        trees = []
        for name, commit in (("here", WORKING_TREE), ("against", options.against)):
            if commit is not None:
                (folder / name).mkdir()
                trees.append(Tree(name, check_out(commit, folder / f"{name}-tree"), folder / name))
        best = measure(trees, options, overrides)
    here, against = best["here"], best.get("against", {})
    figures = {name: round(seconds, 2) for name, seconds in here.items()}
    figures |= {f"against_{name}": round(seconds, 2) for name, seconds in against.items()}
    names = [name for name in options.only if f"{name}_cpu_s" in here]
    figures |= {f"{name}_imports": round(here[f"{name}_cpu_s"] / here["torch_cpu_s"], 2) for name in names}
    if against:
        figures |= {f"{name}_ratio": round(against[f"{name}_cpu_s"] / here[f"{name}_cpu_s"], 2) for name in names}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
