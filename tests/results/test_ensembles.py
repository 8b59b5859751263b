"""Ensembles from result tables: members, figures, agreement, calibration; the table, compacted and written anew."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from emodarts import cli, metrics
from emodarts.errors import EmodartsError
from emodarts.records import TrialRecord
from emodarts.report.page import build_page
from emodarts.report.report_data import load_report_data
from emodarts.report.tables import ReportTable
from emodarts.results import reader
from emodarts.results.compacted_files import COMPACT_FILE
from emodarts.results.compaction import compact
from emodarts.results.ensembles import choose_ensembles, ensemble_name, evaluate_ensembles, stored_ensembles
from emodarts.results.sweep_file import register
from emodarts.results.winners import rank_configurations
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from tests.support.made_results import Made, write
from tests.support.unit_records import evaluation, key, records

LABELS = np.array([0, 1, 0, 1])


@pytest.fixture
def writer(tmp_path):
    storage = Storage.open(tmp_path)
    register(storage, "s", {})
    return SweepWriter(storage, "s")


def finish(writer, trial, test, dev_uar=1.0, seed=0, fold=0, size=10, system="emodarts", status="complete", study=None):
    """A unit whose four test utterances are class a with the probabilities `test`, and its trial's row."""
    unit = replace(key(trial, fold, seed, study), system=system)
    probabilities = np.stack([test, 1 - np.asarray(test)], 1).astype(np.float32)
    parts = (evaluation("dev", 4, fold=fold), replace(evaluation("test", 4, fold=fold), probabilities=probabilities))
    if status == "complete":
        writer.commit(unit, replace(records(size=size), evaluations=parts), "x")
    else:
        writer.commit_ended(unit, status, "so", (), "x")
    values = (dev_uar,) if status == "complete" else ()
    writer.write_trial(TrialRecord(system, unit.study, trial, seed, {}, status, values=values))


def rows(root, top=5, systems=(), role="test"):
    (sweep,) = reader.open(root).parts
    return [e.row for e in evaluate_ensembles(sweep, top, systems) if e.row["role"] == role]


def test_figures_counted_by_hand(writer, tmp_path):
    """Labels a b a b. Two of three members are wrong on the last utterance, and the third is surer than they are."""
    finish(writer, 0, [0.9, 0.4, 0.8, 0.6], dev_uar=0.9)
    finish(writer, 1, [0.7, 0.2, 0.3, 0.6], dev_uar=0.8, size=20)
    finish(writer, 2, [0.8, 0.3, 0.7, 0.0], dev_uar=0.7, size=30)
    (row,) = rows(tmp_path)
    # class a: .8, .3, .6, .4: all right, with the confidences .8, .7, .6, .6
    assert (row["uar"], row["war"], row["macro_f1"], row["n"]) == (1, 1, 1, 4)
    # right: 0, 1, 2 of trial 0 (recalls 1, .5), 0, 1 of trial 1 (.5, .5), all of trial 2
    assert row["members_uar"] == pytest.approx((0.75 + 0.5 + 1) / 3)
    # pairs of trials: 0 and 1 differ on utterance 2, 0 and 2 on utterance 3, 1 and 2 on both
    assert row["agreement"] == pytest.approx((0.75 + 0.75 + 0.5) / 3)
    # every bin is right, so the error is the mean of 1 - confidence
    assert row["ece"] == pytest.approx((0.2 + 0.3 + 0.4 + 0.4) / 4)
    # trial 0: .1, .4, .2 too low, .6 too high in the bin of the .4 (both .6); 1: .6 (wrong) alone, .7 (right, wrong)
    # share a bin, .8; 2: .2, .3 twice, 0
    own = ((0.1 + abs(0.4 - 0.6) + 0.2) / 4, (abs(0.3 - 0.7) + 0.6 + 0.2) / 4, (0.2 + 0.3 + 0.3) / 4)
    assert row["members_ece"] == pytest.approx(np.mean(own), abs=1e-6)
    assert (row["system"], row["study"], row["trial"], row["seed"], row["fold"]) == (
        "emodarts+top5",
        "fold0",
        None,
        0,
        0,
    )
    assert (row["members"], row["n_members"]) == (["emodarts/0", "emodarts/1", "emodarts/2"], 3)
    assert (row["parameters"], row["macs"], row["train_seconds"]) == (60, 15, 3)


