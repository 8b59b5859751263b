"""`sweep.inner`: trials are judged on inner splits, raced, and the best then run on the fold's own parts."""

from dataclasses import replace

import numpy as np
import pytest
from optuna.trial import TrialState

from emodarts.errors import EmodartsError
from emodarts.records import TrialRecord
from emodarts.results import reader
from emodarts.results.winners import rank_configurations, winners
from sweeps.settings import Settings, SweepSettings
from sweeps.study.pruners import check_race, race_should_stop
from sweeps.units.outcomes import UnitOutcome, unit_id, unit_title
from sweeps.units.study_queue import units_per_fold
from tests.support.studies import _uar, begin, commit, fault_counts, rows, rows_of, run_all

SWEEP = {"folds": (0, 1), "trials": 4, "inner": 3, "top": 2, "sampler": "random"}


def units_of(queue):
    return [(u.fold, u.trial, u.seed, u.inner) for u in queue.outcomes]


def run_with(queue, right, order=None):
    """Run all; `right(trial, inner)`: how many of four dev utterances a unit of the first seed has right."""
    while (unit := queue.next_unit()) is not None:
        if order is not None:
            order.append((unit.key.trial, unit.key.seed, unit.key.inner))
        queue.on_unit_end(unit, commit(queue, unit, right(unit.key.trial, unit.key.inner)))
    return queue


def test_trials_run_on_the_splits_and_the_best_on_the_folds_own_parts(tmp_path):
    queue = begin(tmp_path, **SWEEP, seeds=2)
    requested = queue.units_total
    assert requested == 2 * units_per_fold(queue.settings) == 2 * (4 * 3 + 2 + 1)
    run_all(queue)
    assert queue.complete
    assert queue.finished
    assert queue.units_total == queue.units_ended == requested - queue.units_spared
    for fold in (0, 1):
        by_value = {t: v for s, t, seed, _, status, v in rows(tmp_path) if (s, seed) == (f"fold{fold}", 0) and v}
        best = sorted(by_value, key=lambda trial: (-by_value[trial][0], trial))
        for trial, (value,) in by_value.items():
            assert value == np.mean([_uar((trial * 7 + fold + 3 * split) % 5) for split in range(3)])
        own = sorted((trial, seed) for f, trial, seed, inner in units_of(queue) if f == fold and inner is None)
        assert own == sorted([(best[0], 0), (best[1], 0), (best[0], 1)])
        assert len([1 for f, _, seed, inner in units_of(queue) if f == fold and inner is not None and seed]) == 0
    opened = reader.open(tmp_path)
    assert {(w.study, w.trial) for w in winners(opened)} == {(s, queue.history.winner(s)) for s in queue.folds}
    assert rows(tmp_path) == rows_of(begin(tmp_path, **SWEEP, seeds=2))
    assert begin(tmp_path, **SWEEP, seeds=2).units_total == queue.units_total
    again = begin(tmp_path, **{**SWEEP, "top": 3}, seeds=2)
    assert not again.complete, "a further member has not run on the folds' own parts"
    assert all(u[3] is None for u in set(units_of(run_all(again))) - set(units_of(queue)))


def test_the_units_of_a_split_have_names_seeds_and_folds_of_their_own(tmp_path):
    queue = begin(tmp_path, **{**SWEEP, "folds": (0,), "trials": 1})
    units = []
    while (unit := queue.next_unit()) is not None:
        units.append(unit)
        queue.on_unit_end(unit, commit(queue, unit))
    assert [u.key.inner for u in units] == [0, 1, 2, None]
    assert [u.key.fold_hash for u in units] == ["h0", "h1", "h2", "h"]
    assert len({u.random_seed for u in units}) == len({u.key.name for u in units}) == 4
    assert [unit_title(u.key) for u in units[2:]] == ["trial 0 · fold 0 · split 2", "trial 0 · fold 0"]
    plain = begin(tmp_path / "plain", folds=(0,), trials=1).next_unit()
    assert (plain.random_seed, plain.key) == (units[3].random_seed, units[3].key), "as in a sweep without splits"


