"""What to run next, without Ray: kill and restart at any moment."""

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from emodarts.errors import EmodartsError
from emodarts.records import EpochRecord
from emodarts.results import reader
from sweeps.study.search_space import SearchSpace
from sweeps.units.checkpoint_folders import checkpoint_folder
from sweeps.units.outcomes import UnitOutcome
from sweeps.units.system_queues import SystemQueues
from tests.support.studies import DEFAULT, RUNGS, SPACE, _uar, begin, commit, fault_counts, rows, rows_of, run_all
from tests.support.unit_records import records


@pytest.mark.parametrize("study_per", ["fold", "sweep"])
def test_a_whole_sweep(tmp_path, study_per):
    studies = run_all(begin(tmp_path, trials=4, study_per=study_per, seeds=3))
    assert studies.complete
    assert studies.finished
    found = rows(tmp_path)
    count = 3 if study_per == "fold" else 1
    assert len(found) == count * (4 + 2)
    assert all(status == "complete" for *_, status, _ in found)
    assert found[0][3] == DEFAULT
    for study in studies.folds:
        best = max(v[0] for s, _, seed, _, _, v in found if s == study and seed == 0)
        winner = studies.history.winner(study)
        assert (study, winner) in [(s, t) for s, t, seed, _, _, v in found if seed == 0 and v[0] == best]
        assert sorted(seed for s, t, seed, *_ in found if s == study and t == winner) == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("study_per", ["fold", "sweep"])
def test_further_seeds_of_the_members(tmp_path, study_per):
    asked = {"trials": 5, "study_per": study_per, "seeds": 3, "seeds_of": "members", "top": 2}
    studies = begin(tmp_path, **asked)
    folds = 1 if study_per == "fold" else 3
    while (unit := studies.next_unit()) is not None:  # the driver dies after every unit
        studies.on_unit_end(unit, commit(studies, unit))
        studies = begin(tmp_path, **asked)
    assert studies.complete
    assert studies.units_ended == studies.units_total == len(studies.folds) * folds * (5 + 2 * 2)
    for study in studies.folds:
        by_dev = sorted(
            (-v[0], trial)
            for s, trial, seed, _, status, v in rows(tmp_path)
            if (s, seed, status) == (study, 0, "complete")
        )
        members = {trial for _, trial in by_dev[:2]}
        assert members == set(studies.history.ranked(study)[:2])
        further = {(trial, seed) for s, trial, seed, *_ in rows(tmp_path) if s == study and seed}
        assert further == {(trial, seed) for trial in members for seed in (1, 2)}
    again = begin(tmp_path, **{**asked, "top": 3})
    assert not again.complete
    assert run_all(again).units_ended == len(studies.folds) * folds * (5 + 3 * 2)
    assert [t.values for t in again.studies[study].study.trials] == [
        t.values for t in studies.studies[study].study.trials
    ]


def test_fewer_trials_than_members(tmp_path):
    studies = run_all(begin(tmp_path, folds=(0,), trials=2, seeds=2, seeds_of="members"))
    assert studies.complete
    assert [(t, seed) for _, t, seed, *_ in rows(tmp_path)] == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.slow
def test_more_trials_later_continue_the_study(tmp_path):
    run_all(begin(tmp_path, trials=2))
    before = rows(tmp_path)
    run_all(begin(tmp_path, trials=4))
    after = rows(tmp_path)
    assert [r for r in after if r[1] < 2] == before
    whole = tmp_path / "whole"
    run_all(begin(whole, trials=4))
    assert rows(whole) == after


def test_each_study_hears_of_its_own_fold_only(tmp_path):
    studies = run_all(begin(tmp_path, trials=4))
    for fold in range(3):
        told = studies.studies[f"fold{fold}"].study.get_trials(deepcopy=False)
        assert [t.value for t in told] == [_uar((trial * 7 + fold) % 5) for trial in range(4)]


