"""Sweeps in tests: the command in a process of its own with Ray, or its driver in this one without, at once."""

import io
import json
import os
import pickle
import subprocess
import sys
from functools import cache

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from ray import cloudpickle
from rich.console import Console

from emodarts.audit import cues
from emodarts.corpora.arguments import with_grammar_files
from emodarts.errors import EmodartsError
from emodarts.results import reader
from sweeps.execution import local
from sweeps.hydra_config import from_hydra, register_schema, with_chosen_groups
from sweeps.sweep import run_sweep
from tests.support.files import REPOSITORY

RUN = [sys.executable, str(REPOSITORY / "sweeps" / "run.py")]
QUICK_WORKERS = {"RAY_worker_niceness": "0"}  # else they wait while other tests run
TINY = [
    "system=emodarts",
    "ray.dashboard=false",
    "features.n_mels=32",
    "search.epochs=1",
    "search.cells=2",
    "search.nodes=1",
    "search.channels=4",
    "search.sequence_width=8",
    "search.stem_channels=4",
    "search.sequence_operations=[none,skip_connect,lstm_1,rnn_1]",
    "training.epochs=1",
    "training.channels=4",
    "training.sequence_width=8",
]
_register_schema = cache(register_schema)  # once a process, as in the command
_SPACE = ["~sweep.space.training", "~sweep.space.batches"]
VARIED = [
    *_SPACE,
    "+sweep.space.search.epochs={low:1,high:2}",
    "+sweep.space.search.alpha_learning_rate={low:0.003,high:0.1,log:true}",
]
ONE_TRIAL = [*_SPACE, "sweep.trials=1"]


def manifest(root, results, *more):
    """What is asked of a sweep on `conftest.small_corpus`."""
    corpus = ["corpus=manifest", "corpus.class_set='angry,sad'", f"corpus.root={root}"]
    return [*corpus, "corpus.protocol=manifest/speaker4", *TINY, f"results={results}", *more]


def settings(*given):
    """The settings of a configuration."""
    _register_schema()
    with initialize_config_dir(str(REPOSITORY / "sweeps" / "conf"), version_base="1.3"):
        return from_hydra(compose("config", with_grammar_files(given)))


def of_command(*given):
    """The settings of a command as Hydra runs it."""
    _register_schema()
    with initialize_config_dir(str(REPOSITORY / "sweeps" / "conf"), version_base="1.3"):
        config = compose("config", with_grammar_files(given), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        try:
            return from_hydra(with_chosen_groups(config))
        finally:
            HydraConfig.instance().cfg = None


def variables(cache, **more):
    """The environment of a command, without what this machine sets for sweeps."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EMODARTS_", "RAY_"))}
    return {**kept, **QUICK_WORKERS, "EMODARTS_CACHE": str(cache), "OMP_NUM_THREADS": "1", **more}


def run(environment, *given, code=0, timeout=280):
    """What the command says in a process of its own."""
    done = subprocess.run([*RUN, *given], env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def run_here(environment, *given, code=0, address="none"):
    """What the driver says in this process, where it runs the units, too, with what would reach their workers.

    The audit's forests are small: they have tests of their own.
    """
    told, plain = io.StringIO(), local.run_unit_locally

    def run_unit_locally(unit, sweep, report):
        return plain(*pickle.loads(cloudpickle.dumps((unit, sweep))), report)

    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(environment):
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(local, "run_unit_locally", run_unit_locally)
        patch.setattr(cues, "TREES", 2)
        try:
            found = run_sweep(
                of_command(*given, f"ray.address={address}"), Console(file=told, width=80, markup=False), given
            )
        except EmodartsError as error:
            told.write(f"error: {error}")
            found = 1
    assert found == code, told.getvalue()
    return told.getvalue()


def comparable(results):
    """All rows without times and attempts."""
    loose = {"search_seconds", "train_seconds", "peak_memory_mb", "seconds", "proposed_at", "ended_at", "retries"}
    loose |= {"git_revision", "place"}  # somebody may edit a file meanwhile, and units run here or there
    opened = reader.open(results)
    rows = {}
    for name in ("trials", "folds", "predictions", "epochs", "genotypes"):
        table = opened.table(name)
        table = table.select([c for c in table.column_names if c not in loose])
        rows[name] = sorted(json.dumps(r, sort_keys=True) for r in table.to_pylist())
    return rows
