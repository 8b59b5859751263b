"""Do a sweep's samplers find better configurations than chance? Simulated studies on functions with a dev part's noise.

    python tests/benchmarks/outer_loop.py [--studies 1000] [--samplers auto untold tpe] [--slots 1 8]
        [--trials 10 40 100] [--first-seed 4000]
    python tests/benchmarks/outer_loop.py --numeric --samplers auto gp tpe --studies 100   # without the space's choice
    python tests/benchmarks/outer_loop.py --read FILE [FILE ...] --write     # docs/outer_loop.json and docs/sweeps.md

The functions are those of `outer_loop_functions.py`. A study, of `system=emodarts`, proposes as in
a sweep (`OptunaStudy`); `slots` configurations run at once and end in the order in which they began. Each study has
a dev part of its own, on which all samplers run; what counts is the true UAR of the configuration that its dev figures
choose. A sampler beats chance where it ends better in more than half of the studies that differ (one-sided sign test).
`tpe-10` is TPE with 10 start-up trials, as before there was `sweep.startup_trials`; `untold` is CMA-ES that never
hears how a trial ended: what its start around the preset's own configuration is worth without learning, so that
`auto` against `untold` is what learning adds.
`--first-seed 0`: studies to choose by; those of the page judge. One process, CPU time; the last line is JSON.
"""

import argparse
import json
import os
import sys
import time
from collections import deque
from itertools import chain
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy.stats import binomtest

from emodarts.records import TrialRecord
from sweeps.settings import Settings, SweepSettings
from sweeps.study.optuna_study import OptunaStudy
from sweeps.study.search_space import SearchSpace
from tests.benchmarks.outer_loop_functions import CONTROL, FUNCTIONS, SPACE, DevPart, positions
from tests.benchmarks.recorded_page import replace_between

TREE = Path(__file__).resolve().parents[2]
PAGE, FIGURES = TREE / "docs" / "sweeps.md", TREE / "docs" / "outer_loop.json"
BEGIN, END = "<!-- outer loop -->", "<!-- end of outer loop -->"
RANDOM, AUTO, UNTOLD = "random", "auto", "untold"
_FIRST_SEED = 4000  # those below were looked at when the default was chosen
_SEEDS_OF_A_FUNCTION = 10_000


def space_of(sweep: SweepSettings) -> SearchSpace:
    """The dimensions of a study."""
    return SearchSpace.of(Settings(sweep=sweep, system="emodarts"))


def run_study(sampler: str, function: Any, seed: int, slots: int, trials: int, numeric: bool) -> float:
    """The true UAR of the configuration that a study chooses on dev."""
    name, _, startup = sampler.partition("-")
    space = {"training": SPACE["training"]} if numeric else SPACE
    sweep = SweepSettings(
        sampler="cmaes" if name == UNTOLD else name,
        startup_trials=int(startup) if startup else None,
        trials=trials,
        seed=seed,
        space=space,
    )
    study = OptunaStudy("study", sweep, space_of(sweep))
    dev, running, fixed = DevPart(seed), deque[TrialRecord](), {"nodes": 0.33, "regulariser": 0.5}
    truth, measured = [], []
    for number in range(trials + slots):
        if number >= slots and running and name != UNTOLD:
            study.tell(running.popleft())
        if number < trials:
            parameters = study.ask()
            truth.append(function(fixed | positions(parameters)))
            measured.append(dev.measure(truth[-1], number))
            running.append(TrialRecord("x", "study", number, 0, parameters, "complete", values=(measured[-1],)))
    return truth[int(np.argmax(measured))]


