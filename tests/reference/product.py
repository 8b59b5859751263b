"""All that the reference figures know of the product: how a command is run, and the names of tables and columns.

The digests have names of their own. Whoever renames a module, a column, a dimension or a word in a table edits the
right-hand side here (and the overrides in `units.toml`), never `digests.json`.
"""

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torchaudio
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from rich.console import Console
from torchaudio.pipelines import Wav2Vec2Bundle

from emodarts.audit import cues
from emodarts.features.settings import BUNDLES, Bundle
from emodarts.results import reader
from sweeps.hydra_config import from_hydra, register_schema, with_chosen_groups
from sweeps.settings import Settings
from sweeps.sweep import run_sweep

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "sweeps" / "conf"
PACKAGES = ("emodarts", "sweeps")  # whose seeds have labels
SEED_FUNCTION = "derive_seed"

# Tables, and their columns: the name in the digests -> the product's.
TABLES = {
    name: name for name in ("trials", "rungs", "folds", "predictions", "epochs", "genotypes", "importances", "corpora")
}
RUN = {name: name for name in ("system", "study", "trial", "seed", "fold")}
EPOCH = {
    "phase": "phase",
    "epoch": "epoch",
    "train_loss": "train_loss",
    "alpha_loss": "alpha_loss",
    "dev_loss": "dev_loss",
    "dev_uar": "dev_uar",
    "dev_war": "dev_war",
    "alpha_entropy": "entropy",
    "alpha_margin": "top2_margin",
    "skip_connections": "skip_connections",
    "alpha_distance": "alphas_moved",
    "discretised_dev_uar": "discretised_dev_uar",
    "search_macs": "macs",
}
PART = {
    "stage": "stage",
    "epoch_rule": "epoch_rule",
    "role": "role",
    "test_set": "test_set",
    "normalisation": "normalisation",
}
FIGURES = {"n": "n", "uar": "uar", "war": "war", "macro_f1": "macro_f1", "absent_classes": "absent_classes"}
CONDITIONS = {
    "fold_hash": "fold_hash",
    "classes": "classes",
    "corpora": "train_corpora",
    "subsample": "subsample",
    "caveat": "protocol_caveat",
    "genotype_from": "genotype_from",
}
SIZES = {"parameters": "parameters", "macs": "macs"}
PREDICTION = {
    "utterance": "utterance",
    "speaker": "speaker",
    "label": "label",
    "predicted": "predicted",
    "probabilities": "probabilities",
}
GENOTYPE = {"genotype": "genotype", "derived_at": "derived_at"}
GENOTYPE_CELLS = {"normal": "normal", "reduction": "reduction", "sequence": "sequence"}
GENOTYPE_EDGE = {"operation": "operation", "source": "source"}
GENOTYPE_POOLING = "pooling"
TRIAL = {
    "system": "system",
    "study": "study",
    "trial": "trial",
    "seed": "seed",
    "status": "status",
    "values": "values",
}
TRIAL_PARAMETERS, TRIAL_TIME = "parameters", "proposed_at"
RUNG = {
    "system": "system",
    "study": "study",
    "trial": "trial",
    "seed": "seed",
    "fold": "fold",
    "rung": "rung",
    "phase": "phase",
    "fraction": "fraction",
    "value": "value",
    "pruned": "pruned",
}
IMPORTANCE = {"system": "system", "study": "study", "value": "value"}
IMPORTANCE_DIMENSION = "parameter"
CORPUS = {"corpus": "corpus", "utterances": "utterances"}
CORPUS_DROPPED = "dropped"

