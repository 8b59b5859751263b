"""By what should a configuration be chosen? How well each rule ranks configurations on other speakers than it saw.

    export EMODARTS_CORPORA=...   # a folder with emodb/ and ravdess/
    python tests/benchmarks/choosing.py run [--corpora emodb] [--folds 0 3] [--configurations 12] [--epochs 15]
        [--splits 3] [--minutes 60]
    python tests/benchmarks/choosing.py table     # docs/sweeps.md between its markers

No test part is read. Of a fold's train speakers a quarter are the dev part that chooses, the others train; the fold's
own dev part, whose speakers are in neither, judges. Configurations of cnn_lstm_attention are drawn evenly from the
default space, the preset's own first. What they are worth: UAR on the judging speakers, mean over two seeds that no
rule has seen. Inner splits divide the speakers who train and those who choose. The trainings with averaged weights also
tell what `training.averaging=late` is worth.
Every training is written into docs/choosing.json when it ends: a run that was stopped goes on where it stopped.
Last line of `table`: one JSON object, Kendall's tau of each rule by corpus.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
import torch
from rich.console import Console

from emodarts.corpora.protocols.folds import Fold
from emodarts.corpora.protocols.inner_splits import make_inner_folds
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.experiment.unit import run_fold
from emodarts.files import atomic_write
from emodarts.metrics import uar
from emodarts.provenance import git_revision
from emodarts.records import Evaluation, UnitKey, UnitRecords
from emodarts.results.writer import choice_figures
from emodarts.seeds import derive_seed
from sweeps.data.preparation import prepare
from sweeps.data.sweep_data import SweepData
from sweeps.study.search_space import SearchSpace

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))

from tests.benchmarks.rank_correlation import Floats, draws, interval, mean_tau  # noqa: E402
from tests.benchmarks.recorded_page import replace_between  # noqa: E402
from tests.support.commands import settings as compose  # noqa: E402

PAGE, FIGURES = TREE / "docs" / "sweeps.md", TREE / "docs" / "choosing.json"
BEGIN, END = "<!-- choosing -->", "<!-- end of choosing -->"
FOLDS = {"emodb": (0, 3, 6), "ravdess": (0, 2, 4), "demo": (0,)}
NAMES = {"emodb": "EmoDB", "ravdess": "RAVDESS", "demo": "demo corpus"}
SYSTEM = "cnn_lstm_attention"
CHOOSING, JUDGING = (0, 1), (2, 3)  # seeds
DEV_PART = 4  # one in so many train speakers chooses
FIRST = "best_epoch"  # what the others are compared with

Figures = dict[str, list[float]]  # of a training, by its name: see COLUMNS
COLUMNS = ("best_epoch", "late_mean", "dev_loss", "judged", "seconds")


@dataclass(frozen=True)
class ChoosingRule:
    """A rule by its words; `values` of a configuration on a fold, one for each time that it can be repeated: from the
    figures of the trainings that are named, each with the column that counts.
    """

    title: str
    trainings: int
    values: Callable[[Callable[[str, str], float], int], list[float]]


def single(column: str) -> Callable[[Callable[[str, str], float], int], list[float]]:
    """Each seed that chooses by itself."""
    return lambda figure, splits: [figure(f"seed{seed}", column) for seed in CHOOSING]


def over_splits(column: str) -> Callable[[Callable[[str, str], float], int], list[float]]:
    """The mean over the inner splits."""
    return lambda figure, splits: [mean(figure(f"inner{split}", column) for split in range(splits))]


def rules(splits: int) -> dict[str, ChoosingRule]:
    """By its name, each rule: more is better."""
    return {
        "best_epoch": ChoosingRule("UAR at the epoch that is taken (`best_epoch`)", 1, single("best_epoch")),
        "late_mean": ChoosingRule("mean UAR of the last quarter's epochs (`late_mean`)", 1, single("late_mean")),
        "dev_loss": ChoosingRule("exp(-loss) (`dev_loss`)", 1, single("dev_loss")),
        "averaged": ChoosingRule(
            "UAR of averaged weights (`training.averaging=late`)",
            1,
            lambda figure, splits: [figure(f"averaged{seed}", "best_epoch") for seed in CHOOSING],
        ),
        "two_seeds": ChoosingRule(
            "`best_epoch`, mean of two seeds",
            2,
            lambda figure, splits: [mean(figure(f"seed{seed}", "best_epoch") for seed in CHOOSING)],
        ),
        "inner": ChoosingRule(f"`best_epoch`, mean over {splits} inner splits", splits, over_splits("best_epoch")),
        "inner_late": ChoosingRule(f"`late_mean`, mean over {splits} inner splits", splits, over_splits("late_mean")),
    }


def run(options: argparse.Namespace) -> int:
    """The trainings that are missing, configuration by configuration; 1 where time was over."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    deadline = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    recorded = load_figures(options.figures)
    for corpus in options.corpora:
        about = {"epochs": options.epochs, "splits": options.splits}
        of_corpus = recorded.setdefault(corpus, {**about, "commits": [], "trainings": {}})
        if {name: of_corpus[name] for name in about} != about:
            print(f"{options.figures} has {corpus} with other settings than {about}: take another --figures")
            return 2
        settings = compose(f"corpus={corpus}", f"system={SYSTEM}", f"training.epochs={options.epochs}")
        data = prepare(settings, Console(quiet=True))
        units = configurations(SearchSpace.of(settings, settings.systems[SYSTEM]), options.configurations)
        folds = options.folds or FOLDS[corpus]
        for number, unit in enumerate(units):
            for name, training in missing(of_corpus["trainings"], data, unit, number, folds, options.splits):
                if time.monotonic() > deadline:
                    print("time is over; the same command goes on")
                    return 1
                of_corpus["trainings"][name] = training()
                of_corpus["commits"] = sorted({*of_corpus["commits"], str(git_revision())[:12]})
                save_figures(options.figures, recorded)
    print("all is measured")
    return 0