def test_a_race_stops_what_is_clearly_behind_and_keeps_what_is_good(tmp_path):
    """Four utterances a split: trial 3 is better everywhere, trial 4 as good, 5 and 6 are worse everywhere."""
    figures = {0: (2, 3, 2), 1: (3, 3, 2), 2: (2, 3, 3), 3: (4, 4, 4), 4: (4, 4, 4), 5: (0, 0, 0), 6: (0, 1, 0)}

    def right(trial, inner):
        return 2 if inner is None else figures[trial][inner]

    sweep = {**SWEEP, "folds": (0,), "trials": 7}
    queue = run_with(begin(tmp_path, **sweep), right)
    assert queue.complete
    statuses = {t.trial: t.status for t in reader.open(tmp_path).trials()}
    assert [statuses[trial] for trial in (0, 1, 2, 3, 4)] == ["complete"] * 5
    assert (statuses[5], statuses[6]) == ("pruned", "pruned")
    assert queue.units_ended == queue.units_total == 7 * 3 + 2 - queue.units_spared
    assert queue.units_spared == 7 * 3 - sum(inner is not None for *_, inner in units_of(queue)) >= 2
    assert sorted(trial for _, trial, _, inner in units_of(queue) if inner is None) == [3, 4]
    (row,) = [t for t in reader.open(tmp_path).trials() if t.trial == 5]
    assert row.reason.startswith("behind in the race after 1 inner splits, with 0.000")
    assert row.values == ()
    pruned = queue.studies["fold0"].study.trials[5]
    assert (pruned.state, pruned.intermediate_values) == (TrialState.PRUNED, {0: 0.0})
    again = begin(tmp_path, **sweep)
    assert [t.intermediate_values for t in again.studies["fold0"].study.trials] == [
        t.intermediate_values for t in queue.studies["fold0"].study.trials
    ]
    assert [t.state for t in again.studies["fold0"].study.trials] == [
        t.state for t in queue.studies["fold0"].study.trials
    ]
    decisions = [(r.trial, r.rung, r.phase, r.pruned) for r in reader.open(tmp_path).rungs() if r.trial == 5]
    assert decisions == [(5, 0, "inner", True)]


def test_the_race_is_an_analysis_of_variance_in_blocks():
    """By hand: (2, 2) and (0, 1) leave residuals of .25, one degree of freedom: s = .5, and t = 6.31 at .05."""
    best = [[2.0, 2.0], [0.0, 1.0]]
    assert not race_should_stop([-2.4], best, 1)
    assert race_should_stop([-2.5], best, 1), "6.31 s sqrt(2) = 4.46 behind 2"
    assert race_should_stop([-1.16, -1.16], best, 1), "on two splits 6.31 s = 3.16 is enough"
    assert not race_should_stop([-1.15, -1.15], best, 1)
    assert not race_should_stop([-100.0], best, 3), "too few have all splits"
    assert not race_should_stop([-100.0], best[:1], 1)
    assert race_should_stop([-4.47], best, 2), "behind the second, too"
    assert not race_should_stop([-4.46], best, 2)


@pytest.mark.parametrize("survivors", [1, 5])
def test_in_simulated_races_the_best_stay_and_the_worst_go(survivors):
    """40 configurations whose true figures differ by .05, seen on 5 splits through a luck of .04 a split."""
    stopped_best = stopped_worst = units = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        true, hardness = rng.normal(0.7, 0.05, 40), rng.normal(0, 0.1, 5)
        seen = true[:, None] + hardness + rng.normal(0, 0.04, (40, 5))
        whole, stopped = [], set()
        for number in range(40):
            for split in range(1, 6):
                units += 1
                order = sorted(whole, key=lambda n: -seen[n].mean())
                if split < 5 and race_should_stop(seen[number, :split], [seen[n] for n in order], survivors):
                    stopped.add(number)
                    break
            else:
                whole.append(number)
        stopped_best += int(true.argmax()) in stopped
        stopped_worst += int(true.argmin()) in stopped
    assert stopped_best <= 6
    assert stopped_worst >= (50 if survivors == 1 else 45)
    assert units < (0.7 if survivors == 1 else 0.85) * 60 * 40 * 5


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_driver_that_dies_after_every_unit_goes_on(tmp_path, seeds):
    queue = begin(tmp_path / "killed", **SWEEP, seeds=seeds)
    while (unit := queue.next_unit()) is not None:
        commit(queue, unit)  # the worker's; the driver dies before it hears of it
        queue = begin(tmp_path / "killed", **SWEEP, seeds=seeds)
    assert queue.complete
    whole = run_all(begin(tmp_path / "whole", **SWEEP, seeds=seeds))
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert sorted(map(str, queue.outcomes)) == sorted(map(str, whole.outcomes))


def test_a_place_strikes_a_unit_on_the_folds_own_parts_and_it_runs_again(tmp_path):
    queue = begin(tmp_path, **{**SWEEP, "folds": (0,), "trials": 1})
    for _ in range(3):
        unit = queue.next_unit()
        queue.on_unit_end(unit, commit(queue, unit))
    final = queue.next_unit()
    assert not queue.complete
    queue.on_unit_struck(final)
    assert queue.next_unit() == final
    assert fault_counts(queue)["retries"] == 1
    queue.on_unit_interrupted(final)
    assert not queue.complete
    again = begin(tmp_path, **{**SWEEP, "folds": (0,), "trials": 1})
    assert again.next_unit() == final
    again.on_unit_end(final, commit(again, final))
    assert again.complete