# Dimensions of sweeps: the product's name -> the name in the digests. The order of the product's names is the order of
# the draws, so that `test_reference.py` watches it, too.
DIMENSIONS = {
    "batches.frequency_masks": "frequency_masks",
    "batches.time_masks": "time_masks",
    "search.alpha_learning_rate": "alpha_learning_rate",
    "search.cells": "cells",
    "search.channels": "channels",
    "search.epochs": "search_epochs",
    "search.learning_rate": "learning_rate",
    "search.nodes": "nodes",
    "search.seqnn": "sequence_family",
    "search.unrolled": "second_order",
    "training.batch_size": "batch_size",
    "training.depth": "depth",
    "training.dropout": "dropout",
    "training.label_smoothing": "label_smoothing",
    "training.layer": "layer",
    "training.learning_rate": "training_learning_rate",
    "training.loss": "loss",
    "training.mixup": "mixup",
    "training.sequence_rate": "sequence_rate",
    "training.svm_penalty": "svm_penalty",
    "training.weight_decay": "training_weight_decay",
    "training.width": "width",
}
# Words in the tables that were renamed: the product's word -> the word in the digests. Words that are not here are the
# same in both.
WORDS: dict[str, str] = {}

# A small encoder for features of a pre-trained one: its name among torchaudio's bundles, and its sizes.
ENCODER = "REFERENCE_BASE"
_ENCODER_SIZES = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 16,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 16,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.0,
    "aux_num_out": None,
}


def run_command(overrides: Sequence[str], folder: Path) -> None:
    """Run what `python sweeps/run.py OVERRIDES` would run, in this process; `folder` has the corpora and the cache.

    The forests of the audit are smaller than in a command of its own, so that a unit takes a second. Raises
    RuntimeError where the sweep did not come to its end, with what it said.
    """
    said = io.StringIO()
    with _environment(folder), _small_audit(), _encoder():
        settings = _compose(overrides)
        code = run_sweep(settings, Console(file=said, width=100, markup=False), list(overrides))
    if code != 0:
        raise RuntimeError(f"{' '.join(overrides)} ended with code {code}: {said.getvalue()[-2000:]}")


def read_tables(results: Path) -> list[dict[str, list[dict[str, Any]]]]:
    """The rows of each table, by its name in the digests, of each sweep that lies in the results."""
    opened = reader.open(str(results))
    return [
        {name: part.table(table).to_pylist() for name, table in TABLES.items()}
        for part in (reader.open(str(results), sweep=sweep) for sweep in sorted(opened.sweeps))
    ]


def write_encoder(file: Path) -> None:
    """The weights of the small encoder, drawn from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = torchaudio.models.wav2vec2_model(**_ENCODER_SIZES).eval()
    torch.save(model.state_dict(), file)


def _compose(overrides: Sequence[str]) -> Settings:
    """The settings of a command, as Hydra composes them for it."""
    register_schema()
    with initialize_config_dir(str(CONFIGURATION), version_base="1.3"):
        config = compose("config", list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        try:
            return from_hydra(with_chosen_groups(config))
        finally:
            HydraConfig.instance().cfg = None


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """The environment of a command without what this machine sets for sweeps, with a cache and corpora in a folder."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("EMODARTS_", "RAY_")):
            del os.environ[name]
    os.environ["EMODARTS_CACHE"], os.environ["EMODARTS_CORPORA"] = str(folder / "cache"), str(folder / "corpora")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _small_audit() -> Iterator[None]:
    trees, cues.TREES = cues.TREES, 1
    try:
        yield
    finally:
        cues.TREES = trees


@contextmanager
def _encoder() -> Iterator[None]:
    """The small encoder among those that a setting may name."""
    BUNDLES[ENCODER] = Bundle(_ENCODER_SIZES["encoder_num_layers"], _ENCODER_SIZES["encoder_embed_dim"])
    bundle = Wav2Vec2Bundle("reference_base.pth", _ENCODER_SIZES, 16000, False, "Wav2Vec2")
    setattr(torchaudio.pipelines, ENCODER, bundle)
    try:
        yield
    finally:
        del BUNDLES[ENCODER]
        delattr(torchaudio.pipelines, ENCODER)


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for corpora, features and results, deleted in the end."""
    return tempfile.TemporaryDirectory(prefix="reference-")