def test_figures_are_those_of_scikit_learn_and_numpy(tmp_path):
    write(tmp_path, Made(folds=2, trials=4, speakers=3, takes=5))
    (sweep,) = reader.open(tmp_path).parts
    frame = sweep.table("predictions").to_pandas().sort_values("utterance", kind="stable")
    found = {(r["fold"], r["role"]): r for r in (e.row for e in evaluate_ensembles(sweep, 3))}
    assert len(found) == 4
    for (fold, role), row in found.items():
        part = frame[(frame["fold"] == fold) & (frame["role"] == role)]
        members = [part[part["trial"] == trial] for trial in range(3)]
        mean = np.mean([np.stack(m["probabilities"]) for m in members], 0, np.float64)
        labels = members[0]["label"].to_numpy()
        predicted = np.array(row["classes"])[mean.argmax(1)]
        assert row["uar"] == pytest.approx(recall_score(labels, predicted, average="macro"))
        assert row["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
        assert row["members_uar"] == pytest.approx(
            np.mean([recall_score(labels, m["predicted"], average="macro") for m in members])
        )
        edges = np.linspace(0, 1, 16)
        error = 0.0
        for low, high in pairwise(edges):
            inside = (mean.max(1) > low) & (mean.max(1) <= high)
            if inside.any():
                gap = (predicted == labels)[inside].mean() - mean.max(1)[inside].mean()
                error += inside.mean() * abs(gap)
        assert row["ece"] == pytest.approx(error, abs=1e-6)


def test_calibration_and_agreement_at_their_ends():
    sure = np.eye(2)[LABELS]
    assert metrics.expected_calibration_error(LABELS, sure) == 0
    assert metrics.expected_calibration_error(LABELS, 1 - sure) == 1
    assert np.isnan(metrics.expected_calibration_error(LABELS[:0], sure[:0]))
    assert metrics.mean_pairwise_agreement(np.array([LABELS, LABELS])) == 1
    assert metrics.mean_pairwise_agreement(np.array([LABELS, 1 - LABELS])) == 0
    assert np.isnan(metrics.mean_pairwise_agreement(LABELS[None]))


def test_members_are_the_best_on_dev_that_are_complete(writer, tmp_path):
    right = [0.9, 0.1, 0.9, 0.1]
    for trial, (dev_uar, size) in enumerate([(0.5, 10), (0.9, 30), (0.9, 20), (0.7, 10), (0.9, 20)]):
        finish(writer, trial, right, dev_uar, size=size)
    finish(writer, 5, right, 1.0, status="failed")
    finish(writer, 6, right, 1.0, status="pruned")
    finish(writer, 0, right, 0.5, fold=1)  # the only one of its study: all there are
    writer.write_trial(TrialRecord("emodarts", "fold1", 1, 0, {}, "running"))
    finish(writer, 0, right, 0.5, system="svm")  # no study of this system has two
    by_fold = {row["fold"]: row for row in rows(tmp_path, top=3)}
    assert by_fold[0]["members"] == ["emodarts/2", "emodarts/4", "emodarts/1"]
    assert (by_fold[1]["members"], by_fold[1]["n_members"], by_fold[1]["agreement"]) == (["emodarts/0"], 1, None)
    assert {row["system"] for row in by_fold.values()} == {"emodarts+top3"}
    assert rows(tmp_path, top=0) == []
    assert rows(tmp_path, top=9)[0]["n_members"] == 5


def test_a_seed_counts_where_all_members_have_it(writer, tmp_path):
    for trial in range(2):
        finish(writer, trial, [0.9, 0.1, 0.9, 0.1], 0.9 - 0.1 * trial)
    finish(writer, 0, [0.9, 0.1, 0.9, 0.6], 0.9, seed=1)
    assert [row["seed"] for row in rows(tmp_path)] == [0]
    finish(writer, 1, [0.9, 0.1, 0.9, 0.6], 0.1, seed=1)
    assert [(row["seed"], row["uar"]) for row in rows(tmp_path)] == [(0, 1), (1, 0.75)]


def test_several_systems_together(writer, tmp_path):
    for system, last in (("emodarts", 0.6), ("cnn_lstm_attention", 0.1)):
        for trial in range(3):
            finish(writer, trial, [0.9, 0.1, 0.9, last], 0.9 - 0.1 * trial, system=system)
    finish(writer, 0, [0.9, 0.1, 0.9, 0.1], fold=1)  # a study that the other system has not
    both = ("emodarts", "cnn_lstm_attention")
    uars = {row["system"]: (row["uar"], row["n_members"]) for row in rows(tmp_path, 2, both) if row["fold"] == 0}
    assert uars == {"emodarts+top2": (0.75, 2), "cnn_lstm_attention+top2": (1, 2), ensemble_name(both, 2): (1, 4)}
    names = [row["members"] for row in rows(tmp_path, 2, both) if row["system"] == ensemble_name(both, 2)]
    assert names == [["emodarts/0", "emodarts/1", "cnn_lstm_attention/0", "cnn_lstm_attention/1"]]


def test_test_labels_change_neither_members_nor_dev_figures(tmp_path):
    rng = np.random.default_rng(0)
    predictions = rng.uniform(size=(4, 4))
    found = []
    for name, order in (("as they are", [0, 1, 2, 3]), ("permuted", [1, 2, 3, 0])):
        storage = Storage.open(tmp_path / name)
        register(storage, "s", {})
        for trial, p in enumerate(predictions):
            dev = evaluation("dev", trial)
            test = evaluation("test", 4)
            probabilities = np.stack([p, 1 - p], 1).astype(np.float32)
            test = replace(test, labels=tuple(test.labels[i] for i in order), probabilities=probabilities)
            SweepWriter(storage, "s").commit(key(trial), replace(records(), evaluations=(dev, test)), "x")
            record = TrialRecord("emodarts", "fold0", trial, 0, {}, "complete", values=(trial / 4,))
            SweepWriter(storage, "s").write_trial(record)
        found.append({role: rows(tmp_path / name, 3, role=role) for role in ("dev", "test")})
    assert found[0]["dev"] == found[1]["dev"]
    assert found[0]["test"][0]["members"] == found[1]["test"][0]["members"] == [f"emodarts/{t}" for t in (3, 2, 1)]
    assert found[0]["test"] != found[1]["test"]


def test_members_of_other_utterances_are_refused(writer, tmp_path):
    finish(writer, 0, [0.9, 0.1, 0.9, 0.1])
    parts = [replace(part, utterances=("x/1", "x/2", "x/3", "x/9")) for part in records().evaluations]
    writer.commit(key(1), replace(records(), evaluations=tuple(parts)), "x")
    writer.write_trial(TrialRecord("emodarts", "fold0", 1, 0, {}, "complete", values=(0.1,)))
    with pytest.raises(EmodartsError, match=r"trial 1 of emodarts, fold0, has predictions of other utterances"):
        rows(tmp_path)


def test_hidden_labels_have_no_figures(writer, tmp_path):
    for trial in range(2):
        parts = (evaluation("dev", 4), replace(evaluation("test", 4), labels=(None,) * 4))
        writer.commit(key(trial), replace(records(), evaluations=parts), "x")
        writer.write_trial(TrialRecord("emodarts", "fold0", trial, 0, {}, "complete", values=(0.1,)))
    (row,) = rows(tmp_path)
    assert [row[name] for name in ("n", "uar", "ece", "members_ece", "members_uar", "agreement")] == [0, *[None] * 4, 1]
    writer.write_ensembles([row])
    assert reader.open(tmp_path).table("ensembles").to_pylist() == [row]
    assert load_report_data(reader.open(tmp_path)).systems[-1].parts("test") == []


def test_the_table_is_rewritten_as_a_whole_and_compacted(tmp_path):
    write(tmp_path, Made(folds=2, skills={"emodarts": 0.7, "svm": 0.6}))
    storage = Storage.open(tmp_path)
    writer = SweepWriter(storage, "made-1")
    assert stored_ensembles(reader.open(tmp_path).parts[0]) is None
    for top, systems in ((2, ("emodarts", "svm")), (3, ())):
        (sweep,) = reader.open(tmp_path).parts
        expected = [e.row for e in evaluate_ensembles(sweep, top, systems)]
        writer.write_ensembles(expected)
        for _ in range(2):
            (sweep,) = reader.open(tmp_path).parts
            assert sweep.table("ensembles").to_pylist() == expected
            assert stored_ensembles(sweep) == (top, systems)
            compact(storage, "made-1")


def test_a_sweep_that_was_compacted_before_there_was_the_table(tmp_path):
    write(tmp_path, Made(folds=2))
    compact(Storage.open(tmp_path), "made-1")
    file = tmp_path / "made-1" / COMPACT_FILE
    content = json.loads(file.read_text())
    (tmp_path / content["files"].pop("ensembles")).unlink()
    file.write_text(json.dumps(content))
    assert reader.open(tmp_path).table("ensembles", ["system"]).num_rows == 0
    assert [s.system for s in load_report_data(reader.open(tmp_path)).systems] == ["emodarts", "emodarts+top5"]
    compact(Storage.open(tmp_path), "made-1")
    assert reader.open(tmp_path).table("ensembles").num_rows == 0


@pytest.mark.slow
def test_the_report_has_them_beside_their_systems(tmp_path, capsys):
    write(tmp_path, Made(folds=3, skills={"emodarts": 0.6, "a": 0.5, "b": 0.7}))
    page = build_page(reader.open(tmp_path), 2, ("a", "b"))
    tables = {part.name: part for part in page.tables_and_figures() if isinstance(part, ReportTable)}
    (headline,) = (table for name, table in tables.items() if name.startswith("systems-"))
    names = [row[0] for row in headline.rows[:-2]]
    assert names == ["emodarts", "emodarts+top2", "a", "a+top2", "b", "b+top2", "a&b+top2"]
    found = rows(tmp_path, 2, ("a", "b"))
    correct = sum(row["war"] * row["n"] for row in found if row["system"] == "a&b+top2")
    (joint,) = (row for row in headline.rows if row[0] == "a&b+top2")
    assert joint[2] == pytest.approx(correct / 36)
    assert joint[1].low < joint[1].value < joint[1].high
    assert dict(page.tiles)["systems"] == "3"
    by_system = {row[1]: row for row in tables["ensembles"].rows}
    agreement = [row["agreement"] for row in found if row["system"] == "b+top2"]
    assert by_system["b+top2"][7] == pytest.approx(np.mean(agreement))
    assert cli.main(["report", str(tmp_path), "--top", "0"]) == 0
    assert "+top" not in capsys.readouterr().out
    assert cli.main(["report", str(tmp_path), "--top", "2", "--ensemble", "a,b"]) == 0
    assert "│ a&b+top2 " in capsys.readouterr().out
    assert cli.main(["report", str(tmp_path), "--top", "-1"]) == 1
    assert "--top -1: give 0 or more" in capsys.readouterr().err


def test_k_is_that_of_the_sweeps_table(tmp_path):
    write(tmp_path, Made(folds=2))
    (sweep,) = reader.open(tmp_path).parts
    SweepWriter(Storage.open(tmp_path), "made-1").write_ensembles([e.row for e in evaluate_ensembles(sweep, 2)])
    names = [[s.system for s in load_report_data(reader.open(tmp_path), top).systems] for top in (None, 3)]
    assert names == [["emodarts", "emodarts+top2"], ["emodarts", "emodarts+top3"]]


def test_of_a_shared_choice_they_carry_its_mark(tmp_path):
    write(tmp_path, Made(folds=3, shared=True))
    data = load_report_data(reader.open(tmp_path))
    assert [(s.system, s.shared, s.folds) for s in data.systems] == [
        ("emodarts", True, (0, 1, 2)),
        ("emodarts+top5", True, (0, 1, 2)),
    ]
    (sweep,) = reader.open(tmp_path).parts
    (ensemble,) = choose_ensembles(rank_configurations(sweep), 5)
    assert ensemble.study == "shared"


def test_a_short_name_is_that_of_the_tables(writer, tmp_path):
    for system in ("emodarts:fixed:joint", "svm"):
        for trial in range(2):
            finish(writer, trial, [0.9, 0.1, 0.9, 0.1], 0.9 - 0.1 * trial, system=system)
    full = rows(tmp_path, 2, ("emodarts:fixed:joint", "svm"))
    assert rows(tmp_path, 2, ("emodarts:fixed", "svm")) == full
    assert len(full) == 3
