"""The driver of a sweep: data, folds, lease, studies, Ray, and what is said at the end."""

import logging
import os
import shlex
import signal
import socket
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emodarts import corpora
from emodarts.corpora import labels as labelling
from emodarts.corpora import protocols
from emodarts.corpora.protocols import Fold
from emodarts.corpora.rules import NO_DEV
from emodarts.corpora.table import Corpus
from emodarts.errors import EmodartsError
from emodarts.experiment import choose_device, subsample_name
from emodarts.features import extractors
from emodarts.features import store as features
from emodarts.report.terminal import print_report
from emodarts.results import reader
from emodarts.results.lease import Lease
from emodarts.results.storage import Storage
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from sweeps import pruning, samplers
from sweeps.data import SweepData, write_corpus
from sweeps.settings import Settings
from sweeps.space import Space
from sweeps.studies import Studies
from sweeps.trial import Plan, run_unit

REPOSITORY = Path(__file__).resolve().parent.parent


def run_sweep(settings: Settings, console: Console) -> int:
    """Run, or go on with, the sweep that the settings name; 0 when it is complete. Raises EmodartsError."""
    space = Space.of(settings)
    samplers.check(settings.sweep, space)
    storage = Storage.open(settings.results)
    storage.check_writable()
    data = _prepare(settings, console)
    pruning.check(settings.sweep, settings.fold_settings, len(data.folds))
    name = settings.sweep_name
    with Lease(storage, name, on_lost=lambda: os.kill(os.getpid(), signal.SIGINT)):
        if storage.exists(f"{name}/sweep.json"):
            _check_data(reader.open(settings.results, name), data)
        about = {"protocol": data.protocol, "recordings": data.recordings}
        about["features.weights"] = extractors.identity(settings.features)
        register(storage, name, {**settings.hashed(), **about})
        writer = SweepWriter(storage, name)
        known = reader.open(settings.results, name)
        audit = write_corpus(writer, known, data, settings.corpus)
        _say_data(console, name, storage, data, audit)
        plan = Plan(
            name,
            settings.system_name,
            str(settings.results) if "://" in settings.results else storage.root,
            data.corpus.name,
            str(data.store.folder),
            data.folds,
            settings.fold_settings,
            space,
            settings.sweep.seed,
            settings.resources.device,
            settings.resources.cpus_per_fold,
        )
        studies = Studies(
            settings.sweep,
            space,
            space.default(settings.fold_settings),
            tuple(data.folds),
            writer,
            known,
            key_of=lambda unit: plan.key(asdict(unit)),
            rungs=pruning.rungs_of(settings.sweep, settings.fold_settings),
            system=settings.system_name,
        )
        interrupted = False
        if not studies.finished:
            interrupted = _run(settings, plan, studies, console)
    return _conclude(settings, name, studies, interrupted, console)


def _prepare(settings: Settings, console: Console) -> SweepData:
    """Read, check the protocol, extract features, and make the folds of what could be decoded."""
    corpus = corpora.read(settings.corpus)
    found = labelling.label(corpus.utterances, settings.corpus)
    made = protocols.make(settings.corpus, corpus.utterances, found)  # before hours of extraction
    if made[0].weakness == NO_DEV:
        raise EmodartsError(
            f"{made[0].protocol} has no dev part, so a sweep could choose nothing without its test speakers: it is "
            f"there for comparison with published figures; take one of {', '.join(protocols.protocols_of(corpus.name))}"
        )
    store = _features(settings, corpus, console)
    utterances = corpus.utterances.filter(pc.is_in(corpus.utterances["utterance"], store.utterances))
    labels = labelling.label(utterances, settings.corpus)
    if len(store.utterances) < corpus.utterances.num_rows:
        made = protocols.make(settings.corpus, utterances, labels)
    folds = _chosen(settings, made)
    for fold in folds.values():
        subsample_name(fold, settings.fold_settings)  # refuses one that is too small
    return SweepData(corpus, labels, folds, made, store)


