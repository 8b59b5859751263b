"""Units of a configuration that is settled beforehand: begun, killed and gone on with, without Ray and Optuna."""

import pytest

from emodarts.records import UnitRecords
from emodarts.results import reader
from emodarts.results.sweep_file import register
from emodarts.results.winners import winners
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from sweeps.settings import SweepSettings
from sweeps.units.checkpoint_folders import checkpoint_folder
from sweeps.units.fixed_queue import FixedConfigQueue
from sweeps.units.outcomes import UnitOutcome
from tests.support.studies import make_specs
from tests.support.unit_records import evaluation, records

SINGLE = {"fold0": (0,), "fold1": (1,)}
TOGETHER = {"published": (0, 1)}


def begin(root, folds, **sweep):
    storage = Storage.open(root)
    register(storage, "s", {})
    specs = make_specs((0, 1))
    return FixedConfigQueue(SweepSettings(**sweep), {}, folds, specs, SweepWriter(storage, "s"), reader.open(root))


def commit(units, unit, dev=True):
    base = records(fold=unit.key.fold).__dict__
    parts = [evaluation("dev", 3, fold=unit.key.fold)] if dev else []
    evaluations = (*parts, evaluation("test", 2, fold=unit.key.fold))
    units.writer.commit(unit.key, UnitRecords(**{**base, "evaluations": evaluations}), "x")
    return UnitOutcome("complete", 0.75 if dev else None, 10)


def run_all(units, dev=True):
    while (unit := units.next_unit()) is not None:
        units.on_unit_end(unit, commit(units, unit, dev))
    return units


def rows(root):
    return [(t.study, t.trial, t.seed, t.status, t.retries, t.values) for t in reader.open(root).trials()]


def test_one_configuration_with_each_seed_and_no_study(tmp_path):
    units = begin(tmp_path, SINGLE, seeds=2, trials=7)
    assert (units.units_total, units.complete, units.finished) == (4, False, False)
    run_all(units)
    assert units.complete
    assert units.finished
    assert units.studies == {}
    assert rows(tmp_path) == [(f"fold{f}", 0, s, "complete", 0, (0.75,)) for f in (0, 1) for s in (0, 1)]
    assert {(w.study, w.trial) for w in winners(reader.open(tmp_path))} == {("fold0", 0), ("fold1", 0)}


def test_beside_a_sweep_with_inner_splits_the_configuration_runs_on_the_folds_as_they_are(tmp_path):
    units = run_all(begin(tmp_path, SINGLE, inner=3))
    assert units.complete
    assert [unit.inner for unit in units.outcomes] == [None, None]


@pytest.mark.parametrize("ended", range(5))
def test_killed_at_any_moment_it_goes_on(tmp_path, ended):
    units = begin(tmp_path, TOGETHER, seeds=2)
    for _ in range(ended):
        if (unit := units.next_unit()) is not None:
            units.on_unit_end(unit, commit(units, unit, dev=False))
    if (begun := units.next_unit()) is not None:  # this one runs when the driver dies
        checkpoint_folder(units.writer.storage, begun.key).write("training.safetensors", b"of its first epoch")
    again = run_all(begin(tmp_path, TOGETHER, seeds=2), dev=False)
    assert again.complete
    assert again.units_ended == 4
    found = rows(tmp_path)
    assert [row[:4] for row in found] == [("published", 0, s, "complete") for s in (0, 1)]
    assert sum(row[4] for row in found) == (1 if ended < 4 else 0)
    assert begin(tmp_path, TOGETHER, seeds=2).next_unit() is None


def test_the_driver_died_before_a_configuration_s_last_row(tmp_path):
    units = begin(tmp_path, SINGLE)
    commit(units, units.next_unit())
    again = begin(tmp_path, SINGLE)
    assert rows(tmp_path)[0] == ("fold0", 0, 0, "complete", 0, (0.75,))
    assert [u.key.study for u in iter(again.next_unit, None)] == ["fold1"]


def test_more_folds_later(tmp_path):
    run_all(begin(tmp_path, {"published": (1,)}), dev=False)
    units = run_all(begin(tmp_path, TOGETHER), dev=False)
    assert units.complete
    assert rows(tmp_path) == [("published", 0, 0, "complete", 0, ())]


def test_without_a_dev_part_there_is_no_value_and_no_winner(tmp_path):
    units = run_all(begin(tmp_path, TOGETHER), dev=False)
    assert not units.none_complete
    assert winners(reader.open(tmp_path)) == ()


def test_a_failure_ends_its_configuration_alone(tmp_path):
    units = begin(tmp_path, SINGLE)
    first = units.next_unit()
    units.on_unit_failed(first, "a reason")
    run_all(units)
    assert [(t.status, t.reason) for t in reader.open(tmp_path).trials()] == [
        ("failed", "a reason"),
        ("complete", None),
    ]
    assert units.complete
    assert not units.should_prune(first, 0, ())
