"""The rule for a winner, `rank_on_dev`: best UAR on dev, ties by fewer parameters, then by the lower trial number."""

import numpy as np
import pytest

from emodarts.records import TrialRecord
from emodarts.results import reader
from emodarts.results.constraints import Constraint
from emodarts.results.ensembles import choose_ensembles
from emodarts.results.reader import Results
from emodarts.results.statistics import best, nested_choice, shared_choice
from emodarts.results.sweep_file import register
from emodarts.results.winners import rank_configurations, rank_on_dev, winners
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from sweeps.units.trial_history import TrialHistory
from tests.support.unit_records import key, records

NAN = float("nan")


def test_best_on_dev_then_fewer_parameters_then_lower_number():
    assert rank_on_dev([0.5, 0.7, 0.6], [1, 9, 1]).tolist() == [1, 2, 0]
    assert rank_on_dev([0.5, 0.5, 0.6], [2, 1, 3]).tolist() == [2, 1, 0]
    assert rank_on_dev([0.5, 0.5, 0.5], [2, 2, 1], [7, 3, 9]).tolist() == [2, 1, 0]
    assert rank_on_dev([0.5, 0.5], [1, 1]).tolist() == [0, 1]


def test_what_is_not_known_comes_last():
    assert rank_on_dev([NAN, 0.1, 0.1], [1, NAN, 5]).tolist() == [2, 1, 0]
    assert rank_on_dev([], [], []).tolist() == []


def test_nothing_measured_is_nothing_to_choose():
    with pytest.raises(ValueError, match="no configuration has a dev figure"):
        best([NAN, NAN], [1, 2])


@pytest.mark.parametrize("seed", range(5))
def test_every_choice_is_by_the_same_rule(tmp_path, seed):
    """The tables, the driver's history and the statistics agree, where many figures and sizes are equal."""
    rng = np.random.default_rng(seed)
    right, sizes = rng.integers(0, 5, 12), rng.integers(1, 4, 12)
    storage = Storage.open(tmp_path)
    register(storage, "s", {})
    writer = SweepWriter(storage, "s")
    for trial in rng.permutation(12).tolist():
        writer.commit(key(trial), records(right[trial], 2, size=int(sizes[trial])), "x")
        values = (right[trial] / 4,)
        writer.write_trial(TrialRecord("emodarts", "fold0", trial, 0, {"a": 1}, "complete", values=values))
    results = reader.open(tmp_path)
    order = sorted(range(12), key=lambda trial: (-right[trial], sizes[trial], trial))
    assert rank_configurations(results.parts[0])["trial"].to_pylist() == order
    assert [(w.trial, w.dev_uar, w.of) for w in winners(results)] == [(order[0], right[order[0]] / 4, 12)]
    history = TrialHistory(writer, results, "emodarts", {"fold0": (0,)})
    assert history.winner("fold0") == order[0]
    assert best(right / 4, sizes) == shared_choice(right[:, None] / 4, sizes) == order[0]
    assert nested_choice(right[:, None] / 4, sizes).tolist() == [order[0]]


def test_a_study_without_complete_configurations_has_no_winner(tmp_path):
    writer = SweepWriter(Storage.open(tmp_path), "s")
    assert TrialHistory(writer, Results(()), "emodarts", {"fold0": (0,)}).winner("fold0") is None


def test_what_breaks_a_constraint_never_wins(tmp_path):
    """The tables and the driver's history agree: of networks of at most 2 parameters the best on dev."""
    right, sizes = [4, 3, 2, 3], [3, 2, 1, 9]
    storage, constraint = Storage.open(tmp_path), Constraint.parse("parameters <= 2")
    register(storage, "s", {"sweep.constraints": ["parameters<=2"]})
    writer = SweepWriter(storage, "s")
    for trial in range(4):
        writer.commit(key(trial), records(right[trial], 2, size=sizes[trial]), "x")
        values = (right[trial] / 4,)
        writer.write_trial(TrialRecord("emodarts", "fold0", trial, 0, {"a": 1}, "complete", values=values))
    results = reader.open(tmp_path)
    assert [(w.trial, w.dev_uar) for w in winners(results)] == [(1, 0.75)]
    (ensemble,) = choose_ensembles(rank_configurations(results.parts[0]), top=5)
    assert [trial for _, _, trial in ensemble.members] == [1, 2]
    history = TrialHistory(writer, results, "emodarts", {"fold0": (0,)}, [constraint])
    assert history.ranked("fold0") == [1, 2]
    assert history.costs(history.trials["fold0"][3, 0]) == {"parameters": 9, "macs": 5}
    assert constraint.violation({"parameters": 3}) == 0.5
    assert Constraint.parse("macs>=2e6").violation({"macs": 1e6}) == 0.5
