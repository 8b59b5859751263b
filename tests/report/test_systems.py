"""The tables of systems: planted differences, verdicts, winners, and what heads no comparison."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from emodarts import cli
from emodarts.report.comparisons import group_comparisons
from emodarts.report.elements import Paragraph
from emodarts.report.page import build_page
from emodarts.report.report_data import load_report_data
from emodarts.report.sections.sizes import best_within_limits
from emodarts.report.sections.systems import compare
from emodarts.report.tables import ReportTable
from emodarts.results import reader
from emodarts.results.statistics import mean_over_corpora
from tests.support.made_results import write
from tests.support.planted_results import ALPHA, BETA, SKILLS, sheet


def test_planted_differences_are_found_and_no_others(page):
    rows = {row[0]: row for row in sheet(page, "systems-alpha").rows}
    heads = [c.title for c in sheet(page, "systems-alpha").columns]
    verdict, p = heads.index("verdict"), heads.index("p (Holm)")
    assert [rows[name][verdict] for name in ("emodarts", "cnn_lstm_attention", "svm")] == [
        "reference",
        "no difference shown",
        "method worse",
    ]
    assert rows["svm"][p] < 0.001 < 0.05 < rows["cnn_lstm_attention"][p]
    assert rows["chance"][1] == rows["majority class of the test"][1] == 0.25


def test_with_fewer_than_three_seeds_a_verdict_is_about_these_networks(page, tmp_path):
    write(tmp_path, replace(ALPHA, seeds=2, trials=1, crosses={}))
    few = sheet(build_page(reader.open(tmp_path)), "systems-alpha")
    assert [row[9] for row in few.rows[:3]] == ["reference", "no difference shown", "these networks worse"]
    with_seeds = sheet(page, "systems-alpha")
    assert few.columns == with_seeds.columns
    assert few.notes == with_seeds.notes
    assert few.rows[2][6].over_seeds is False
    assert with_seeds.rows[2][6].over_seeds is True


@pytest.mark.slow
def test_from_four_corpora_on_there_is_a_mean_over_corpora(tmp_path):
    made = replace(ALPHA, skills={"emodarts": 0.75, "svm": 0.45}, folds=2, trials=1, crosses={})
    for corpus in ("a", "b", "c"):
        write(tmp_path, replace(made, name=f"{corpus}-1", corpus=corpus))
    three = build_page(reader.open(tmp_path))
    assert not any(part.name == "over-corpora" for part in three.tables_and_figures())
    texts = [part.text for part in three.sections[0].elements if isinstance(part, Paragraph)]
    assert any("compared on 3, and it takes 4" in text for text in texts)
    write(tmp_path, replace(made, name="d-1", corpus="d"))
    four = build_page(reader.open(tmp_path))
    (row,) = sheet(four, "over-corpora").rows
    tables = [p for p in four.tables_and_figures() if isinstance(p, ReportTable) and p.name.startswith("systems-")]
    differences = [table.rows[1][6] for table in tables]
    assert row[:3] == ("svm", "emodarts", 4)
    assert min(d.value for d in differences) <= row[3].value <= max(d.value for d in differences)
    assert row[3] == mean_over_corpora({str(i): [d] for i, d in enumerate(differences)}).difference
    assert row[-1] == "method worse"


def test_figures_are_those_of_the_predictions(page, root):
    """The headline again from the rows, by scikit-learn: winners by dev, all folds pooled, mean over seeds."""
    found = reader.open(root, sweep="alpha-1")
    where = (pc.field("system") == "emodarts") & (pc.field("role") == "test") & (pc.field("trial") == 0)
    frame = found.table("predictions", where=where).to_pandas()
    each = [(g["label"], g["predicted"]) for _, g in frame.groupby("seed")]
    assert len(each) == 3
    row = sheet(page, "systems-alpha").rows[0]
    assert row[1].value == pytest.approx(np.mean([recall_score(y, p, average="macro") for y, p in each]))
    assert row[1].low < row[1].value < row[1].high
    assert row[2] == pytest.approx(np.mean([accuracy_score(y, p) for y, p in each]))
    assert row[3] == pytest.approx(np.mean([f1_score(y, p, average="macro") for y, p in each]))
    counts = sheet(page, "confusion-0-0-counts")
    assert sum(row[-1] for row in counts.rows) == pytest.approx(len(frame) / 3)
    by_speaker = [
        recall_score(g["label"], g["predicted"], average="macro") for _, g in frame.groupby(["speaker", "seed"])
    ]
    speakers = sheet(page, "speakers-0")
    assert np.mean([row[1] for row in speakers.rows]) == pytest.approx(np.mean(by_speaker))


def test_winners_are_chosen_on_dev_and_told(page):
    table = sheet(page, "folds-0-alpha-speaker3-alpha-test-winners")
    rows = [dict(zip([c.title for c in table.columns], row, strict=True)) for row in table.rows]
    of_ensembles = [r for r in rows if r["system"].endswith("+top5")]
    assert {r["configuration"] for r in of_ensembles} == {", ".join(f"{s}/{t}" for t in range(3)) for s in SKILLS}
    rows = [r for r in rows if r not in of_ensembles]
    assert {(r["trial"], r["of"]) for r in rows} == {(0, 3)}
    assert [r["dev UAR"] for r in rows if r["system"] == "svm"] == [pytest.approx(0.9 + 0.001 * f) for f in range(3)]
    assert all(json.loads(r["configuration"])["search.nodes"] == 1 for r in rows)


@pytest.mark.slow
def test_one_system_of_two_sweeps_is_told_apart(tmp_path):
    for name in ("first", "second"):
        write(tmp_path, replace(ALPHA, name=name, seeds=1, skills={"emodarts": 0.7}))
    (found,) = group_comparisons(load_report_data(reader.open(tmp_path)))
    names = ["emodarts (first)", "emodarts (second)", "emodarts+top5 (first)", "emodarts+top5 (second)"]
    assert [c.name for c in found.systems] == names
    assert compare(found)[1].from_first.p == 1


@pytest.mark.slow
def test_names_that_come_again_are_told_apart(tmp_path):
    for name, system in (("a", "b_c"), ("a-b_c", "d"), ("a-b", "c-d"), ("A", "b_c")):
        write(tmp_path, replace(BETA, name=name, skills={system: 0.7}, crosses={}))
    names = [(type(p).__name__, p.name.lower()) for p in build_page(reader.open(tmp_path)).tables_and_figures()]
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_seeds_that_not_all_folds_have_count_nowhere(tmp_path):
    write(tmp_path, replace(ALPHA, skills={"emodarts": 0.7}, crosses={}))
    (tmp_path / "alpha-1" / "folds" / "emodarts.fold1.t00000.s2.f1.parquet").unlink()
    table = sheet(build_page(reader.open(tmp_path)), "systems-alpha")
    row = dict(zip([c.title for c in table.columns], table.rows[0], strict=True))
    assert row["seeds"] == 2
    assert row["UAR [95 %]"].value == pytest.approx(row["UAR, mean over folds"])  # folds are of one size


def test_a_shared_choice_heads_nothing(tmp_path, capsys):
    write(tmp_path, replace(ALPHA, skills={"emodarts": 0.7}, seeds=1, shared=True, crosses={}))
    made = build_page(reader.open(tmp_path))
    assert not any(name.startswith("UAR") for name, _ in made.tiles)
    assert "study_per=sweep" in sheet(made, "systems-alpha").title
    assert cli.main(["report", str(tmp_path)]) == 0
    assert "study_per=sweep" in capsys.readouterr().out


def test_the_best_test_epoch_is_never_an_ordinary_table(tmp_path, capsys):
    made = replace(
        ALPHA, name="x-published", rule="best_test", suffix="-no-dev", protocol_caveat="no dev part", trials=1
    )
    write(tmp_path, replace(made, skills={"emodarts": 0.7}, seeds=1, crosses={}))
    assert cli.main(["report", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "winner" not in told
    assert "BEST ON TEST" in told


@pytest.mark.slow
def test_folds_that_are_missing_are_told(tmp_path):
    for name in ("whole", "part"):
        write(tmp_path, replace(ALPHA, name=name, skills={"emodarts": 0.7}, seeds=1, crosses={}))
    for trial in range(3):
        (tmp_path / "part" / "folds" / f"emodarts.fold2.t{trial:05d}.s0.f2.parquet").unlink()
    told = build_page(reader.open(tmp_path)).notices
    assert any("part: emodarts has 2 of 3 folds" in notice for notice in told)
    assert any("part: emodarts, fold2 has a winner (trial 0) and no rows" in notice for notice in told)


def test_one_speaker_has_no_interval(tmp_path):
    write(tmp_path, replace(ALPHA, folds=1, speakers=1, seeds=1))
    table = sheet(build_page(reader.open(tmp_path)), "systems-alpha")
    assert table.texts()[0][1].count("[") == 0
    assert {row[9] for row in table.rows[1:3]} == {"cannot be told"}
    assert any("One speaker" in note for note in table.notes)


def test_a_limit_of_the_size_is_kept_in_every_study():
    fronts = [
        [{"size": 10, "value": 0.5}, {"size": 30, "value": 0.7}],
        [{"size": 20, "value": 0.6}, {"size": 40, "value": 0.9}],
    ]
    chosen = [(limit, [row["value"] for row in rows]) for limit, rows in best_within_limits(fronts)]
    assert chosen == [(20, [0.5, 0.6]), (30, [0.7, 0.6]), (40, [0.7, 0.9])]
    many = [[{"size": size, "value": size / 100} for size in range(1, 100)]]
    limits = [limit for limit, _ in best_within_limits(many)]
    assert (limits[0], limits[-1], len(limits)) == (1, 99, 12)
