"""The evidence behind the defaults of the search: runs it in resumable parts, and writes its tables into the docs.

    export EMODARTS_CORPORA=...   # a folder with emodb/ and ravdess/
    python tests/benchmarks/search_evidence.py 1        # stage 1: each axis and space, dev figures only
    python tests/benchmarks/search_evidence.py default  # what the default changed after two looks at stage 2; dev only
    python tests/benchmarks/search_evidence.py 2        # stage 2: systems on test speakers, once the defaults stand
    python tests/benchmarks/search_evidence.py tables   # docs/search.md, between its markers

Options: --results FOLDER (default evidence), --workers N (processes of one thread each, default 2), --hours H.
A run that was stopped goes on where it stopped; finished units are never run again.
"""

import argparse
import multiprocessing
import os
import sys
import time
import uuid
from collections import Counter, defaultdict
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import Fold, make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.experiment.unit import run_fold
from emodarts.experiment.unit_checkpoints import discard_checkpoints
from emodarts.features.store.building import build_store
from emodarts.features.store.store import Store
from emodarts.networks.genotype import Genotype
from emodarts.records import UnitKey, is_late
from emodarts.results import reader
from emodarts.results.lease import Lease
from emodarts.results.statistics import Interval, Tally, compare_systems, interval
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.search.settings import SearchSettings
from emodarts.seeds import derive_seed
from emodarts.storage import Storage
from emodarts.training.settings import TrainingSettings

DOCS = Path(__file__).resolve().parents[2] / "docs" / "search.md"
CORPORA = {
    "emodb": CorpusSettings(name="emodb", protocol="emodb/speaker10", source="intended"),
    "ravdess": CorpusSettings(name="ravdess", protocol="ravdess/speaker6", source="intended"),
}
_COMMAND = "python tests/benchmarks/search_evidence.py"
NAMES = {"emodb": "EmoDB", "ravdess": "RAVDESS"}
PLAIN = {
    "optimisation": "bilevel",
    "space": "emodarts",
    "relaxation": "softmax",
    "regulariser": "none",
    "selection": "magnitude",
    "stop": "none",
    "warmup_epochs": 0,
    "unrolled": False,
    "cost_weight": 0.0,
    "skip_dropout": 0.5,
    "sequence_shortcut": False,
}
THEN = {"optimisation": "bilevel", "space": "emodarts", "sequence_shortcut": False}  # the default when stage 1 was run


@dataclass(frozen=True)
class Condition:
    """A system under test: what differs from the defaults, and its seeds."""

    search: dict[str, Any] = field(default_factory=dict)
    system: str = "emodarts"
    seeds: int = 1


@dataclass(frozen=True)
class Stage:
    """Conditions and folds; `tests`: whether test parts are read. None as epochs: the default."""

    conditions: dict[str, Condition]
    folds: dict[str, tuple[int, ...]]
    tests: bool
    training_epochs: int | None = None

    def settings(self, condition: str) -> FoldSettings:
        """The settings of a condition's units."""
        about = self.conditions[condition]
        search = replace(SearchSettings(), **about.search)
        training = TrainingSettings()
        if self.training_epochs is not None:
            training = replace(training, epochs=self.training_epochs)
        return FoldSettings(search=search, training=training, system=about.system)


STAGES = {
    "1": Stage(
        {
            "plain DARTS": Condition(PLAIN, seeds=3),
            "default": Condition(THEN, seeds=3),
            "relaxation=sigmoid": Condition({**PLAIN, "relaxation": "sigmoid"}),
            "regulariser=beta_decay": Condition({**PLAIN, "regulariser": "beta_decay"}),
            "regulariser=skip_dropout": Condition({**PLAIN, "regulariser": "skip_dropout"}),
            "selection=perturbation": Condition({**PLAIN, "selection": "perturbation"}, seeds=3),
            "stop=skips": Condition({**PLAIN, "stop": "skips"}),
            "stop=eigenvalue": Condition({**PLAIN, "stop": "eigenvalue"}),
            "warmup_epochs=4": Condition({**PLAIN, "warmup_epochs": 4}),
            "space=modern": Condition({**PLAIN, "space": "modern"}),
        },
        {"emodb": (0, 3, 6), "ravdess": (0, 3)},
        tests=False,
        training_epochs=15,
    ),
    "default": Stage(
        {
            "default": Condition(seeds=3),
            "sequence_shortcut=false": Condition({"sequence_shortcut": False}, seeds=3),
            "optimisation=bilevel": Condition({"optimisation": "bilevel"}, seeds=3),
            "cnn_lstm_attention": Condition(system="cnn_lstm_attention", seeds=3),
        },
        {"emodb": (0, 3, 6), "ravdess": tuple(range(6))},
        tests=False,
    ),
    "2": Stage(
        {
            "default": Condition(seeds=3),
            "cnn_lstm_attention": Condition(system="cnn_lstm_attention", seeds=3),
            "random_search": Condition({"method": "random_search"}),
            "frozen": Condition({"method": "frozen"}),
            "cnn_only": Condition({"scope": "cnn_only"}),
            "seqnn_only": Condition({"scope": "seqnn_only"}),
            "one_after_the_other": Condition({"scope": "one_after_the_other"}),
        },
        {"emodb": tuple(range(10)), "ravdess": tuple(range(6))},
        tests=True,
    ),
}