def _features(settings: Settings, corpus: Corpus, console: Console) -> features.Store:
    columns = (TextColumn("features"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("features", total=corpus.utterances.num_rows)
        return features.build(
            corpus.utterances,
            corpus.root,
            settings.features,
            corpora.cache_folder() / "features",
            choose_device(settings.resources.device),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            say=lambda text: console.print(text, highlight=False, soft_wrap=True, markup=False),
        )


def _chosen(settings: Settings, made: tuple[Fold, ...]) -> dict[int, Fold]:
    wanted = range(len(made)) if settings.sweep.folds is None else settings.sweep.folds
    for index in wanted:
        if not 0 <= index < len(made):
            raise EmodartsError(f"sweep.folds={list(wanted)}: {made[0].protocol} has folds 0 to {len(made) - 1}")
    return {index: made[index] for index in sorted(set(wanted))}


def _check_data(known: reader.Results, data: SweepData) -> None:
    """Refuse to go on where the data are no longer those that the finished units saw."""
    for commit in known.commits:
        fold = data.folds.get(commit.key.fold)
        if fold is not None and fold.protocol == commit.key.protocol and fold.hash != commit.key.fold_hash:
            raise EmodartsError(
                f"sweep '{commit.key.sweep}': fold {fold.index} of {fold.protocol} was {commit.key.fold_hash}, now "
                f"{fold.hash}: files of the corpus have come or gone since; restore them or take another sweep.name"
            )


def _say_data(console: Console, name: str, storage: Storage, data: SweepData, audit: list[str]) -> None:
    left_out, dropped = sum(data.labels.left_out.values()), data.dropped
    first = next(iter(data.folds.values()))
    lines = [
        f"sweep {name} -> {storage.path(name)}",
        f"{data.corpus.name}: {len(data.labels.by_utterance)} utterances of {', '.join(data.labels.classes)}; "
        f"{left_out} of other classes left out, {len(dropped)} dropped; {data.protocol}, {len(data.folds)} folds",
    ]
    if first.weakness:
        lines.append(f"  {data.protocol}: {first.weakness}; every row says so")
    for reason, count in Counter(first.left_out.values()).most_common():
        lines.append(f"  {count} utterances in no part of fold {first.index}: {reason}")
    lines += [f"  dropped {row['path']}: {row['reason']}" for row in dropped[:5]]
    if len(dropped) > 5:
        lines.append(f"  and {len(dropped) - 5} more: see the corpora table")
    for line in [*lines, *audit]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _run(settings: Settings, plan: Plan, studies: Studies, console: Console) -> bool:
    """Run the units on Ray; whether somebody stopped it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    from sweeps.live import LiveTable

    for logger in ("ray", "ray.tune", "ray.train", "optuna"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    live = LiveTable(studies, console)
    asked = _Interrupt()
    with tempfile.TemporaryDirectory(prefix="emodarts-tune-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _start_ray(settings, console)
            signal.signal(signal.SIGTERM, asked)
            _fit(settings, plan, studies, live, folder)
        except KeyboardInterrupt:
            asked.seen = True
        finally:
            live.close()
            ray.shutdown()
    return asked.seen or not studies.finished


class _Interrupt:
    """SIGTERM is taken as Ctrl-C: Tune stops its trials, finished units stay."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, number: int, frame: Any) -> None:
        self.seen = True
        os.kill(os.getpid(), signal.SIGINT)


def _start_ray(settings: Settings, console: Console) -> None:
    import ray

    environment = {"OMP_NUM_THREADS": str(settings.resources.cpus_per_fold), "PYTHONPATH": str(REPOSITORY)}
    common: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {"env_vars": environment},
    }
    if settings.ray.address in (None, "local"):
        context = ray.init(address="local", include_dashboard=settings.ray.dashboard, **common)
        token = Path.home() / ".ray" / "auth_token"
        if token.exists():
            token.chmod(0o600)  # Ray makes it readable for everybody
    else:
        context = ray.init(address=settings.ray.address, **common)
    if context.dashboard_url:
        console.print(f"dashboard: http://{context.dashboard_url} (on {socket.gethostname()})", highlight=False)


def _fit(settings: Settings, plan: Plan, studies: Studies, live: Any, folder: str) -> None:
    from ray import tune

    from sweeps.scheduler import DEATHS, StopWithStudies, UnitScheduler, WorkerDeaths
    from sweeps.searcher import UnitSearcher

    resources = settings.resources
    gpus = resources.gpus_per_fold
    if gpus is None:
        gpus = 0.25 if choose_device(resources.device).startswith("cuda") else 0
    trainable = tune.with_resources(
        tune.with_parameters(run_unit, plan=plan), {"cpu": resources.cpus_per_fold, "gpu": gpus}
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=UnitSearcher(studies),
            scheduler=UnitScheduler(studies),
            num_samples=-1,
            reuse_actors=True,
            max_concurrent_trials=resources.workers,
            trial_name_creator=_trial_name,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="units",
            storage_path=folder,
            callbacks=[WorkerDeaths(studies), live],
            stop=StopWithStudies(studies),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=DEATHS - 1),
        ),
    )
    tuner.fit()


def _trial_name(trial: Any) -> str:
    unit = trial.config["unit"]
    return f"trial {unit['trial']} · fold {unit['fold']}" + (f" · seed {unit['seed']}" if unit["seed"] else "")


def _conclude(settings: Settings, name: str, studies: Studies, interrupted: bool, console: Console) -> int:
    print_report(reader.open(settings.results, name), console)
    command = shlex.join(["python", *sys.argv])
    if studies.stopped:
        console.print(
            f"{studies.stopped}. Nothing is lost: once that is mended, go on with {command}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
        return 1
    if studies.has_failed or (studies.complete and studies.none_complete):
        console.print("every configuration fails (see also sweep.max_failures); the reasons stand above")
        return 1
    if studies.complete:
        console.print(f"next: emodarts report {shlex.quote(settings.results)}", highlight=False, soft_wrap=True)
        return 0
    why = "stopped" if interrupted else "sweep.hours are over"
    console.print(f"{why}; what is finished is kept. To go on: {command}", highlight=False, soft_wrap=True)
    return 130 if interrupted else 0
