"""Where should CMA-ES begin? What configurations are worth that lie around the preset's, or around the bounds' middle.

    export EMODARTS_CORPORA=...   # a folder with emodb/ and ravdess/
    python tests/benchmarks/first_step.py run [--corpora emodb ravdess] [--features log_mel encoder]
        [--encoder FOLDER] [--folds 0 3] [--configurations 12] [--epochs 15] [--results first_step] [--hours 1]
    python tests/benchmarks/first_step.py table     # docs/first_step.json, and docs/sweeps.md between its markers

Configurations of cnn_lstm_attention in the default space: drawn evenly, or as CMA-ES draws its first generation (a
normal distribution with a sixth of the bounds as its standard deviation), around the one place or the other. Choices
are drawn evenly. No test part is read: of a fold's train speakers a quarter chooses the epoch, and the fold's dev
speakers judge, as in `choosing.py`. Pieces are kept in `--results`: a run that was stopped goes on. The last line of
`table` is JSON.

The rule, before anything is measured: CMA-ES begins at the place with the higher mean UAR over the conditions (EmoDB
and RAVDESS, log-mel and tiny.en's frames, each with equal weight).
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from rich.console import Console

from emodarts.provenance import git_revision
from emodarts.seeds import derive_seed
from sweeps.data.preparation import prepare
from sweeps.study.samplers import SIGMA0, from_unit_cube, numeric_dimensions, to_unit_cube
from sweeps.study.search_space import SearchSpace

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))

from tests.benchmarks.choosing import COLUMNS, SYSTEM, divide, trained_figures  # noqa: E402
from tests.benchmarks.rank_correlation import draws, interval  # noqa: E402
from tests.benchmarks.ranking import FOLDS, Condition, Pieces, parse, parser_of, run_conditions, write_table  # noqa: E402
from tests.benchmarks.recorded_page import replace_between  # noqa: E402
from tests.support.commands import settings as compose  # noqa: E402

PAGE, FIGURES = TREE / "docs" / "sweeps.md", TREE / "docs" / "first_step.json"
BEGIN, END = "<!-- first step -->", "<!-- end of first step -->"
EVENLY, MIDDLE, PRESET = "evenly", "middle", "preset"
PLACES = {EVENLY: "evenly", MIDDLE: "around the bounds' middle", PRESET: "around the preset's own configuration"}
GENERATION = 9  # of CMA-ES over seven dimensions
DIFFERENCES = ((MIDDLE, EVENLY), (PRESET, EVENLY), (PRESET, MIDDLE))


def configuration(space: SearchSpace, place: str, number: int) -> dict[str, Any]:
    """A configuration that is drawn there; the numbers' choices are the same in all places."""
    seed = derive_seed(0, "first step", number) % 2**31
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    parameters = space.suggest(study.ask())
    numeric = numeric_dimensions(space)
    if place == EVENLY:
        return parameters
    centre = to_unit_cube(space.default_parameters(), numeric) if place == PRESET else np.full(len(numeric), 0.5)
    return {**parameters, **from_unit_cube(_near(centre, np.random.default_rng(seed)), numeric)}


