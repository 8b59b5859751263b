"""What joins several results: the section What changed, the leaderboard, and one table of all predictions."""

import csv
from dataclasses import replace

import duckdb
import pytest
from sklearn.metrics import recall_score

from emodarts import cli
from emodarts.report.page import build_page
from emodarts.results import reader
from tests.support.made_results import Made, write

FIRST = Made("a-1", "a", {"emodarts": 0.8, "svm": 0.4}, folds=3, speakers=4, takes=5, trials=1, gender=True)
SECOND = replace(FIRST, name="a-2", skills={"emodarts": 0.5})
OTHER = Made("b-1", "b", {"emodarts": 0.6}, folds=3, speakers=2, trials=1, marks="b")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for made in (FIRST, SECOND, OTHER):
        write(folder, made)
    return folder


def sheets(page):
    return {part.name: part for part in page.tables_and_figures() if hasattr(part, "columns")}


def test_the_same_system_of_two_sweeps_is_paired(root):
    tables = sheets(build_page(reader.open(root / "a-1", root / "a-2")))
    (row,) = tables["changes-paired"].rows
    assert row[:3] == ("emodarts", "a/test", "a-2")
    assert row[4] == "a-1"
    assert row[-1] == "these networks worse"
    assert row[3].value - row[5].value == pytest.approx(row[6].value)
    assert "changes" not in tables  # they differ in nothing but their predictions


def test_settings_that_differ_are_named(root):
    tables = sheets(build_page(reader.open(root)))
    assert ("setting", "corpus.name", '"a"', '"a"', '"b"') in tables["changes"].rows
    assert not any(row[1] == "sweep.seed" for row in tables["changes"].rows)
    assert "changes" not in sheets(build_page(reader.open(root / "b-1")))


def test_leaderboard_sorts_filters_and_writes(root, tmp_path, capsys):
    file = tmp_path / "board.csv"
    assert cli.main(["leaderboard", str(root), "--csv", str(file)]) == 0
    words = capsys.readouterr().out
    assert "must not be compared with each other" in words
    rows = list(csv.DictReader(file.open()))
    uars = [float(row["uar"]) for row in rows]
    assert uars == sorted(uars, reverse=True)
    assert {(row["sweep"], row["system"]) for row in rows} == {
        *(("a-1", "emodarts"), ("a-1", "svm"), ("a-2", "emodarts"), ("b-1", "emodarts"))
    }
    assert all(float(row["low"]) <= float(row["uar"]) <= float(row["high"]) for row in rows)
    assert cli.main(["leaderboard", str(root), "--csv", str(file), "--system", "svm,cnn", "--sort", "ece"]) == 0
    assert [row["system"] for row in csv.DictReader(file.open())] == ["svm"]
    assert cli.main(["leaderboard", str(root), "--corpus", "iemocap"]) == 1
    assert "none of 4 systems with test figures is left by --corpus iemocap" in capsys.readouterr().err


def test_joined_predictions_are_those_of_the_report(root, tmp_path):
    file = tmp_path / "joined.parquet"
    assert cli.main(["report", str(root / "a-1"), "--parquet", str(file)]) == 0
    table = duckdb.sql(f"select * from '{file}'").df()
    assert len(table) == 2 * 240 == 2 * table["utterance"].nunique()
    board = tmp_path / "board.csv"
    cli.main(["leaderboard", str(root / "a-1"), "--csv", str(board)])
    for row in csv.DictReader(board.open()):
        own = table[table["system"] == row["system"]]
        assert recall_score(own["label"], own["predicted"], average="macro") == pytest.approx(float(row["uar"]))
        assert (own["right"] == (own["label"] == own["predicted"])).all()
    genders = duckdb.sql(f"select distinct gender, speaker from '{file}'").fetchall()
    assert len(genders) == 12
    (sums,) = duckdb.sql(f"select min(list_sum(map_values(probabilities))) from '{file}'").fetchall()
    assert sums[0] == pytest.approx(1, abs=1e-5)