def test_failures_are_counted_and_end_the_sweep(tmp_path):
    studies = begin(tmp_path, trials=50, max_failures=3)
    while (unit := studies.next_unit()) is not None:
        studies.on_unit_end(unit, UnitOutcome("failed", reason="NaN loss"))
    assert studies.only_fails
    assert studies.finished
    assert [(s, r) for *_, s, r in rows(tmp_path)] == [("failed", ())] * 3


def test_time_is_up(tmp_path):
    now = [0.0]
    studies = begin(tmp_path, folds=(0,), clock=lambda: now[0], time_budget_hours=1.0)
    assert studies.next_unit() is not None
    now[0] = 3601
    assert studies.next_unit() is None
    assert not studies.finished  # one unit is still running


def test_rows_name_the_system(tmp_path):
    name = "emodarts:frozen:joint"
    studies = begin(tmp_path, folds=(0,), system=name, trials=1)
    unit = studies.next_unit()
    studies.on_unit_end(unit, commit(studies, unit))
    assert [t.system for t in reader.open(tmp_path).trials()] == [name]


def two_systems(root, **sweep):
    return SystemQueues([begin(root, folds=(0, 1), system=system, **sweep) for system in ("emodarts", "svm")])


def run_both(systems, failing=()):
    order = []
    while (unit := systems.next_unit()) is not None:
        order.append(unit.key.system)
        failed = UnitOutcome("failed", reason="it does")
        queue = systems.queue_of(unit)
        queue.on_unit_end(unit, failed if unit.key.system in failing else commit(queue, unit))
    return order


@pytest.mark.slow
def test_systems_take_turns_and_keep_their_own_rows(tmp_path):
    order = run_both(two_systems(tmp_path, trials=3))
    assert order == ["emodarts", "svm"] * 6
    again = two_systems(tmp_path, trials=3)
    assert again.complete
    assert again.units_ended == 12
    assert run_both(again) == []
    assert run_both(two_systems(tmp_path, trials=4)) == ["emodarts", "svm"] * 2
    alone = begin(tmp_path, folds=(0, 1), system="svm", trials=4)
    assert alone.complete
    assert {t.system for trials in alone.trials.values() for t in trials.values()} == {"svm"}


def test_a_system_that_only_fails_does_not_end_the_others(tmp_path):
    systems = two_systems(tmp_path, trials=4, max_failures=2)
    order = run_both(systems, failing=("svm",))
    assert order.count("emodarts") == 8
    assert order.count("svm") == 2
    assert systems.finished
    assert systems.failing == ["svm"]


def test_a_dead_worker_is_counted_and_a_finished_unit_stays_so(tmp_path):
    studies = begin(tmp_path, folds=(0,), trials=2)
    first, second = studies.next_unit(), studies.next_unit()
    studies.on_unit_struck(first)
    assert studies.next_unit() == first, "it is handed out again"
    commit(studies, first)  # it died after its commit
    studies.on_unit_failed(first, "its worker died")
    studies.on_unit_failed(second, "its worker died")
    assert [(c.key.trial, c.status) for c in reader.open(tmp_path).commits] == [(0, "complete"), (1, "failed")]
    assert [(t.status, t.retries) for t in reader.open(tmp_path).trials()] == [("complete", 1), ("failed", 0)]
    assert fault_counts(studies) == {"retries": 1, "failed": 1, "pruned": 0}
    assert rows(tmp_path) == rows_of(begin(tmp_path, folds=(0,), trials=2))


def test_a_struck_unit_waits_behind_the_others_and_a_parked_one_costs_no_retry(tmp_path):
    studies = begin(tmp_path, folds=(0, 1), trials=1, study_per="sweep")
    first, second = studies.next_unit(), studies.next_unit()
    studies.on_unit_struck(first)
    studies.requeue(second)
    assert [studies.next_unit(), studies.next_unit()] == [first, second]
    assert fault_counts(studies) == {"retries": 1, "failed": 0, "pruned": 0}
    studies.requeue(first)
    studies.on_unit_failed(second, "its worker died")
    assert not studies.finished, "the first one still has to run"
    studies.on_unit_end(studies.next_unit(), commit(studies, first))
    assert studies.complete


