"""Who is pruned, and that a restart decides the same."""

import pytest

from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.records import EpochRecord
from emodarts.results import reader
from emodarts.search.settings import SearchSettings
from sweeps.settings import SweepSettings
from sweeps.study.pruners import asha_rungs, check_pruner
from sweeps.units.outcomes import UnitOutcome
from tests.support.studies import begin, commit, fault_counts, rows, rows_of


def epochs(phase, *curve):
    return tuple(EpochRecord(phase, e, 1.0, 1.0, value, 0.5, 0.1) for e, value in enumerate(curve))


def asked(studies, count):
    return [studies.next_unit() for _ in range(count)]


def asha(root, folds=(0,), trials=8, **more):
    return begin(root, folds=folds, trials=trials, pruner="asha", sampler="random", **more)


def test_asha_keeps_the_better_half_of_those_that_reached_a_rung(tmp_path):
    studies = asha(tmp_path)
    values = [0.5, 0.4, 0.6, 0.3, 0.45, 0.7, 0.2, 0.65]
    units = asked(studies, 8)
    answers = [
        studies.should_prune(u, 0, epochs("search", v - 0.1, v, v - 0.2)) for u, v in zip(units, values, strict=True)
    ]
    for number, answer in enumerate(answers):
        better = sum(v > values[number] for v in values[:number])
        assert answer == (better >= max(1, (number + 1) // 2))
    written = reader.open(tmp_path).rungs()
    assert [(r.trial, r.phase, r.fraction, r.value, r.pruned) for r in sorted(written, key=lambda r: r.trial)] == [
        (n, "search", 0.5, v, a) for n, (v, a) in enumerate(zip(values, answers, strict=True))
    ]


def test_pruned_units_keep_their_epochs_and_count_as_ended(tmp_path):
    studies = asha(tmp_path, trials=2)
    good, bad = asked(studies, 2)
    assert not studies.should_prune(good, 0, epochs("search", 0.9))
    assert studies.should_prune(bad, 0, epochs("search", 0.1, 0.2))
    assert not studies.should_prune(good, 1, (*epochs("search", 0.9), *epochs("train", 0.3)))
    studies.on_unit_end(good, commit(studies, good))
    assert studies.complete
    opened = reader.open(tmp_path)
    assert [(c.key.trial, c.status) for c in opened.commits] == [(0, "complete"), (1, "pruned")]
    assert sorted(r["dev_uar"] for r in opened.table("epochs").to_pylist() if r["trial"] == 1) == [0.1, 0.2]
    assert [(t.trial, t.status, t.reason) for t in opened.trials()][1] == (
        1, "pruned", "pruned by asha at 0.5 of the epochs of search",
    )  # fmt: skip
    assert fault_counts(studies)["pruned"] == 1


def test_phases_and_folds_are_never_compared(tmp_path):
    studies = asha(tmp_path, folds=(0, 1), trials=2)
    a0, a1, b0, b1 = asked(studies, 4)
    assert {u.key.fold for u in (a0, b0)} == {0} or {u.key.fold for u in (a0, a1)} == {0, 1}
    by_fold = {fold: [u for u in (a0, a1, b0, b1) if u.key.fold == fold] for fold in (0, 1)}
    first, second = by_fold[0]
    assert not studies.should_prune(first, 0, epochs("search", 0.9))
    assert not studies.should_prune(by_fold[1][0], 0, epochs("search", 0.1))  # the first of its own bracket
    assert not studies.should_prune(first, 1, (*epochs("search", 0.9), *epochs("train", 0.2)))
    assert studies.should_prune(second, 0, epochs("search", 0.5))


@pytest.mark.slow
def test_a_restart_keeps_every_decision_and_compares_with_all_that_was(tmp_path):
    values = [0.5, 0.4, 0.6, 0.3, 0.45, 0.7, 0.2, 0.65]
    whole = asha(tmp_path / "whole")
    expected = [whole.should_prune(u, 0, epochs("search", v)) for u, v in zip(asked(whole, 8), values, strict=True)]
    found = []
    for number, value in enumerate(values):
        studies = asha(tmp_path / "killed")
        units = {u.key.trial: u for u in asked(studies, 8) if u is not None}  # those that were pruned have ended
        for earlier in range(number):
            if earlier in units:  # taken up again: it comes to its rung with other luck, and the answer stays
                assert studies.should_prune(units[earlier], 0, epochs("search", 0.99)) == found[earlier]
        found.append(studies.should_prune(units[number], 0, epochs("search", value)))
    assert found == expected
    assert len(reader.open(tmp_path / "killed").rungs()) == 8


def test_a_configuration_with_a_pruned_fold_is_pruned(tmp_path):
    studies = asha(tmp_path, folds=(0, 1), trials=2, study_per="sweep")
    a0, a1, b0, b1 = asked(studies, 4)
    assert (a0.key.trial, a1.key.trial, b0.key.trial) == (0, 0, 1)
    for unit in (a0, a1):
        assert not studies.should_prune(unit, 0, epochs("search", 0.9))
    assert studies.should_prune(b0, 0, epochs("search", 0.1))
    assert studies.should_prune(b1, 0, epochs("search", 0.95))  # in vain: the configuration has ended
    assert studies.trials["shared"][1, 0].status == "pruned"
    assert rows(tmp_path) == rows_of(asha(tmp_path, folds=(0, 1), trials=2, study_per="sweep"))


def test_a_fold_may_end_after_its_configuration_was_pruned(tmp_path):
    studies = asha(tmp_path, folds=(0, 1), trials=2, study_per="sweep")
    a0, a1, b0, b1 = asked(studies, 4)
    for unit in (a0, a1):
        assert not studies.should_prune(unit, 0, epochs("search", 0.9))
    assert not studies.should_prune(b0, 0, epochs("search", 0.95))
    assert not studies.should_prune(b0, 1, (*epochs("search", 0.95), *epochs("train", 0.95)))
    assert studies.should_prune(b1, 0, epochs("search", 0.1))
    studies.on_unit_end(b0, commit(studies, b0))
    assert {c.key.fold: c.status for c in reader.open(tmp_path).commits if c.key.trial == 1} == {
        0: "complete", 1: "pruned",
    }  # fmt: skip


def test_further_seeds_are_not_pruned(tmp_path):
    studies = asha(tmp_path, trials=1, seeds=2)
    (unit,) = asked(studies, 1)
    studies.on_unit_end(unit, commit(studies, unit))
    assert [(u.key.seed, u.rungs) for u in asked(studies, 1)] == [(1, ())]


def wilcoxon(root, **more):
    return begin(
        root, folds=tuple(range(9)), trials=2, study_per="sweep", pruner="wilcoxon", sampler="random",
        startup_folds=3, p_threshold=0.15, **more,
    )  # fmt: skip


def finish(studies, unit, uar):
    commit(studies, unit)
    studies.on_unit_end(unit, UnitOutcome("complete", uar, 10))


def test_wilcoxon_hands_out_folds_in_waves_and_begins_no_more_of_a_worse_configuration(tmp_path):
    studies = wilcoxon(tmp_path)
    for wave in range(3):
        units = asked(studies, 3)
        assert [(u.key.trial, u.key.fold) for u in units] == [(0, 3 * wave + f) for f in range(3)]
        for unit in units:
            finish(studies, unit, 0.8)
    for unit in asked(studies, 3):
        finish(studies, unit, 0.7 - 0.01 * unit.key.fold)
    assert studies.next_unit() is None
    assert studies.complete
    (_, second) = reader.open(tmp_path).trials()
    assert (second.status, second.reason) == ("pruned", "pruned by wilcoxon at 0.33 of the folds")
    assert sum(c.key.trial == 1 for c in reader.open(tmp_path).commits) == 3  # the rows it has stay
    assert wilcoxon(tmp_path).complete


def test_wilcoxon_lets_an_equal_configuration_run_whole(tmp_path):
    studies = wilcoxon(tmp_path)
    while (unit := studies.next_unit()) is not None:
        finish(studies, unit, 0.8 + (0.02 * (-1) ** unit.key.fold if unit.key.trial else 0))
    assert [t.status for t in reader.open(tmp_path).trials()] == ["complete", "complete"]


def test_rungs_of_systems_without_a_search():
    settings = SweepSettings(pruner="asha", search_rungs=[0.5])
    assert {phase for phase, _ in asha_rungs(settings, FoldSettings())} == {"search", "train"}
    for without in (FoldSettings(system="cnn_lstm_attention"), FoldSettings(search=SearchSettings(method="evolution"))):
        assert {phase for phase, _ in asha_rungs(settings, without)} == {"train"}
    assert asha_rungs(settings, FoldSettings(system="svm")) == ()
    assert asha_rungs(SweepSettings(), FoldSettings()) == ()


@pytest.mark.parametrize(
    ("sweep", "folds", "message"),
    [
        ({"pruner": "asha", "objectives": ["dev_uar", "parameters"]}, 10, "compares one objective"),
        ({"pruner": "wilcoxon"}, 10, "under sweep.study_per=fold each has one"),
        ({"pruner": "wilcoxon", "study_per": "sweep"}, 5, "at least 6 folds and the sweep has 5"),
        ({"pruner": "asha", "search_rungs": [], "training_rungs": []}, 10, "has no rungs"),
    ],
)
def test_a_pruner_that_does_not_apply_is_refused(sweep, folds, message):
    with pytest.raises(EmodartsError, match=message):
        check_pruner(SweepSettings(**sweep), [FoldSettings()], folds)
