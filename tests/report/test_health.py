"""Section "Health of the sweep": planted ills of made sweeps are named, with what to do, and others are not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from emodarts.records import EpochRecord, TrialRecord
from emodarts.report.page import build_page
from emodarts.report.report_data import load_report_data
from emodarts.report.sections.health import find_health, luck_share, uar_noise
from emodarts.results import reader
from emodarts.results.statistics import Tally
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from tests.support.made_results import Made, unit

SPACE = {
    "sweep.space.search.nodes.low": 1,
    "sweep.space.search.nodes.high": 8,
    "sweep.space.training.learning_rate.low": 1e-4,
    "sweep.space.training.learning_rate.high": 1e-1,
    "sweep.space.training.learning_rate.log": True,
}


def sweep(root, dev, learning_rate, training, search=None, failed=0, pruned=0, importances=None, space=SPACE):
    """A sweep of 3 studies with `len(dev)` configurations each; `training`, `search`: dev UAR (entropy) by epoch."""
    made = Made("h-1", "h", folds=3, speakers=2, takes=10)
    storage = Storage.open(root)
    register(storage, made.name, {"corpus.name": "h", **space})
    writer = SweepWriter(storage, made.name)
    for fold in range(3):
        study = made.key("emodarts", fold).study
        for trial, value in enumerate(dev):
            records = unit(made, "emodarts", fold, 0.7, np.random.default_rng([fold, trial]))
            epochs = [EpochRecord("train", e, 1.0, 1.0, uar, 0.5, 0.1) for e, uar in enumerate(training)]
            for e, entropy in enumerate(search or ()):
                epochs.append(EpochRecord("search", e, 1.0, 1.0, 1 - value, 0.5, 0.1, 1.0, entropy, 0.1, 0))
            writer.commit(made.key("emodarts", fold, trial), replace(records, epochs=tuple(epochs)), "x")
            parameters = {"search.nodes": 3 + trial % 2, "training.learning_rate": learning_rate[trial]}
            writer.write_trial(TrialRecord("emodarts", study, trial, 0, parameters, "complete", values=(value,)))
        for number in range(failed):
            parameters = {"search.nodes": 8, "training.learning_rate": 1e-2}
            record = TrialRecord("emodarts", study, 100 + number, 0, parameters, "failed", "the loss is NaN")
            writer.write_trial(record)
        if importances:
            writer.write_importances("emodarts", study, importances)
    results = reader.open(root)
    findings = list(find_health(load_report_data(results), results.parts[0]))
    return {finding.what: finding for finding in findings}, results


FLAT, RISE = [0.5] * 16, list(np.linspace(0.3, 0.8, 16))
MIDDLE = [1e-2, 2e-3, 3e-3, 5e-3, 9e-3]


def test_a_healthy_sweep_has_nothing_to_mend(tmp_path):
    dev = [0.9, 0.75, 0.6, 0.45, 0.3]
    found, _ = sweep(tmp_path, dev, MIDDLE, FLAT, [2.0, 1.5, 1.0], importances={"search.nodes": 0.6, "x": 0.4})
    assert {what: f.advice for what, f in found.items() if f.advice and what != "supernet"} == {}
    assert {"dev noise", "learning curves", "alphas", "dimensions", "supernet", "time"} <= set(found)


def test_ills_are_named(tmp_path):
    found, results = sweep(
        tmp_path,
        [0.71, 0.70, 0.70, 0.69, 0.70],
        [1e-1, 2e-3, 3e-3, 5e-3, 9e-3],
        RISE,
        [2.0, 2.0, 1.99],
        failed=2,
        importances={"search.nodes": 0.99, "training.dropout": 0.01},
    )
    assert "best of 5 is mostly luck here: more seeds" in found["dev noise"].advice
    assert found["bounds"].seen == "3 of 3 winners have training.learning_rate at its bound 0.1"
    assert found["bounds"].advice == "move sweep.space.training.learning_rate.high beyond 0.1"
    by_name = {name.replace("space", "bounds"): value for name, value in SPACE.items()}  # sweep.dimensions=[...]
    named, _ = sweep(tmp_path / "named", [0.71, 0.7, 0.7, 0.69, 0.7], [1e-1, *MIDDLE[1:]], FLAT, space=by_name)
    assert named["bounds"].advice == "move sweep.bounds.training.learning_rate.high beyond 0.1"
    assert found["dimensions"].advice.startswith("fix training.dropout")
    assert found["learning curves"].advice == "train for longer: training.epochs"
    assert found["alphas"].advice.startswith("the alphas hardly move")
    assert "6 of 21 failed, 6 of them: the loss is NaN" in found["failures"].seen
    assert "search.nodes=8 (6 of 6)" in found["failures"].advice
    assert found["supernet"].advice  # its dev UAR is 1 minus that of the derived networks
    page = build_page(results)
    (section,) = (s for s in page.sections if s.title == "Health of the sweep")
    assert section.elements[0].text.startswith("h-1: 7 of 8 checks call for something; first: ")


def test_ranks_are_those_of_scipy(tmp_path):
    dev = [0.9, 0.5, 0.7, 0.6, 0.3]
    found, _ = sweep(tmp_path, dev, MIDDLE, FLAT, [2.0, 1.0])
    assert spearmanr([1 - x for x in dev], dev).statistic == pytest.approx(-1)
    assert "−1.000" in found["supernet"].seen


def test_noise_is_that_of_repeated_draws():
    rng = np.random.default_rng(0)
    labels, recalls = np.repeat(np.arange(4), 20), np.array([0.9, 0.8, 0.6, 0.5])
    uars = []
    for _ in range(3000):
        right = rng.random(80) < recalls[labels]
        uars.append(np.mean([right[labels == c].mean() for c in range(4)]))
    predicted = np.where(np.tile(np.arange(20), 4) < 20 * recalls[labels], labels, (labels + 1) % 4)
    tally = Tally.of(["s"] * 80, labels, predicted, 4)
    assert uar_noise(tally) == pytest.approx(np.std(uars), rel=0.06)


def test_share_of_luck():
    rng = np.random.default_rng(1)
    shares = [luck_share(rng.normal(0.7, 0.05, 10) + rng.normal(0, 0.05, 10), 0.05) for _ in range(2000)]
    assert np.median(shares) == pytest.approx(0.5, abs=0.05)
    assert luck_share([0.5, 0.5], 0.1) == 1