FAILED = UnitOutcome("failed", reason="no reason")


def fail(studies, unit):
    studies.writer.commit_ended(unit.key, "failed", "no reason", (), "x")
    studies.on_unit_end(unit, FAILED)


def test_units_that_failed_in_a_row_end_a_sweep_that_has_results(tmp_path):
    studies = begin(tmp_path, folds=(0,), trials=20, max_failures=3)
    for number in range(6):
        unit = studies.next_unit()
        if number == 2:
            studies.on_unit_end(unit, commit(studies, unit))
        else:
            fail(studies, unit)
    assert studies.fails_in_a_row
    assert studies.next_unit() is None
    assert studies.finished
    assert not studies.complete
    assert SystemQueues([studies]).failing_in_a_row == ["emodarts"]
    assert not SystemQueues([studies]).failing
    again = begin(tmp_path, folds=(0,), trials=20, max_failures=3)
    assert again.next_unit().key.trial == 6, "the next start counts anew"


def test_failed_units_run_again_when_they_are_asked_for(tmp_path):
    studies = begin(tmp_path, folds=(0, 1), trials=2, study_per="sweep")
    units = [studies.next_unit() for _ in range(4)]
    fail(studies, units[1])
    for unit in (units[0], units[2], units[3]):
        studies.on_unit_end(unit, commit(studies, unit))
    assert [t.status for t in reader.open(tmp_path).trials()] == ["failed", "complete"]
    assert begin(tmp_path, folds=(0, 1), trials=2, study_per="sweep").complete
    again = begin(tmp_path, folds=(0, 1), trials=2, study_per="sweep", retry_failed=True)
    assert again.next_unit().key == units[1].key
    assert again.next_unit() is None
    again.on_unit_end(units[1], commit(again, units[1]))
    assert again.complete
    assert [(t.status, t.retries) for t in reader.open(tmp_path).trials()] == [("complete", 1), ("complete", 0)]
    undisturbed = tmp_path / "undisturbed"
    run_all(begin(undisturbed, folds=(0, 1), trials=2, study_per="sweep"))
    assert rows(undisturbed) == rows(tmp_path)


def test_only_what_had_begun_is_a_retry(tmp_path):
    studies = begin(tmp_path, folds=(0,), trials=2)
    begun, _ = studies.next_unit(), studies.next_unit()
    checkpoint_folder(studies.writer.storage, begun.key).write("search.safetensors", b"of its first epoch")
    begin(tmp_path, folds=(0,), trials=2)
    assert [t.retries for t in reader.open(tmp_path).trials()] == [1, 0]


def test_parameters_that_the_settings_refuse_fail_their_units_and_the_others_run(tmp_path, monkeypatch):
    whole = SearchSpace.apply

    def refusing(self, parameters):
        if parameters == DEFAULT:
            raise EmodartsError("these do not go together")
        return whole(self, parameters)

    monkeypatch.setattr(SearchSpace, "apply", refusing)
    studies = begin(tmp_path, folds=(0, 1), trials=2, study_per="sweep", sampler="random")
    assert [(u.key.trial, u.key.fold) for u in (studies.next_unit(), studies.next_unit())] == [(1, 0), (1, 1)]
    reason = r"EmodartsError: these do not go together \(test_studies.py:\d+\)"
    failed = [c for c in reader.open(tmp_path).commits if c.status == "failed" and re.fullmatch(reason, c.reason)]
    assert [(c.key.trial, c.key.fold, c.key.subsample) for c in failed] == [(0, 0, None), (0, 1, None)]
    assert [t.status for t in reader.open(tmp_path).trials()] == ["failed", "running"]