@dataclass(frozen=True)
class Unit:
    """One run of a condition."""

    stage: str
    condition: str
    corpus: str
    fold: int
    seed: int

    @property
    def sweep(self) -> str:
        """The name that its rows stand under."""
        return f"evidence-{self.stage}-{self.corpus}"


def units_of(name: str) -> list[Unit]:
    """All units of a stage: first seeds first, fold by fold, so that what is there early can be compared."""
    stage = STAGES[name]
    return [
        Unit(name, condition, corpus, fold, seed)
        for seed in range(max(c.seeds for c in stage.conditions.values()))
        for corpus, folds in stage.folds.items()
        for fold in folds
        for condition, about in stage.conditions.items()
        if seed < about.seeds
    ]


def read_corpus(corpus: str) -> tuple[Corpus, tuple[Fold, ...]]:
    """A corpus, and all its folds."""
    root = Path(os.environ["EMODARTS_CORPORA"]) / corpus
    settings = replace(CORPORA[corpus], root=str(root))
    read = corpora.read(settings)
    labels = label_utterances(read.utterances, settings)
    return read, make_folds(settings, read.utterances, labels)


@cache
def data_of(corpus: str) -> tuple[Store, tuple[Fold, ...]]:
    """Features and folds, once a process."""
    read, folds = read_corpus(corpus)
    cached = corpora.cache_folder() / "features"
    return build_store(read.utterances, read.root, FoldSettings().features, cached), folds


def run_unit(unit: Unit, results: str) -> tuple[Unit, float, float]:
    """Run and commit one unit; its dev UAR and seconds."""
    torch.set_num_threads(1)
    stage = STAGES[unit.stage]
    settings = stage.settings(unit.condition)
    store, folds = data_of(unit.corpus)
    fold, begin = folds[unit.fold], time.perf_counter()
    key = UnitKey(
        unit.sweep,
        settings.search.system if settings.searches else settings.system,
        unit.condition,
        0,
        unit.seed,
        (unit.corpus,),
        fold.protocol,
        fold.index,
        fold.hash,
        fold.classes,
    )
    kept = Path(results) / unit.sweep / "checkpoints" / key.name.replace(" ", "_")
    seed = derive_seed(0, "evidence", unit.fold, unit.seed)
    writer, attempt = SweepWriter(Storage.open(results), unit.sweep), uuid.uuid4().hex[:8]
    try:
        records = run_fold(store, fold, settings, seed, checkpoints=kept, tests=stage.tests)
    except (ArithmeticError, RuntimeError) as error:  # a loss that is NaN: the others go on, and the table counts it
        writer.commit_ended(key, "failed", f"{type(error).__name__}: {error}", (), attempt)
        discard_checkpoints(kept)
        return unit, float("nan"), time.perf_counter() - begin
    writer.commit(key, records, attempt)
    discard_checkpoints(kept)
    dev = next(e for e in records.evaluations if e.role == "dev" and e.stage == "final")
    tally = Tally.of([str(s) for s in dev.speakers], *_indices(fold, dev.labels, dev.probabilities), len(fold.classes))
    return unit, tally.uar(), time.perf_counter() - begin


def _indices(fold: Fold, labels: Any, probabilities: Any) -> tuple[list[int], list[int]]:
    return [fold.classes.index(label) for label in labels], np.asarray(probabilities).argmax(1).tolist()


