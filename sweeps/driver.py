"""The driver of a sweep: data, folds, lease, studies, Ray, and what is said at the end."""

import logging
import os
import shlex
import signal
import socket
import sys
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emodarts import corpora
from emodarts.corpora import labels as labelling
from emodarts.corpora import protocols
from emodarts.corpora.protocols import Fold
from emodarts.corpora.table import Corpus
from emodarts.errors import EmodartsError
from emodarts.experiment import choose_device
from emodarts.features import store as features
from emodarts.report.terminal import print_report
from emodarts.results import reader
from emodarts.results.lease import Lease
from emodarts.results.storage import Storage
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from sweeps.settings import Settings, Space
from sweeps.studies import Studies
from sweeps.trial import Plan, run_unit

REPOSITORY = Path(__file__).resolve().parent.parent


def run_sweep(settings: Settings, console: Console) -> int:
    """Run, or go on with, the sweep that the settings name; 0 when it is complete. Raises EmodartsError."""
    space = Space.of(settings)
    storage = Storage.open(settings.results)
    storage.check_writable()
    corpus = corpora.read(settings.corpus)
    found = labelling.label(corpus.utterances, settings.corpus)
    store = _features(settings, corpus, found, console)
    # Recordings that could not be decoded are gone now; what their class has left must still be enough.
    utterances = _with_ids(corpus.utterances, store.utterances)
    labels = labelling.label(utterances, settings.corpus)
    folds = _folds(settings, utterances, labels)
    name = settings.sweep_name
    with Lease(storage, name, on_lost=lambda: os.kill(os.getpid(), signal.SIGINT)):
        register(storage, name, {**settings.hashed(), "protocol": next(iter(folds.values())).protocol})
        writer = SweepWriter(storage, name)
        unknown = [asdict(row) for row in found.unknown]
        dropped = corpus.dropped.to_pylist() + [asdict(row) for row in store.dropped] + unknown
        writer.write_corpus(corpus.name, len(labels.by_utterance), dropped, found.left_out)
        _say_data(console, name, storage, corpus, labels, found.left_out, dropped, folds)
        known = reader.open(settings.results, name)
        _check_data(known, folds)
        default = space.default(settings.fold_settings)
        studies = Studies(settings.sweep, space.free, default, tuple(folds), writer, known)
        plan = Plan(
            name,
            str(settings.results) if "://" in settings.results else storage.root,
            corpus.name,
            str(store.folder),
            folds,
            settings.fold_settings,
            space,
            settings.sweep.seed,
            settings.resources.device,
            settings.resources.cpus_per_fold,
        )
        interrupted = False
        if not studies.finished:
            interrupted = _run(settings, plan, studies, console)
    return _conclude(settings, name, studies, interrupted, console)


def _features(settings: Settings, corpus: Corpus, labels: labelling.Labels, console: Console) -> features.Store:
    columns = (TextColumn("features"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("features", total=len(labels.by_utterance))
        return features.build(
            _with_ids(corpus.utterances, set(labels.by_utterance)),
            corpus.root,
            settings.features,
            corpora.cache_folder() / "features",
            choose_device(settings.resources.device),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _with_ids(utterances: pa.Table, ids: set[str]) -> pa.Table:
    return utterances.filter(pc.is_in(utterances["utterance"], pa.array(sorted(ids), pa.string())))


def _folds(settings: Settings, utterances: pa.Table, labels: labelling.Labels) -> dict[int, Fold]:
    made = protocols.make(settings.corpus.name, utterances, labels, settings.corpus.protocol)
    wanted = range(len(made)) if settings.sweep.folds is None else settings.sweep.folds
    for index in wanted:
        if not 0 <= index < len(made):
            raise EmodartsError(f"sweep.folds={list(wanted)}: {made[0].protocol} has folds 0 to {len(made) - 1}")
    return {index: made[index] for index in sorted(set(wanted))}


def _check_data(known: reader.Results, folds: dict[int, Fold]) -> None:
    """Refuse to go on where the data are no longer those that the finished units saw."""
    for commit in known.commits:
        fold = folds.get(commit.key.fold)
        if fold is not None and fold.hash != commit.key.fold_hash:
            raise EmodartsError(
                f"sweep '{commit.key.sweep}': fold {fold.index} of {fold.protocol} was {commit.key.fold_hash}, now "
                f"{fold.hash}: files of the corpus have come or gone since; restore them or take another sweep.name"
            )


def _say_data(
    console: Console,
    name: str,
    storage: Storage,
    corpus: Corpus,
    labels: labelling.Labels,
    words: dict[str, int],
    dropped: list[dict[str, str]],
    folds: dict[int, Fold],
) -> None:
    left_out = sum(words.values())
    protocol = next(iter(folds.values())).protocol
    lines = [
        f"sweep {name} -> {storage.path(name)}",
        f"{corpus.name}: {len(labels.by_utterance)} utterances of {', '.join(labels.classes)}; {left_out} of other "
        f"classes left out, {len(dropped)} dropped; {protocol}, {len(folds)} folds",
    ]
    lines += [f"  dropped {row['path']}: {row['reason']}" for row in dropped[:5]]
    if len(dropped) > 5:
        lines.append(f"  and {len(dropped) - 5} more: see the corpora table")
    for line in lines:
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
            num_samples=-1,
            reuse_actors=True,
            max_concurrent_trials=resources.workers,
            trial_name_creator=_trial_name,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="units",
            storage_path=folder,
            callbacks=[live],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
        ),
    )
    tuner.fit()


def _trial_name(trial: Any) -> str:
    unit = trial.config["unit"]
    return f"trial {unit['trial']} · fold {unit['fold']}" + (f" · seed {unit['seed']}" if unit["seed"] else "")


def _conclude(settings: Settings, name: str, studies: Studies, interrupted: bool, console: Console) -> int:
    print_report(reader.open(settings.results, name), console)
    command = shlex.join(["python", *sys.argv])
    if studies.complete:
        console.print(f"next: emodarts report {shlex.quote(settings.results)}", highlight=False, soft_wrap=True)
        return 0
    if studies.has_failed:
        console.print(
            f"stopped: every configuration fails (sweep.max_failures={settings.sweep.max_failures}); "
            "the reasons stand above"
        )
        return 1
    why = "stopped" if interrupted else "sweep.hours are over"
    console.print(f"{why}; what is finished is kept. To go on: {command}", highlight=False, soft_wrap=True)
    return 130 if interrupted else 0
