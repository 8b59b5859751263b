"""Does a warm start help? Small sweeps of EmoDB, each with and without the trials of one of RAVDESS, on dev alone.

    export EMODARTS_CORPORA=...   # a folder with emodb/ and ravdess/
    python tests/benchmarks/warm_start.py run --encoders FOLDER [--minutes 60] [--results warm_start]
    python tests/benchmarks/warm_start.py table      # docs/warm_start.json, and docs/sweeps.md between its markers

FOLDER holds whisper-tiny.en/ in the layout of transformers. Three ordinary sweeps a row of the table: RAVDESS, then
EmoDB as it is (cold) and EmoDB with `sweep.warm_start` (warm), the same folds, numbers of trials and sampler (which is
named, since `auto` takes CMA-ES for networks without a warm start alone). Both sweeps of EmoDB begin with the preset's
own configuration, so that a pair differs from its second trial on. A run that was stopped goes on. Last line of
`table`: one JSON object, by row the best dev UAR of all trials, warm minus cold, mean over folds.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))

from tests.benchmarks.recorded_page import replace_between  # noqa: E402
from tests.benchmarks.sweep_cells import Cell, Condition, run_cells  # noqa: E402

PAGE, FIGURES = TREE / "docs" / "sweeps.md", TREE / "docs" / "warm_start.json"
BEGIN, END = "<!-- warm start -->", "<!-- end of warm start -->"
PRIOR, TUNED = ("ravdess", (0, 2, 4)), ("emodb", (0, 2, 4, 6, 8))
TRIALS = 6
AFTER = (2, 4, 6)  # trials
SAMPLERS = {"svm": "gp", "linear_probe": "gp", "cnn_lstm_attention": "tpe"}


@dataclass(frozen=True)
class Pair:
    """A row of the table: a system on features, warm against cold."""

    system: str
    condition: Condition

    @property
    def name(self) -> str:
        """As its sweeps are called."""
        return f"{self.system}-{self.condition.name}"

    @property
    def title(self) -> str:
        """As the table has it."""
        return f"`{self.system}`, {self.condition.title}"

    def cells(self, options: argparse.Namespace) -> list[Cell]:
        """The three sweeps."""
        results = Path(options.results)
        prior = results.resolve() / f"{self.name}-prior"
        made = [("prior", *PRIOR, []), ("cold", *TUNED, []), ("warm", *TUNED, [f"sweep.warm_start=[{prior}]"])]
        return [
            Cell(
                f"{self.name}-{what}",
                (
                    f"corpus={corpus}",
                    f"system={self.system}",
                    f"sweep.folds=[{','.join(map(str, folds))}]",
                    f"sweep.trials={TRIALS}",
                    f"sweep.sampler={SAMPLERS[self.system]}",
                    *self.condition.settings(options.encoders),
                    *more,
                ),
                results,
                results / "log.txt",
            )
            for what, corpus, folds, more in made
        ]


_CONDITIONS = (Condition("log_mel", "train"), Condition("log_mel", "speaker"), Condition("tiny.en", "speaker"))
PAIRS = [Pair(system, condition) for condition in _CONDITIONS for system in ("svm", "linear_probe")]
PAIRS.append(Pair("cnn_lstm_attention", Condition("tiny.en", "speaker")))


def run(options: argparse.Namespace) -> int:
    """The sweeps that are missing, one after the other; 0 where all are finished."""
    return run_cells([cell for pair in PAIRS for cell in pair.cells(options)], options.minutes)


def best_after(dev: Sequence[float]) -> list[float]:
    """The best dev UAR of a study after so many of its trials (`AFTER`)."""
    return [max(dev[:count]) for count in AFTER]


def read_studies(results: str, sweep: str) -> dict[int, list[float]] | None:
    """Dev UAR of the trials of each fold's study, in the order of their numbers; None: it has not ended."""
    import pyarrow.compute as pc

    from emodarts.results import reader

    if not (Path(results) / sweep / "sweep.json").exists():
        return None
    is_dev = (pc.field("role") == "dev") & (pc.field("stage") == "final")
    rows = reader.open(results, sweep=sweep).table("folds", where=is_dev).to_pylist()
    studies = {
        fold: [row["uar"] for row in sorted(rows, key=lambda row: int(row["trial"])) if row["fold"] == fold]
        for fold in TUNED[1]
    }
    return studies if all(len(dev) == TRIALS for dev in studies.values()) else None


def summarise(cold: dict[int, list[float]], warm: dict[int, list[float]], revisions: list[str]) -> dict[str, Any]:
    """Cold, and warm minus cold: mean over folds, and the standard error over folds of the difference."""
    before, after = (np.array([best_after(of[fold]) for fold in sorted(of)]) for of in (cold, warm))
    difference = after - before
    errors = difference.std(0, ddof=1) / np.sqrt(len(difference))
    return {
        "folds": sorted(cold),
        "revisions": revisions,
        "cold": [round(float(x), 4) for x in before.mean(0)],
        "difference": [round(float(x), 4) for x in difference.mean(0)],
        "error": [round(float(x), 4) for x in errors],
    }


def table(options: argparse.Namespace) -> int:
    """Write figures and page of the pairs that are finished."""
    figures = load_figures()
    for pair in PAIRS:
        cold, warm = (read_studies(options.results, f"{pair.name}-{what}") for what in ("cold", "warm"))
        if cold and warm:
            figures[pair.title] = summarise(cold, warm, revisions_of(options.results, pair))
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    PAGE.write_text(with_tables(PAGE.read_text(), figures))
    print(json.dumps({name: row["difference"][-1] for name, row in figures.items()}))
    return 0


def revisions_of(results: str, pair: Pair) -> list[str]:
    """The commits that a pair's sweeps were run at."""
    from emodarts.results import reader

    tables = [reader.open(results, sweep=f"{pair.name}-{what}").table("folds") for what in ("cold", "warm")]
    return sorted({str(revision)[:7] for of in tables for revision in of["git_revision"].to_pylist()})


def load_figures() -> dict[str, Any]:
    """What is recorded, by the row's title."""
    return json.loads(FIGURES.read_text()) if FIGURES.exists() else {}


def page_lines(figures: dict[str, Any]) -> list[str]:
    """The table: the best dev UAR after some trials, cold, and warm minus cold."""
    if not figures:
        return ["No figures yet: the run takes about half an hour of one core."]
    head = [f"after {count} trials, cold | warm minus cold" for count in AFTER]
    lines = [f"| system, features | {' | '.join(head)} |", f"|---|{'---:|---|' * len(AFTER)}"]
    for title, row in figures.items():
        cells = [
            f"{_short(cold)} | {_short(difference, '+')} ± {_short(error)}"
            for cold, difference, error in zip(row["cold"], row["difference"], row["error"], strict=True)
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    revisions = sorted({revision for row in figures.values() for revision in row["revisions"]})
    last = mean(row["difference"][-1] for row in figures.values())
    lines += ["", f"Mean over rows after {AFTER[-1]} trials: {_short(last, '+')}. Commit {', '.join(revisions)}."]
    return lines


def _short(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}".replace("0.", ".", 1)


def with_tables(text: str, figures: dict[str, Any]) -> str:
    """The page with the table between its markers."""
    return replace_between(text, BEGIN, END, page_lines(figures))


def main() -> int:
    """Both commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--results", default="warm_start")
    parser.add_argument("--encoders", help="folder of the encoders; needed to run")
    parser.add_argument("--minutes", type=float, help="begin nothing after so many")
    options = parser.parse_args()
    if options.command == "table":
        return table(options)
    if options.encoders is None:
        parser.error("run needs --encoders")
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
