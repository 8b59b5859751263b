"""Section "Robustness": rows of other conditions are shown there, and count nowhere else."""

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest
from sklearn.metrics import recall_score

from emodarts.report.page import build_page
from emodarts.report.tables import to_csv
from emodarts.results import reader
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from tests.support.made_results import Made, evaluation, unit, write

MADE = Made("r-1", "r", {"emodarts": 0.8}, folds=3, speakers=4, takes=5, trials=2)
CONDITIONS = {"noise20": 0.7, "noise0": 0.35}


def write_with_conditions(root, plain):
    """The sweep of `plain` with each unit's test part under two conditions beside it."""
    storage = Storage.open(root)
    register(storage, MADE.name, {"corpus.name": "r", "sweep.seed": 0, "robustness": ["noise"]})
    writer = SweepWriter(storage, MADE.name)
    for trial in range(MADE.trials):
        for fold in range(MADE.folds):
            records = unit(MADE, "emodarts", fold, 0.8 - 0.1 * trial, np.random.default_rng([0, trial, 0, fold]))
            evaluations = list(records.evaluations)
            for number, (condition, skill) in enumerate(CONDITIONS.items()):
                rng = np.random.default_rng([fold, number])
                noisy = evaluation(MADE, "r", "test", "r/test", skill, rng, fold)
                evaluations.append(replace(noisy, condition=condition))
            writer.commit(MADE.key("emodarts", fold, trial), replace(records, evaluations=tuple(evaluations)), "x")
    for trial in reader.open(plain).trials():
        writer.write_trial(trial)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    write(root / "plain", MADE)
    write_with_conditions(root / "noisy", root / "plain")
    return root / "plain", root / "noisy"


def sheets(root):
    return {t.name: t for t in build_page(reader.open(root)).tables_and_figures() if hasattr(t, "columns")}


def test_other_conditions_count_nowhere_else(roots):
    plain, noisy = map(sheets, roots)
    own = {"robustness-0"}
    assert set(noisy) - set(plain) == own
    about = {
        name for name in plain if name.startswith(("settings", "corpora", "health"))
    }  # of what is not written here
    for name in plain.keys() - about:
        assert to_csv(noisy[name]) == to_csv(plain[name]), name


def test_figures_are_those_of_the_tables(roots):
    rows = {row[1]: row for row in sheets(roots[1])["robustness-0"].rows}
    assert list(rows) == ["clean", "noise, 20 dB", "noise, 0 dB"]
    for condition, title in (("noise20", "noise, 20 dB"), ("noise0", "noise, 0 dB")):
        where = (pc.field("condition") == condition) & (pc.field("trial") == 0)
        table = reader.open(roots[1]).table("predictions", where=where).to_pandas()
        uar = recall_score(table["label"], table["predicted"], average="macro")
        clean = rows["clean"][2].value
        assert rows[title][2].value == pytest.approx(uar)
        assert rows[title][3].value == pytest.approx(uar - clean)
        assert rows[title][4] == pytest.approx((uar - 0.25) / (clean - 0.25))