def run(name: str, results: str, workers: int, hours: float | None) -> int:
    """Run what is missing of a stage; how many units are still missing afterwards."""
    storage = Storage.open(results)
    for corpus in STAGES[name].folds:
        about = {c: asdict(STAGES[name].settings(c)) for c in STAGES[name].conditions}
        register(storage, f"evidence-{name}-{corpus}", about)
    done = {(c.key.sweep, c.key.study, c.key.fold_hash, c.key.seed) for c in reader.open(results).commits}
    hashes = {(corpus, f.index): f.hash for corpus in STAGES[name].folds for f in read_corpus(corpus)[1]}
    missing = [u for u in units_of(name) if (u.sweep, u.condition, hashes[u.corpus, u.fold], u.seed) not in done]
    print(f"stage {name}: {len(units_of(name)) - len(missing)} units done, {len(missing)} to go", flush=True)
    deadline = None if hours is None else time.time() + 3600 * hours
    context = multiprocessing.get_context("spawn")
    with Lease(storage, f"evidence-{name}"), ProcessPoolExecutor(workers, mp_context=context) as pool:
        running: set[Future[tuple[Unit, float, float]]] = set()
        waiting = list(reversed(missing))
        while waiting or running:
            while waiting and len(running) < workers and (deadline is None or time.time() < deadline):
                running.add(pool.submit(run_unit, waiting.pop(), results))
            if not running:
                break
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                unit, uar, seconds = future.result()
                print(
                    f"{unit.condition} {unit.sweep} fold {unit.fold} seed {unit.seed}: {uar:.3f} {seconds:.0f} s",
                    flush=True,
                )
    return len(waiting)


def write_tables(results: str) -> int:
    """Write the tables of what is committed between the markers of docs/search.md; one without rows stays as it is."""
    opened = reader.open(results)
    text = DOCS.read_text()
    for name in STAGES:
        if not any(f"evidence-{name}-{corpus}" in opened.sweeps for corpus in CORPORA):
            continue
        lines = {"1": _screening, "default": _changes, "2": _comparison}[name](opened)
        begin, end = f"<!-- evidence {name} -->", f"<!-- end of evidence {name} -->"
        head, _, rest = text.partition(begin)
        text = f"{head}{begin}\n" + "\n".join(lines) + f"\n{end}" + rest.partition(end)[2]
    DOCS.write_text(text)
    print(f"wrote {DOCS.name}")
    return 0