def configurations(space: SearchSpace, count: int) -> list[FoldSettings]:
    """The preset's own, and others drawn evenly: the first ones are the same whatever the count."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=derive_seed(0, "choosing") % 2**31))
    drawn = [space.suggest(study.ask()) for _ in range(count - 1)]
    return [space.apply(parameters) for parameters in (space.default_parameters(), *drawn)]


def divide(fold: Fold) -> Fold:
    """The fold without its tests: its dev part judges, a quarter of its train speakers are dev."""
    judged = replace(fold, dev=(), tests={"judging": fold.dev})
    return make_inner_folds(judged, DEV_PART, derive_seed(0, "choosing dev"))[0]


def missing(
    recorded: Figures, data: SweepData, unit: FoldSettings, number: int, folds: Sequence[int], splits: int
) -> Iterator[tuple[str, Callable[[], list[float]]]]:
    """The trainings of a configuration that are not recorded, by their names (`fold.configuration.what`)."""
    averaged = replace(unit, training=replace(unit.training, averaging="late"))
    for index in folds:
        chosen = divide(data.all_folds[index])
        inner = make_inner_folds(chosen, splits, derive_seed(0, "choosing inner"))
        whole = [(f"seed{seed}", chosen, unit, seed) for seed in (*CHOOSING, *JUDGING)]
        whole += [(f"averaged{seed}", chosen, averaged, seed) for seed in CHOOSING]
        whole += [(f"inner{split}", part, unit, len(whole) + split) for split, part in enumerate(inner)]
        for what, fold, settings, seed in whole:
            name = f"{index}.{number}.{what}"
            if name not in recorded:
                yield name, lambda f=fold, s=settings, n=seed: trained_figures(data, f, s, n)


def trained_figures(data: SweepData, fold: Fold, settings: FoldSettings, seed: int) -> list[float]:
    """The figures (COLUMNS) of a training on a fold whose tests are the speakers that judge."""
    records = run_fold(data.store, fold, settings, derive_seed(0, "choosing", fold.index, seed))
    return [round(value, 5) for value in figures_of(records, fold)]


def figures_of(records: UnitRecords, fold: Fold) -> list[float]:
    """The figures of a unit, in the order of COLUMNS."""
    key = UnitKey("", SYSTEM, "", 0, 0, (), fold.protocol, fold.index, fold.hash, fold.classes)
    dev, judged = (next(e for e in records.evaluations if e.role == role) for role in ("dev", "test"))
    chosen_by = {"best_epoch": _uar(dev, fold), **choice_figures(key, records)}
    rest = {"judged": _uar(judged, fold), "seconds": records.train_seconds}
    return [{**chosen_by, **rest}[column] for column in COLUMNS]


def _uar(e: Evaluation, fold: Fold) -> float:
    labels = np.array([fold.classes.index(str(label)) for label in e.labels])
    return uar(labels, e.probabilities.argmax(1), len(fold.classes))


def load_figures(path: Path) -> dict[str, Any]:
    """What is recorded, by corpus."""
    return json.loads(path.read_text()) if path.exists() else {}


def save_figures(path: Path, recorded: dict[str, Any]) -> None:
    """Write what is recorded, a line a training."""
    parts = []
    for corpus, of_corpus in recorded.items():
        about = [f"  {json.dumps(name)}: {json.dumps(of_corpus[name])}" for name in of_corpus if name != "trainings"]
        lines = [f"   {json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(of_corpus["trainings"].items())]
        trainings = '  "trainings": {\n' + ",\n".join(lines) + "\n  }"
        parts.append(f" {json.dumps(corpus)}: {{\n" + ",\n".join([*about, trainings]) + "\n }")
    with atomic_write(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(parts) + "\n}\n")


@dataclass(frozen=True)
class Ranking:
    """What rules and judges say of the configurations whose trainings are all there: `by_rule` has pairs of values and
    judgements `(configurations,)`, a pair a fold and repetition.
    """

    configurations: int
    folds: tuple[int, ...]
    by_rule: dict[str, list[tuple[Floats, Floats]]]
    ceiling: list[tuple[Floats, Floats]]  # one judging seed against the other
    averaging: Floats  # UAR on the judging speakers with averaged weights minus without, `(configurations,)`


def rank(of_corpus: dict[str, Any]) -> Ranking | None:
    """The values of each rule on the folds that have trainings; None for fewer than three whole configurations."""
    trainings, splits = of_corpus["trainings"], of_corpus["splits"]
    seeds = [f"seed{seed}" for seed in (*CHOOSING, *JUDGING)] + [f"averaged{seed}" for seed in CHOOSING]
    whats = [*seeds, *(f"inner{split}" for split in range(splits))]
    keys = {tuple(map(int, name.split(".")[:2])) for name in trainings}
    folds = tuple(sorted({fold for fold, _ in keys}))
    numbers = sorted({n for _, n in keys if all(f"{f}.{n}.{what}" in trainings for f in folds for what in whats)})
    if len(numbers) < 3:
        return None

    def figure(fold: int, number: int) -> Callable[[str, str], float]:
        return lambda what, column: trainings[f"{fold}.{number}.{what}"][COLUMNS.index(column)]

    def judged(fold: int, seeds: Sequence[int]) -> Floats:
        return np.array([mean(figure(fold, n)(f"seed{seed}", "judged") for seed in seeds) for n in numbers])

    by_rule = {}
    for name, rule in rules(splits).items():
        by_fold = [(np.array([rule.values(figure(f, n), splits) for n in numbers]), judged(f, JUDGING)) for f in folds]
        by_rule[name] = [(values[:, i], truth) for values, truth in by_fold for i in range(values.shape[1])]
    ceiling = [(judged(fold, JUDGING[:1]), judged(fold, JUDGING[1:])) for fold in folds]
    averaged = [mean(figure(f, n)(f"averaged{s}", "judged") for f in folds for s in CHOOSING) for n in numbers]
    plain = [mean(figure(f, n)(f"seed{s}", "judged") for f in folds for s in CHOOSING) for n in numbers]
    return Ranking(len(numbers), folds, by_rule, ceiling, np.array(averaged) - np.array(plain))


def summarise(ranking: Ranking) -> dict[str, Any]:
    """For each rule tau and the difference to the first rule, with intervals, and what its choice gains.

    Configurations are drawn with replacement, the same ones for all rules, folds and repetitions; percentiles.
    """
    rows = draws(ranking.configurations)
    taus = {name: np.array([mean_tau(pairs, r) for r in rows]) for name, pairs in ranking.by_rule.items()}
    summary = {}
    for name, pairs in ranking.by_rule.items():
        gains = [float(truth[values.argmax()] - truth.mean()) for values, truth in pairs]
        summary[name] = {
            "tau": interval(taus[name]),
            "more": None if name == FIRST else interval(taus[name] - taus[FIRST]),
            "gain": round(mean(gains), 4),
        }
    ceiling = interval(np.array([mean_tau(ranking.ceiling, r) for r in rows]))
    averaging = interval(np.array([ranking.averaging[r].mean() for r in rows]))
    about = {"configurations": ranking.configurations, "folds": list(ranking.folds)}
    return {**about, "rules": summary, "ceiling": ceiling, "averaging": averaging}


def page_lines(recorded: dict[str, Any]) -> list[str]:
    """A table a corpus, of the summaries that `table` has made."""
    lines: list[str] = []
    for corpus, of_corpus in recorded.items():
        summary, by_name = of_corpus.get("summary"), rules(of_corpus["splits"])
        if summary is None:
            continue
        folds, trainings = ", ".join(map(str, summary["folds"])), of_corpus["trainings"].values()
        hours = sum(row[COLUMNS.index("seconds")] for row in trainings) / 3600
        lines += [
            f"**{NAMES[corpus]}**: {summary['configurations']} configurations, folds {folds}, {of_corpus['epochs']} "
            f"epochs; {len(trainings)} trainings in {hours:.1f} core-hours, commit {', '.join(of_corpus['commits'])}.",
            "",
            "| chosen by | trainings | Kendall's tau [95 %] | more than `best_epoch` [95 %] | UAR gained |",
            "|---|---:|---|---|---:|",
        ]
        for name, row in summary["rules"].items():
            rule = by_name[name]
            figures = f"{_shown(row['tau'])} | {_shown(row['more'])} | {row['gain']:+.3f}".replace("0.", ".")
            lines.append(f"| {rule.title} | {rule.trainings} | {figures} |")
        lines += [f"| one judging seed by the other (ceiling) | | {_shown(summary['ceiling'])} | | |", ""]
        value, low, high = (f"{x:+.3f}".replace("0.", ".", 1) for x in summary["averaging"])
        lines += [
            "`training.averaging=late` minus `none`, UAR on the judging speakers, same configurations, folds and "
            f"seeds: {value} [{low}, {high}].",
            "",
        ]
    return lines or ["No figures yet: the run takes about an hour and a half on one core."]


def _shown(values: list[float] | None) -> str:
    if values is None:
        return "-"
    value, low, high = (f"{x:+.2f}".replace("0.", ".", 1) for x in values)
    return f"{value} [{low}, {high}]"


def with_tables(text: str, recorded: dict[str, Any]) -> str:
    """The page with the tables between its markers."""
    return replace_between(text, BEGIN, END, page_lines(recorded))


def table(options: argparse.Namespace) -> int:
    """Add summaries to what is recorded, and write the page's tables of them."""
    recorded = load_figures(options.figures)
    for of_corpus in recorded.values():
        if (ranking := rank(of_corpus)) is not None:
            of_corpus["summary"] = summarise(ranking)
    if recorded:
        save_figures(options.figures, recorded)
    PAGE.write_text(with_tables(PAGE.read_text(), recorded))
    summaries = {corpus: of["summary"]["rules"] for corpus, of in recorded.items() if "summary" in of}
    print(json.dumps({corpus: {name: row["tau"] for name, row in of.items()} for corpus, of in summaries.items()}))
    return 0


def main() -> int:
    """Both commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--corpora", nargs="+", choices=list(FOLDS), default=["emodb", "ravdess"])
    parser.add_argument("--folds", type=int, nargs="+")
    parser.add_argument("--configurations", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="begin nothing after so many")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    options = parser.parse_args()
    return table(options) if options.command == "table" else run(options)


if __name__ == "__main__":
    sys.exit(main())