def _near(centre: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A point of the unit cube, drawn again until it lies within."""
    while True:
        point = rng.normal(centre, SIGMA0)
        if (point >= 0).all() and (point <= 1).all():
            return point


def measure(condition: Condition, options: argparse.Namespace, pieces: Pieces) -> None:
    """The trainings of a condition, configuration by configuration."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings = compose(*condition.overrides(options.encoder), f"system={SYSTEM}")
    data = prepare(settings, Console(quiet=True))
    space = SearchSpace.of(settings, settings.systems[SYSTEM])
    folds = options.folds or FOLDS[condition.corpus][:2]
    about = {**asdict(condition), "folds": list(folds), "commit": git_revision()}
    pieces.get("about", lambda: about)
    for number in range(options.configurations):
        for place in PLACES:
            unit = space.apply(configuration(space, place, number))
            for index in folds:
                fold = divide(data.all_folds[index])
                pieces.get(
                    f"{place}/{number}.{index}",
                    lambda f=fold, u=unit, n=number: dict(
                        zip(COLUMNS, trained_figures(data, f, u, 100 + n), strict=True)
                    ),
                )


def summarise(folder: Path) -> dict[str, Any] | None:
    """What the places are worth: of the configurations that have been trained in all of them, on all folds."""
    about = json.loads((folder / "about.json").read_text())
    folds = about["folds"]
    numbers = [
        number
        for number in range(sum(1 for _ in (folder / EVENLY).glob(f"*.{folds[0]}.json")))
        if all((folder / place / f"{number}.{fold}.json").exists() for place in PLACES for fold in folds)
    ]
    if len(numbers) < 2:
        return None

    def read(place: str, column: str) -> NDArray[np.float64]:
        """Configurations by folds."""
        of = [
            [json.loads((folder / place / f"{n}.{fold}.json").read_text())[column] for fold in folds] for n in numbers
        ]
        return np.array(of)

    judged = {place: read(place, "judged") for place in PLACES}
    chosen = {
        place: round(float(np.mean([chosen_by_dev(d, j) for d, j in zip(dev.T, judged[place].T, strict=True)])), 3)
        for place, dev in ((place, read(place, "best_epoch")) for place in PLACES)
    }
    resamples = draws(len(numbers))
    differences = {
        f"{a} - {b}": interval(np.array([(judged[a] - judged[b])[rows].mean() for rows in resamples]))
        for a, b in DIFFERENCES
    }
    means = {place: round(float(of.mean()), 3) for place, of in judged.items()}
    return {**about, "configurations": len(numbers), "means": means, "chosen": chosen, "differences": differences}


def chosen_by_dev(dev: NDArray[np.float64], judged: NDArray[np.float64]) -> float:
    """What the best by dev of `GENERATION` configurations is worth to the judges, mean over all sets of so many."""
    sets = np.array(list(combinations(range(len(dev)), min(GENERATION, len(dev)))))
    best = dev[sets] == dev[sets].max(1, keepdims=True)  # where several are, their mean
    return float(((judged[sets] * best).sum(1) / best.sum(1)).mean())


def page_lines(conditions: Sequence[dict[str, Any]]) -> list[str]:
    """The page's table of what docs/first_step.json holds."""
    lines = [
        "| | configurations, folds | drawn | mean UAR | more than evenly [95 %] | more than around the middle "
        f"| the best by dev of {GENERATION} |",
        "|---|---|---|---:|---|---|---:|",
    ]
    for about in conditions:
        title = Condition.of(about).title.partition(", space")[0]
        folds = ", ".join(map(str, about["folds"]))
        for place, words in PLACES.items():
            more = (about["differences"].get(f"{place} - {other}") for other in (EVENLY, MIDDLE))
            lines.append(
                f"| {title} | {about['configurations']}, {folds} | {words} | {_three(about['means'][place])} | "
                f"{' | '.join(map(_with_interval, more))} | {_three(about['chosen'][place])} |"
            )
    for place, words in PLACES.items():
        means = [float(np.mean([about[column][place] for about in conditions])) for column in ("means", "chosen")]
        more = (mean_difference(conditions, f"{place} - {other}") for other in (EVENLY, MIDDLE))
        lines.append(
            f"| mean | | {words} | {_three(means[0])} | {' | '.join(map(_with_interval, more))} | {_three(means[1])} |"
        )
    commits = sorted({str(about["commit"])[:12] for about in conditions})
    return [*lines, "", f"Commit {', '.join(commits)}."]


def mean_difference(conditions: Sequence[dict[str, Any]], name: str) -> list[float] | None:
    """The mean of a difference over the conditions, which are taken as independent, with its interval."""
    if name not in conditions[0]["differences"]:
        return None
    of = np.array([about["differences"][name] for about in conditions])
    half = float(np.sqrt((((of[:, 2] - of[:, 1]) / 2) ** 2).sum()) / len(of))
    value = float(of[:, 0].mean())
    return [value, value - half, value + half]


def _three(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)


def _with_interval(values: list[float] | None) -> str:
    if values is None:
        return "-"
    value, low, high = (f"{x:+.3f}".replace("0.", ".", 1) for x in values)
    return f"{value} [{low}, {high}]"


def with_tables(text: str, conditions: Sequence[dict[str, Any]]) -> str:
    """The page with the table between its markers."""
    return replace_between(text, BEGIN, END, page_lines(conditions))


def main() -> int:
    """Both commands."""
    parser = parser_of(__doc__, "first_step", "log_mel")
    parser.add_argument("--configurations", type=int, default=12)
    options = parse(parser)
    if options.command == "run":
        return run_conditions(options, measure, lambda features: "compact")
    measured = write_table(options, summarise, FIGURES, PAGE, with_tables)
    print(json.dumps({name: condition["differences"] for name, condition in measured.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