def test_a_stopped_sweep_hands_out_nothing_and_is_taken_up(tmp_path):
    studies = begin(tmp_path, trials=2)
    unit = studies.next_unit()
    studies.on_unit_interrupted(unit)
    studies.stop("the disk is full")
    studies.stop("later")
    assert studies.next_unit() is None
    assert studies.finished
    assert not studies.complete
    assert studies.stopped == "the disk is full"
    assert run_all(begin(tmp_path, trials=2)).complete


def test_importances_are_written_when_a_study_ends(tmp_path):
    told = []
    run_all(
        begin(
            tmp_path,
            folds=(0,),
            trials=8,
            sampler="random",
            on_trial_end=lambda system, study, trial: told.append((study, trial.number)),
        )
    )
    found = reader.open(tmp_path).table("importances").to_pylist()
    assert {row["parameter"] for row in found} <= set(SPACE.free)
    assert sum(row["value"] for row in found) == pytest.approx(1)
    assert told == [("fold0", number) for number in range(8)]


def test_two_objectives(tmp_path):
    run_all(begin(tmp_path, folds=(0,), trials=12, sampler="nsga2", objectives=["dev_uar", "parameters"]))
    found = reader.open(tmp_path).trials()
    assert all(len(t.values) == 2 and t.values[1] == 10 for t in found)
    studies = begin(tmp_path, folds=(0,), trials=12, sampler="nsga2", objectives=["dev_uar", "parameters"])
    assert studies.complete
    assert [t.values for t in studies.studies["fold0"].study.trials] == [list(t.values) for t in found]


def course(unit, upto):
    """The epochs of a unit up to a rung: its dev UAR depends on names alone."""
    rng = np.random.default_rng([unit.key.trial, unit.key.fold])
    phases = [phase for phase, _ in RUNGS[: upto + 1]]
    return tuple(EpochRecord(phase, e, 1.0, 1.0, float(rng.random()), 0.5, 0.1) for phase in phases for e in range(2))


