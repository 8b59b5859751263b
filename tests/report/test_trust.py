"""Sections Trust, Groups and Hard recordings: figures recomputed from the tables of made sweeps, plantings found."""

import csv
import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss, recall_score

from emodarts import cli, metrics
from emodarts.report.comparisons import group_comparisons
from emodarts.report.elements import Paragraph
from emodarts.report.page import build_page
from emodarts.report.predictions import load_predictions
from emodarts.report.report_data import load_report_data
from emodarts.results import reader
from tests.support.made_results import CLASSES, Made, write

MADE = Made("g-1", "g", {"emodarts": 0.8, "svm": 0.6}, folds=4, speakers=6, takes=5, trials=2, seeds=2, gender=True)
UNFAIR = Made("u-1", "u", {"emodarts": 0.85}, folds=4, speakers=6, takes=8, trials=1, gender=True, gap=0.35)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    write(folder, MADE)
    return folder


@pytest.fixture(scope="module")
def page(root):
    return build_page(reader.open(root))


def section(page, title):
    (found,) = (s for s in page.sections if s.title == title)
    return found


def texts(part):
    return [e.text for e in part.elements if isinstance(e, Paragraph)]


def sheet(page, name):
    (found,) = (t for t in page.tables_and_figures() if t.name == name and hasattr(t, "columns"))
    return found


def winners(root, role, seed):
    """Folds, labels and probabilities of the winners (trial 0, by the made dev figures), by fold and utterance."""
    where = (pc.field("system") == "emodarts") & (pc.field("trial") == 0) & (pc.field("seed") == seed)
    table = reader.open(root).table("predictions", where=where & (pc.field("role") == role))
    table = table.sort_by([("fold", "ascending"), ("utterance", "ascending")])
    labels = np.asarray(pc.index_in(table["label"], pa.array(CLASSES)))
    return table["fold"].to_numpy(), labels, np.array(table["probabilities"].to_pylist(), np.float64)


@pytest.mark.slow
def test_calibration_is_that_of_the_tables(root, page):
    row = sheet(page, "trust-0").rows[0]
    eces, scaled, briers, uars = [], [], [], []
    for seed in (0, 1):
        (dev_folds, dev_labels, dev), (folds, labels, test) = winners(root, "dev", seed), winners(root, "test", seed)
        calibrated = test.copy()
        for fold in range(4):
            own = dev_folds == fold

            def loss(t, labels=dev_labels[own], p=dev[own]):
                powers = p ** (1 / t)
                return log_loss(labels, powers / powers.sum(1, keepdims=True), labels=range(4))

            t = minimize_scalar(loss, bounds=(0.2, 5), method="bounded").x
            powers = test[folds == fold] ** (1 / t)
            calibrated[folds == fold] = powers / powers.sum(1, keepdims=True)
        eces.append(metrics.expected_calibration_error(labels, test))
        scaled.append(metrics.expected_calibration_error(labels, calibrated))
        briers.append(((test - np.eye(4)[labels]) ** 2).sum(1).mean())
        uars.append(recall_score(labels, test.argmax(1), average="macro"))
    assert row[:2] == ("emodarts", pytest.approx(np.mean(eces)))
    assert row[2] == pytest.approx(np.mean(scaled), abs=1e-3)
    assert row[3] == pytest.approx(np.mean(briers))
    assert row[6].value == pytest.approx(np.mean(uars))
    assert row[2] < row[1]  # the made systems say .9 and are right .8 of the time


def test_trust_says_what_to_reject(page):
    words = texts(section(page, "Trust"))[0]
    assert words.startswith("emodarts is too sure of itself")
    assert "Of the 70 % it is surest of, UAR" in words
    assert "predict.py --reject 0.90" in words


def test_fair_systems_are_not_called_unfair(page):
    rows = sheet(page, "groups-0").rows
    assert {row[0] for row in rows} == {"gender", "duration"}
    assert {row[8] for row in rows} == {"within chance"}
    words = " ".join(texts(section(page, "Groups")))
    assert "no group is served worse than it may be by chance" in words
    assert "By session: all that is known is 1." in words
    assert "No text is known: the corpus does not say." in words


def test_a_planted_gender_gap_is_found(tmp_path):
    write(tmp_path, UNFAIR)
    unfair = build_page(reader.open(tmp_path))
    words = texts(section(unfair, "Groups"))[0]
    assert words.startswith("emodarts serves worse than chance explains: male (gender) by .")
    verdicts = {row[1]: row[8] for row in sheet(unfair, "groups-0").rows}
    assert (verdicts["female"], verdicts["male"]) == ("served better", "served worse")


def test_one_speaker_a_group_and_old_sweeps_are_said(tmp_path):
    write(tmp_path / "two", Made("t-1", "t", folds=3, speakers=1, trials=1, gender=True))
    rows = sheet(build_page(reader.open(tmp_path / "two")), "groups-0").rows
    remarks = {row[1]: row[9] for row in rows}
    assert remarks["male"].startswith("one speaker: no interval")
    assert remarks["female"] == "no interval: one speaker alone is in one side only, 24 utterances"
    write(tmp_path / "old", Made("o-1", "o"))
    words = texts(section(build_page(reader.open(tmp_path / "old")), "Groups"))
    assert words[0].startswith("Nothing is known of the utterances: the sweep was run before")


def test_no_gender_known(tmp_path):
    made = Made("n-1", "n", trials=1, gender=True)
    write(tmp_path, made)
    tables = reader.open(tmp_path).parts[0]
    from emodarts.results.writer import SweepWriter

    rows = [{**row, "gender": None} for row in tables.table("utterances").drop_columns(["sweep", "corpus"]).to_pylist()]
    SweepWriter(tables.storage, "n-1").write_utterances("n", rows)
    assert "No gender is known: the corpus does not say." in texts(section(build_page(reader.open(tmp_path)), "Groups"))


def test_predictions_are_those_of_the_winners(root):
    data = load_report_data(reader.open(root))
    (predicted,) = load_predictions(data, group_comparisons(data))
    first = predicted.systems[0]
    for seed in (0, 1):
        folds, labels, probabilities = winners(root, "test", seed)
        assert (first.test.folds.tolist(), first.test.labels.tolist()) == (folds.tolist(), labels.tolist())
        assert np.array_equal(first.test.probabilities[seed], probabilities)
    assert [s.name for s in predicted.systems] == ["emodarts", "svm"]


def test_hard_recordings_are_listed_and_taken_up(root, tmp_path, capsys):
    assert cli.main(["report", str(root), "--hard", str(tmp_path / "hard.csv")]) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "hard.csv").read_text())))
    assert f"{len(rows)} hard recordings" in capsys.readouterr().out
    assert len({row["utterance"] for row in rows}) == len(rows) > 0
    table = reader.open(root).table("predictions", where=pc.field("role") == "test").to_pandas()
    right = (table["label"] == table["predicted"]).groupby(table["utterance"]).agg(["mean", "size"])
    for row in rows:
        share, models = right.loc[row["utterance"]]
        assert (float(row["right"]), int(row["models"])) == (pytest.approx(share, abs=1e-4), models)
        assert row["reason"] in ("doubtful", "never right", "never right, doubtful")
    never = set(right.index[right["mean"] == 0])
    assert {row["utterance"] for row in rows if "never" in row["reason"]} == never