def _screening(opened: reader.Results) -> list[str]:
    """Stage 1: dev figures, a mean over folds for each corpus."""
    final = _rows(opened, "1", "folds", role="dev", stage="final")
    supernet = _rows(opened, "1", "folds", role="dev", stage="supernet")
    epochs = _rows(opened, "1", "epochs", phase="search")
    training = STAGES["1"].training_epochs
    lines = [
        f"`{_COMMAND} 1`: {_count(final, '1')}; UAR on dev, mean over folds {_folds('1')}, {training} epochs "
        "of training; nothing of a test part was read. Conditions but `default` change one thing of plain DARTS. Dev "
        "speakers of these folds are test speakers of other folds of the same protocol, whose figures stage 2 pools. "
        f"{_made_of(final)}",
        "",
        "| condition | seeds | EmoDB | RAVDESS | mean | minus plain | supernet | gap | skips | entropy | moved "
        "| search s | train s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for condition in STAGES["1"].conditions:
        mine = [r for r in final if r["study"] == condition]
        if not mine:
            continue
        by_corpus = [_mean([r["uar"] for r in mine if r["train_corpora"] == [c]]) for c in CORPORA]
        last = _last_epochs([e for e in epochs if e["study"] == condition])
        gaps = [e["dev_uar"] - e["discretised_dev_uar"] for e in last if e["discretised_dev_uar"] is not None]
        cells = [
            condition,
            str(len({r["seed"] for r in mine})),
            *map(_three, by_corpus),
            _three(_mean(by_corpus)),
            _minus(final, condition, "plain DARTS"),
            _three(_mean([r["uar"] for r in supernet if r["study"] == condition])),
            _three(_mean(gaps)),
            *(
                _two(_mean([e[name] for e in last if e[name] is not None]))
                for name in ("skip_connections", "entropy", "alphas_moved")
            ),
            *(f"{_mean([r[name] for r in mine]):.0f}" for name in ("search_seconds", "train_seconds")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _minus(final: list[dict[str, Any]], condition: str, other: str) -> str:
    """Mean difference to another condition and its standard error over folds, each the mean over common seeds first."""
    of = {(r["study"], r["sweep"], r["fold"], r["seed"]): r["uar"] for r in final}
    by_fold: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for (study, *fold, seed), uar in of.items():
        if study == condition and (other, *fold, seed) in of:
            by_fold[tuple(fold)].append(uar - of[other, *fold, seed])
    means = [_mean(differences) for differences in by_fold.values()]
    if condition == other or len(means) < 2:
        return "-"
    return f"{_mean(means):+.3f} ± {np.std(means, ddof=1) / len(means) ** 0.5:.3f}".replace("0.", ".")


def _changes(opened: reader.Results) -> list[str]:
    """What the default changed, undone one by one: dev figures, a mean over folds for each corpus."""
    final = _rows(opened, "default", "folds", role="dev", stage="final")
    epochs = _rows(opened, "default", "epochs", phase="train")
    lines = [
        f"`{_COMMAND} default`: {_count(final, 'default')}; UAR on dev, mean over folds {_folds('default')}, of the "
        "chosen epoch, and the mean over the last quarter of the training, which nothing chose; "
        f"{_epochs_of('default', 'default')}; nothing of a test part was read. {_made_of(final)}",
        "",
        "| condition | seeds | EmoDB | last quarter | RAVDESS | last quarter | minus default | parameters | search s "
        "| train s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for condition in STAGES["default"].conditions:
        mine = [r for r in final if r["study"] == condition]
        if not mine:
            continue
        cells = [condition, str(len({r["seed"] for r in mine}))]
        for corpus in CORPORA:
            own = [e for e in epochs if e["study"] == condition and e["train_corpora"] == [corpus]]
            trained = STAGES["default"].settings(condition).training.epochs
            cells.append(_three(_mean([r["uar"] for r in mine if r["train_corpora"] == [corpus]])))
            cells.append(_three(_mean([e["dev_uar"] for e in own if is_late(e["epoch"], trained)])))
        cells.append(_minus(final, condition, "default"))
        cells.append(f"{_mean([r['parameters'] for r in mine]):,.0f}")
        cells += [f"{_mean([r[name] for r in mine]):.0f}" for name in ("search_seconds", "train_seconds")]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", *_taken(opened, "default")]


def _comparison(opened: reader.Results) -> list[str]:
    """Stage 2: pooled test UAR with intervals over speakers, and differences to the default (of methods from 3 on)."""
    rows = [r for r in opened.table("predictions").to_pylist() if r["role"] == "test" and r["stage"] == "final"]
    folds = _rows(opened, "2", "folds", role="test", stage="final")
    lines = [
        f"`{_COMMAND} 2`: {_count(folds, '2')}; pooled test UAR of the folds {_folds('2')}, mean over seeds, with "
        f"95 % intervals over speakers (the speakers of a RAVDESS fold share a model, so that its intervals are rather "
        f"too narrow); {_epochs_of('default', '2')}. Every system has one configuration; choices on dev: epochs of the "
        f"search or candidates that dev chose among, and epochs of the training. {_made_of(folds)}",
        "",
        "| system | seeds | EmoDB | difference | RAVDESS | difference | on dev | parameters | search s | train s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    tallies = {c: {k: _tallies(rows, k, c) for k in STAGES["2"].conditions} for c in CORPORA}
    for condition in STAGES["2"].conditions:
        mine = [r for r in folds if r["study"] == condition]
        if not mine:
            continue
        cells = [condition, ", ".join(str(len(tallies[c][condition])) for c in CORPORA)]
        for corpus in CORPORA:
            own, default = tallies[corpus][condition], tallies[corpus]["default"]
            cells.append(_interval(interval(own)) if own else "-")
            comparable = own and default and condition != "default"
            cells.append(_interval(compare_systems(own, default), "+") if comparable else "-")
        cells.append(_choices(condition, _rows(opened, "2", "epochs", study=condition, phase="search")))
        cells.append(f"{_mean([r['parameters'] for r in mine]):,.0f}")
        cells += [f"{_mean([r[name] for r in mine]):.0f}" for name in ("search_seconds", "train_seconds")]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", *_taken(opened, "2")]


def _taken(opened: reader.Results, stage: str) -> list[str]:
    """Which operations searches took: their shares of the edges that were searched."""
    genotypes = _rows(opened, stage, "genotypes")
    lines = [
        "Operations taken, as shares of the edges of the CNN cells, and of the sequence cell:",
        "",
        "| system | CNN | sequence |",
        "|---|---|---|",
    ]
    for condition, about in STAGES[stage].conditions.items():
        found = [Genotype.from_json(r["genotype"]) for r in genotypes if r["study"] == condition]
        if about.system == "emodarts" and found:
            cnn = Counter(e.operation for g in found for cell in (g.normal, g.reduction) for node in cell for e in node)
            sequence = Counter(e.operation for g in found for node in g.sequence for e in node)
            lines.append(f"| {condition} | {_shares(cnn)} | {_shares(sequence)} |")
    return lines


def _shares(counted: Counter[str]) -> str:
    return ", ".join(f"{name} {count / counted.total():.0%}" for name, count in counted.most_common())


def _choices(condition: str, searched: list[dict[str, Any]]) -> str:
    """Among how many epochs of a search (or candidates), and of a training, dev chose."""
    settings = STAGES["2"].settings(condition)
    late = [sum(is_late(epoch, s.epochs) for epoch in range(s.epochs)) for s in (settings.search, settings.training)]
    if not settings.searches:
        return str(late[1])
    if settings.search.method == "random_search":
        units = {(r["sweep"], r["fold"], r["seed"]) for r in searched}
        return f"{len(searched) / max(1, len(units)):.1f} + {late[1]}"
    return f"{late[0]} + {late[1]}"


def _epochs_of(condition: str, stage: str) -> str:
    settings = STAGES[stage].settings(condition)
    return f"{settings.search.epochs} epochs of search, {settings.training.epochs} of training"


def _made_of(rows: list[dict[str, Any]]) -> str:
    """The commits that the rows were made with."""
    made = sorted({str(r["git_revision"]) for r in rows})
    return f"Commit {', '.join(made)}."


def _tallies(rows: list[dict[str, Any]], condition: str, corpus: str) -> list[Tally]:
    """One tally for each seed of which every fold is there."""
    mine = [r for r in rows if r["study"] == condition and r["sweep"] == f"evidence-2-{corpus}"]
    found = []
    for seed in sorted({r["seed"] for r in mine}):
        own = [r for r in mine if r["seed"] == seed]
        if {r["fold"] for r in own} != set(STAGES["2"].folds[corpus]):
            continue
        classes = own[0]["classes"]
        indices = ([classes.index(r[name]) for r in own] for name in ("label", "predicted"))
        found.append(Tally.of([r["speaker"] for r in own], *indices, len(classes)))
    return found


def _rows(opened: reader.Results, stage: str, table: str, /, **wanted: str) -> list[dict[str, Any]]:
    sweeps = {f"evidence-{stage}-{corpus}" for corpus in CORPORA}
    rows = opened.table(table).to_pylist()
    return [r for r in rows if r["sweep"] in sweeps and all(r[k] == v for k, v in wanted.items())]


def _last_epochs(epochs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    last: dict[Any, dict[str, Any]] = {}
    for row in epochs:
        key = (row["sweep"], row["fold"], row["seed"])
        if key not in last or row["epoch"] > last[key]["epoch"]:
            last[key] = row
    return list(last.values())


def _count(rows: list[dict[str, Any]], stage: str) -> str:
    units = {(r["sweep"], r["study"], r["fold"], r["seed"]) for r in rows}
    return f"{len(units)} of {len(units_of(stage))} units"


def _folds(stage: str) -> str:
    return ", ".join(f"{NAMES[c]} {' '.join(map(str, folds))}" for c, folds in STAGES[stage].folds.items())


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _three(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}".replace("0.", ".", 1)


def _two(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def _interval(found: Interval, sign: str = "") -> str:
    numbers = (f"{x:{sign}.3f}".replace("0.", ".", 1) for x in (found.value, found.low, found.high))
    return "{} [{}, {}]".format(*numbers)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*STAGES, "tables"])
    parser.add_argument("--results", default="evidence")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--hours", type=float, default=None)
    given = parser.parse_args()
    if given.what == "tables":
        return write_tables(given.results)
    left = run(given.what, given.results, given.workers, given.hours)
    print(f"{left} units left: the same command goes on" if left else "complete: now `tables`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
