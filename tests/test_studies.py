"""What to run next, without Ray: kill and restart at any moment."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_results import evaluation, records

from emodarts.errors import EmodartsError
from emodarts.experiment import FoldSettings
from emodarts.results import reader
from emodarts.results.records import UnitKey, UnitRecords
from emodarts.results.storage import Storage
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.search.settings import SearchSettings
from sweeps.settings import Settings, Space, SweepSettings
from sweeps.studies import Outcome, Studies

SPACE = Space.of(
    Settings(
        sweep=SweepSettings(
            space={
                "search": {
                    "nodes": {"low": 1, "high": 3},
                    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
                    "seqnn": {"choices": ["all", "lstm"]},
                }
            }
        )
    )
)
DEFAULT = SPACE.default(FoldSettings())


def begin(root, known=True, **sweep):
    storage = Storage.open(root)
    register(storage, "s", {})
    writer = SweepWriter(storage, "s")
    found = reader.open(root) if known else None
    return Studies(SweepSettings(**sweep), SPACE.free, DEFAULT, (0, 1, 2), writer, found)


def commit(studies, unit):
    """What a worker writes: a dev figure that depends on names and numbers only."""
    right = (unit.trial * 7 + unit.fold + unit.seed) % 5
    key = UnitKey("s", "emodarts", unit.study, unit.trial, unit.seed, ("x",), "x/speaker3", unit.fold, "h", ("a", "b"))
    base = records(fold=unit.fold)
    evaluations = (evaluation("dev", right, fold=unit.fold), evaluation("test", 2, fold=unit.fold))
    studies.writer.commit(key, UnitRecords(**{**base.__dict__, "evaluations": evaluations}), "x")
    return Outcome("complete", _uar(right), 10)


def _uar(right):
    labels = np.arange(4) % 2
    predicted = np.where(np.arange(4) < right, labels, 1 - labels)
    return float(np.mean([(predicted[labels == c] == c).mean() for c in (0, 1)]))


def run_all(studies, limit=10_000):
    while (unit := studies.next_unit()) is not None and limit > 0:
        studies.end(unit, commit(studies, unit))
        limit -= 1
    return studies


def rows(root):
    return [(t.study, t.trial, t.seed, t.parameters, t.status, t.values) for t in reader.open(root).trials()]


@pytest.mark.parametrize("nesting", ["fold", "shared"])
def test_a_whole_sweep(tmp_path, nesting):
    studies = run_all(begin(tmp_path, trials=4, nesting=nesting, seeds=3))
    assert studies.complete
    assert studies.finished
    found = rows(tmp_path)
    count = 3 if nesting == "fold" else 1
    assert len(found) == count * (4 + 2)
    assert all(status == "complete" for *_, status, _ in found)
    assert found[0][3] == DEFAULT
    for study in studies.folds:
        best = max(v[0] for s, _, seed, _, _, v in found if s == study and seed == 0)
        winner = studies.winner(study)
        assert (study, winner) in [(s, t) for s, t, seed, _, _, v in found if seed == 0 and v[0] == best]
        assert sorted(seed for s, t, seed, *_ in found if s == study and t == winner) == [0, 1, 2]


@given(st.lists(st.sampled_from(["ask", "commit", "end", "kill"]), max_size=40))
@settings(max_examples=30, deadline=None)
def test_kill_at_any_moment_loses_doubles_and_redraws_nothing(tmp_path_factory, actions):
    root, whole = tmp_path_factory.mktemp("killed"), tmp_path_factory.mktemp("whole")
    run_all(begin(whole, trials=3, seeds=2))
    studies, running, written, ended = begin(root, trials=3, seeds=2), [], [], []
    for action in actions:
        if action == "ask" and len(running) < 2 and (unit := studies.next_unit()) is not None:
            running.append(unit)
        elif action == "commit" and running:
            unit = running.pop(0)
            written.append((unit, commit(studies, unit)))
        elif action == "end" and written:
            unit, outcome = written.pop(0)
            assert unit not in ended
            ended.append(unit)
            studies.end(unit, outcome)
        elif action == "kill":
            done = {(u.study, u.trial, u.seed, u.fold) for u in ended} | {
                (u.study, u.trial, u.seed, u.fold) for u, _ in written
            }
            studies, running, written = begin(root, trials=3, seeds=2), [], []
            assert not done & {(u.study, u.trial, u.seed, u.fold) for u in studies.waiting}
    run_all(begin(root, trials=3, seeds=2))
    assert rows(root) == rows(whole)


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
        told = studies.optuna[f"fold{fold}"].get_trials(deepcopy=False)
        assert [t.value for t in told] == [_uar((trial * 7 + fold) % 5) for trial in range(4)]


def test_failures_are_counted_and_end_the_sweep(tmp_path):
    studies = begin(tmp_path, trials=50, max_failures=3)
    while (unit := studies.next_unit()) is not None:
        studies.end(unit, Outcome("failed", reason="NaN loss"))
    assert studies.has_failed
    assert studies.finished
    assert [(s, r) for *_, s, r in rows(tmp_path)] == [("failed", ())] * 3


def test_time_is_up(tmp_path):
    now = [0.0]
    storage = Storage.open(tmp_path)
    studies = Studies(
        SweepSettings(hours=1.0), SPACE.free, DEFAULT, (0,), SweepWriter(storage, "s"), None, lambda: now[0]
    )
    assert studies.next_unit() is not None
    now[0] = 3601
    assert studies.next_unit() is None
    assert not studies.finished  # one unit is still running


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"search": {"nodes": {"low": 1}}}, "needs low and high"),
        ({"search": {"nodes": {"low": 3, "high": 1}}}, "sweep.space.search.nodes"),
        ({"search": {"seqnn": {"choices": ["lstm", "gru"]}}}, "search.seqnn=gru is out of range"),
        ({"search": {"method": {"choices": ["darts", "frozen"]}}}, "search.method: it names the system"),
        ({"search": {"joint": "cnn_only"}}, "search.joint: it names the system"),
        ({"search": {"warmup": 3}}, "there is no setting search.warmup"),
        (
            {"search": {"space": {"choices": ["emodarts", "modern"]}, "seqnn": {"choices": ["all", "rnn"]}}},
            "search.seqnn=rnn is out of range",
        ),
        ({"corpus": {"name": "x"}}, "a dimension is search.<setting> or training.<setting>"),
    ],
)
def test_a_wrong_space_is_refused(space, message):
    with pytest.raises(EmodartsError, match=message):
        Space.of(Settings(sweep=SweepSettings(space=space)))


def test_the_default_is_brought_inside_the_bounds():
    space = Space.of(Settings(sweep=SweepSettings(space={"search": {"nodes": {"low": 3, "high": 4}}})))
    assert space.default(FoldSettings()) == {"search.nodes": 3}


def test_families_are_those_of_the_operations():
    dimension = {"search": {"seqnn": {"choices": "families"}}}

    def choices(**search):
        space = Space.of(Settings(search=SearchSettings(**search), sweep=SweepSettings(space=dimension)))
        return space.free["search.seqnn"].choices

    assert choices() == ("all", "lstm", "rnn", "lstm_attention", "rnn_attention")
    assert choices(space="modern") == ("all", "lstm", "gru", "bilstm", "bigru", "self_attention")
    assert choices(sequence_operations=["none", "skip_connect", "rnn_2"]) == ("all", "rnn")


def test_rows_name_the_system(tmp_path):
    storage = Storage.open(tmp_path)
    register(storage, "s", {})
    writer, name = SweepWriter(storage, "s"), "emodarts:frozen:joint"
    studies = Studies(SweepSettings(trials=1), SPACE.free, DEFAULT, (0,), writer, None, system=name)
    unit = studies.next_unit()
    studies.end(unit, commit(studies, unit))
    assert [t.system for t in reader.open(tmp_path).trials()] == [name]
