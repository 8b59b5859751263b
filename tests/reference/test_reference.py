"""Figures of small units, to the digit: what a change of names or places must leave as it is (`reference/`)."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from tests.reference import probe, product, seed_labels, units
from tests.reference.difference import first_difference
from tests.support.files import REPOSITORY


@pytest.fixture(scope="module")
def recorded():
    return units.recorded()


@pytest.fixture(scope="module")
def runner(recorded):
    """Runs units on a CPU whose rounding is that of the one that made the digests."""
    if differing := probe.differing(recorded["rounding"]):
        pytest.skip(f"rounding of this CPU ({', '.join(differing)}) differs from the one that made the digests")
    with product.scratch_folder() as folder:
        yield units.UnitRunner(Path(folder))


@pytest.mark.slow(seconds=4)
@pytest.mark.parametrize("name", units.unit_names())
def test_figures_are_the_recorded_ones(runner, recorded, name):
    for package in runner.content["units"][name].get("packages", []):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    difference = first_difference(recorded["units"][name], json.loads(json.dumps(runner.run(name))))
    present = probe.versions()
    others = [f"{package} {present[package]}, not {old}" for package, old in recorded["packages"].items()
              if present[package] != old]  # fmt: skip
    assert difference is None, f"{name}: {difference}" + (f" (with {', '.join(others)})" if others else "")


def test_all_units_are_recorded(recorded):
    assert list(recorded["units"]) == units.unit_names()


def test_a_difference_is_named_where_it_first_is(recorded):
    digest = recorded["units"]["base"]
    changed = json.loads(json.dumps(digest))
    assert first_difference(digest, changed) is None
    run = next(iter(changed[0]["runs"]))
    changed[0]["runs"][run]["epochs"][1][2] += 1e-12
    changed[0]["runs"][run]["parameters"] = 1
    place = first_difference(digest, changed)
    assert place.startswith(f"0 > runs > {run} > epochs > search 1 > train_loss: ")
    before, after = (float(text.split()[0]) for text in place.split(": ")[-1].split(", "))
    assert after == before + 1e-12


def test_labels_of_seeds_are_the_recorded_ones():
    assert seed_labels.seed_labels(REPOSITORY) == json.loads(seed_labels.LABELS.read_text())


def test_dimensions_of_shipped_spaces_are_drawn_in_the_recorded_order():
    """Optuna draws in the order of the names: one that is renamed must not change places."""
    dimensions = set()
    for file in product.CONFIGURATION.rglob("*.yaml"):
        content = yaml.safe_load(file.read_text())
        for space in [content.get(name) or content.get("sweep", {}).get(name, {}) for name in ("space", "bounds")]:
            dimensions |= {f"{room}.{name}" for room, names in space.items() for name in names}
    assert [product.DIMENSIONS[name] for name in sorted(dimensions)] == [
        "frequency_masks",
        "time_masks",
        "alpha_learning_rate",
        "cells",
        "channels",
        "search_epochs",
        "learning_rate",
        "nodes",
        "sequence_family",
        "second_order",
        "batch_size",
        "depth",
        "dropout",
        "label_smoothing",
        "layer",
        "training_learning_rate",
        "loss",
        "mixup",
        "sequence_rate",
        "svm_penalty",
        "training_weight_decay",
        "width",
    ]