class Disturbed(RuleBasedStateMachine):
    """A sweep whose driver and workers may die at any moment."""

    @initialize(
        seeds_of=st.sampled_from(["winner", "members"]),
        study_per=st.sampled_from(["fold", "sweep"]),
        sampler=st.sampled_from(["random", "tpe", "cmaes"]),
        pruner=st.sampled_from(["none", "asha", "wilcoxon", "inner"]),
    )
    def start(self, study_per, sampler, pruner, seeds_of):
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        study_per = {"wilcoxon": "sweep", "inner": "fold"}.get(pruner, study_per)
        self.asked = {
            "trials": 3, "seeds": 2, "seeds_of": seeds_of, "top": 2, "inner": 2 if pruner == "inner" else 0,
            "study_per": study_per, "sampler": sampler, "pruner": "none" if pruner == "inner" else pruner,
            "folds": tuple(range(6)) if pruner == "wilcoxon" else (0, 1),
        }  # fmt: skip
        self.drawn, self.decided, self.ended, self.begun = {}, {}, [], set()
        self.restart()

    @rule()
    def restart(self):
        self.studies = begin(self.root, **self.asked)
        self.running, self.reached, self.written = [], {}, []

    @rule()
    def ask(self):
        unit = self.studies.next_unit() if len(self.running) < 3 else None
        if unit is not None:
            key = unit.key
            parameters = self.studies.trials[key.study][key.trial, key.seed].parameters
            assert self.drawn.setdefault((key.study, key.trial), parameters) == parameters
            assert unit.settings == self.studies.specs.space.apply(parameters)
            assert unit.key not in [u.key for u in self.running]
            assert unit.key not in self.ended, "a finished unit was handed out again"
            self.running.append(unit)

    @rule(which=st.integers(0, 2))
    def report(self, which):
        if which >= len(self.running):
            return
        unit = self.running[which]
        rung = self.reached.get(unit.key, 0)
        if rung < len(unit.rungs):
            answer = self.studies.should_prune(unit, rung, course(unit, rung))
            self.reached[unit.key] = rung + 1
            if answer:
                self.running.remove(unit)
                self.ended.append(unit.key)
            else:
                assert not self.decided.get((unit.key, rung))
            self.decided[unit.key, rung] = answer

    @rule(which=st.integers(0, 2))
    def finish(self, which):
        if which < len(self.running) and self.reached.get(self.running[which].key, 0) == len(self.running[which].rungs):
            unit = self.running.pop(which)
            self.ended.append(unit.key)
            self.written.append((unit, commit(self.studies, unit)))

    @rule()
    def tell(self):
        if self.written:
            self.studies.on_unit_end(*self.written.pop(0))

    @rule(which=st.integers(0, 2))
    def kill_worker(self, which):
        if which < len(self.running):
            unit = self.running.pop(which)
            self.studies.on_unit_struck(unit)
            self.reached.pop(unit.key, None)

    @invariant()
    def no_unit_ended_twice(self):
        if hasattr(self, "ended"):
            assert len(self.ended) == len(set(self.ended))

    def teardown(self):
        if not hasattr(self, "studies"):
            return
        self.restart()
        while not self.studies.finished:
            self.ask()
            for _ in range(3):
                self.report(0)
            self.finish(0)
            self.tell()
        assert self.studies.complete
        found = rows(self.root)
        assert sorted((s, t) for s, t, seed, *_ in found if seed == 0) == [
            (study, trial) for study in sorted(self.studies.folds) for trial in range(3)
        ]
        if self.asked["sampler"] == "random" and self.asked["pruner"] == "none" and not self.asked["inner"]:
            with tempfile.TemporaryDirectory() as whole:
                run_all(begin(Path(whole), **self.asked))
                assert rows(Path(whole)) == found
        assert rows_of(begin(self.root, **self.asked)) == found
        self.folder.cleanup()


TestDisturbed = Disturbed.TestCase
TestDisturbed.settings = hypothesis_settings(max_examples=15, stateful_step_count=30, deadline=None)
TestDisturbed.pytestmark = [pytest.mark.slow(seconds=6)]


@pytest.mark.parametrize(("choose_by", "value"), [("best_epoch", 0.75), ("late_mean", 0.5), ("dev_loss", 0.3)])
def test_a_study_maximises_what_it_is_told_to_choose_by(tmp_path, choose_by, value):
    studies = begin(tmp_path, folds=(0,), trials=1, choose_by=choose_by)
    unit = studies.next_unit()
    outcome = replace(commit(studies, unit), dev_uar=0.75, choices={"late_mean": 0.5, "dev_loss": 0.3})
    studies.on_unit_end(unit, outcome)
    assert studies.trials["fold0"][0, 0].values == (value,)


def test_what_a_configuration_may_be_chosen_by(tmp_path):
    """Of four dev utterances three are right with .9, one has .1; of eight epochs the last two are late."""
    studies = begin(tmp_path, folds=(0,))
    base = records(dev=3)
    epochs = tuple(replace(base.epochs[0], phase="train", epoch=n, dev_uar=n / 10) for n in range(8))
    committed = studies.writer.commit(studies.next_unit().key, replace(base, epochs=epochs), "x")
    expected = {"late_mean": 0.65, "dev_loss": (0.9**3 * 0.1) ** 0.25}
    assert committed.choices == pytest.approx(expected)
    (opened,) = reader.open(tmp_path).commits
    assert opened == committed


def test_systems_whose_networks_are_all_too_large_are_named(tmp_path):
    """Each network here has 10 parameters."""
    for bound, names in ((9, ["emodarts"]), (10, [])):
        studies = run_all(begin(tmp_path / str(bound), folds=(0,), trials=1, constraints=[f"parameters<={bound}"]))
        assert SystemQueues([studies]).without_choice == names