@pytest.mark.parametrize("dies", [False, True])
def test_what_fails_on_the_folds_own_parts_is_no_winner(tmp_path, dies):
    sweep = {**SWEEP, "folds": (0,), "top": 0}
    queue = run_until_final(begin(tmp_path, **sweep))
    first = queue.next_unit()
    assert first.key.trial == queue.history.winner("fold0")
    queue.writer.commit_ended(first.key, "failed", "NaN", (), "x")
    if dies:
        queue = begin(tmp_path, **sweep)
    else:
        queue.on_unit_end(first, UnitOutcome("failed", reason="NaN"))
    second = queue.next_unit()
    assert second.key.inner is None
    assert second.key.trial == queue.history.winner("fold0") != first.key.trial
    queue.on_unit_end(second, commit(queue, second))
    assert queue.complete
    opened = reader.open(tmp_path)
    (failed,) = [t for t in opened.trials() if t.status == "failed"]
    assert (failed.trial, failed.reason, failed.values) == (first.key.trial, "NaN", ())
    assert [w.trial for w in winners(opened)] == [second.key.trial]
    again = begin(tmp_path, **sweep, retry_failed=True)
    unit = again.next_unit()
    assert unit_id(unit.key) == unit_id(first.key)
    again.on_unit_end(unit, commit(again, unit))
    assert again.complete
    assert again.history.winner("fold0") == first.key.trial


def run_until_final(queue):
    """Run what is judged on inner splits."""
    while (unit := queue.next_unit()) is not None:
        if unit.key.inner is None:
            queue.requeue(unit)
            return queue
        queue.on_unit_end(unit, commit(queue, unit))
    raise AssertionError("no unit ran on the fold's own parts")


def test_a_failed_split_ends_its_configuration(tmp_path):
    queue = begin(tmp_path, **{**SWEEP, "folds": (0,), "trials": 2})
    unit = queue.next_unit()
    queue.writer.commit_ended(unit.key, "failed", "NaN", (), "x")
    queue.on_unit_end(unit, UnitOutcome("failed", reason="NaN"))
    run_all(queue)
    assert queue.complete
    assert [(trial, inner) for _, trial, _, inner in units_of(queue)] == [(0, 0), (1, 0), (1, 1), (1, 2), (1, None)]
    assert queue.units_total == 2 * 3 + 2 - 2, "one member fewer than requested"


def test_driver_and_tables_choose_alike_by_the_sizes_on_the_splits(tmp_path):
    """All are right alike: sizes decide, and those of the splits alone, whatever the fold's own parts make of them."""
    queue = begin(tmp_path, **{**SWEEP, "folds": (0,), "top": 1})
    sizes = {0: 9, 1: 5, 2: 7, 3: 5}
    base = queue.writer.commit

    def commit_sized(key, unit_records, attempt, place=None):
        size = sizes[key.trial] if key.inner is not None else 1000
        return base(key, replace(unit_records, parameters=size), attempt, place)

    queue.writer.commit = commit_sized
    while (unit := queue.next_unit()) is not None:
        commit(queue, unit, right=2)
        size = sizes[unit.key.trial] if unit.key.inner is not None else 1000
        queue.on_unit_end(unit, UnitOutcome("complete", _uar(2), size))
    ranking = rank_configurations(reader.open(tmp_path).parts[0])
    assert ranking["trial"].to_pylist() == queue.history.ranked("fold0") == [1, 3, 2, 0]
    assert ranking["size"].to_pylist() == [5, 5, 7, 9]
    assert queue.history.costs(TrialRecord("emodarts", "fold0", 1, 0, {}))["parameters"] == 5


@pytest.mark.parametrize(
    ("sweep", "reason"),
    [
        ({"inner": 1}, "one split is no division"),
        ({"inner": 3, "study_per": "sweep"}, "take sweep.study_per=fold"),
        ({"inner": 3, "pruner": "asha"}, "leave sweep.pruner=asha out"),
        ({"inner": 3, "objectives": ["dev_uar", "parameters"]}, r"sweep.objectives=\[dev_uar\]"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_sentence(sweep, reason):
    with pytest.raises(EmodartsError, match=f"sweep.inner={sweep['inner']}: .*{reason}"):
        check_race(SweepSettings(**sweep))


def test_without_splits_a_sweep_has_the_hash_that_it_had():
    plain = Settings().hashed_settings()
    assert "sweep.inner" not in plain
    split = replace(Settings(), sweep=SweepSettings(inner=3)).hashed_settings()
    assert split.pop("sweep.inner") == 3
    assert split == plain
    check_race(SweepSettings())