def compare(
    samplers: list[str], studies: int, first_seed: int, slots: int, trials: int, numeric: bool
) -> dict[str, Any]:
    """Of each sampler, how often it ends better than random search, and by how much; and `auto` against `untold`."""
    chosen: dict[str, NDArray[np.float64]] = {}
    seconds = {}
    for sampler in [RANDOM, *samplers]:
        start = time.process_time()
        chosen[sampler] = np.array(
            [
                [
                    run_study(sampler, function, seed, slots, trials, numeric)
                    for seed in seeds_of(index, studies, first_seed)
                ]
                for index, function in enumerate(FUNCTIONS.values())
            ]
        )
        seconds[sampler] = round(time.process_time() - start, 1)
    pairs = [(sampler, RANDOM) for sampler in samplers]
    pairs += [(AUTO, UNTOLD)] * ({AUTO, UNTOLD} <= set(samplers))
    chance = chosen[RANDOM]
    return {
        "slots": slots,
        "trials": trials,
        "studies": chance.size,
        "chance": float(chance.mean()),
        "rows": [{"sampler": a, "against": b, **difference_of(chosen[a], chosen[b])} for a, b in pairs],
        "cpu_seconds": seconds,
    }


def seeds_of(index: int, studies: int, first_seed: int) -> range:
    """The seeds of a function's studies: no two studies of a condition have one, so that they are independent."""
    first = index * _SEEDS_OF_A_FUNCTION + first_seed
    return range(first, first + -(-studies // len(FUNCTIONS)))


def difference_of(ours: NDArray[np.float64], others: NDArray[np.float64]) -> dict[str, Any]:
    """What one sampler has more than another; (functions, studies)."""
    differences = ours - others
    better, worse = int((differences > 1e-9).sum()), int((differences < -1e-9).sum())
    return {
        "better": better,
        "worse": worse,
        "p": float(binomtest(better, max(1, better + worse), alternative="greater").pvalue),
        "difference": float(differences.mean()),
        "standard_error": float(differences.std(ddof=1) / np.sqrt(differences.size)),
        "by_function": dict(zip(FUNCTIONS, differences.mean(1).round(4).tolist(), strict=True)),
    }


def table_lines(result: dict[str, Any]) -> list[str]:
    """The conditions as a table."""
    lines = [
        "| slots | trials | sampler | against | better : worse | p | true UAR of the choice: more by |",
        "|---|---|---|---|---|---|---|",
    ]
    for condition in result["conditions"]:
        for row in condition["rows"]:
            difference = f"{row['difference']:+.4f} ({row['standard_error']:.4f})"
            p = "<.001" if row["p"] < 0.001 else f"{row['p']:.3f}".lstrip("0")
            place = f"| {condition['slots']} | {condition['trials']} | `{row['sampler']}` | `{row['against']}`"
            lines.append(f"{place} | {row['better']} : {row['worse']} | {p} | {difference} |")
    return lines


def with_table(text: str, result: dict[str, Any]) -> str:
    """The page with the table between its markers."""
    return replace_between(text, BEGIN, END, table_lines(result))


def main() -> None:
    """All conditions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="of each condition, over all functions")
    parser.add_argument("--samplers", nargs="+", default=[AUTO, UNTOLD, "tpe"])
    parser.add_argument("--first-seed", type=int, default=_FIRST_SEED)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 40, 100])
    parser.add_argument("--numeric", action="store_true", help="without the space's choice and whole number")
    parser.add_argument("--read", type=Path, nargs="+", help="earlier results instead of simulations")
    parser.add_argument("--write", action="store_true", help="docs/outer_loop.json, and the table of docs/sweeps.md")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if options.read:
        results = [json.loads(path.read_text().splitlines()[-1]) for path in options.read]
        conditions = sorted(chain(*(r["conditions"] for r in results)), key=lambda c: (c["trials"], c["slots"]))
        result = {**results[0], "conditions": conditions}
    else:
        luck = [run_study(RANDOM, CONTROL, seed, 1, 10, False) for seed in range(3)]
        assert len(set(luck)) == 1  # where nothing matters, nothing is gained
        places = [(slots, trials) for slots in options.slots for trials in options.trials]
        conditions = []
        for place in sorted(places, key=lambda place: place[1]):
            conditions.append(compare(options.samplers, options.studies, options.first_seed, *place, options.numeric))
            print(json.dumps(conditions[-1]), file=sys.stderr, flush=True)
        result = {"numeric": options.numeric, "first_seed": options.first_seed, "conditions": conditions}
    if options.write:
        FIGURES.write_text(json.dumps(result, indent=1) + "\n")
        PAGE.write_text(with_table(PAGE.read_text(), result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
