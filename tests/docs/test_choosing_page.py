"""docs/sweeps.md says what docs/choosing.json holds; and what the figures of its benchmark are."""

import json
from dataclasses import replace

import numpy as np
import pytest

from emodarts.corpora.protocols.folds import check_fold
from emodarts.records import EpochRecord
from tests.benchmarks import choosing, rank_correlation
from tests.support.unit_records import evaluation, records


def test_the_page_says_what_was_measured():
    page, recorded = choosing.PAGE.read_text(), choosing.load_figures(choosing.FIGURES)
    assert page == choosing.with_tables(page, recorded)
    for summary, ranking in ((of["summary"], choosing.rank(of)) for of in recorded.values() if "summary" in of):
        assert (summary["configurations"], summary["folds"]) == (ranking.configurations, list(ranking.folds))
        for name, row in summary["rules"].items():
            assert row["tau"][0] == round(
                rank_correlation.mean_tau(ranking.by_rule[name], np.arange(ranking.configurations)), 3
            )


def trainings(rank, judged, folds=(0, 3), splits=2):
    """Each figure of configuration n is `rank(n)`, but on the judging speakers, and on inner splits (`-rank(n)`)."""
    whats = [*(f"seed{s}" for s in range(4)), "averaged0", "averaged1", *(f"inner{i}" for i in range(splits))]
    rows = {}
    for fold in folds:
        for number in range(8):
            for what in whats:
                value = -rank(number) if what.startswith("inner") else rank(number)
                rows[f"{fold}.{number}.{what}"] = [value, value, value, judged(number), 36.0]
    return {"epochs": 2, "splits": splits, "commits": ["abc"], "trainings": rows}


def test_tau_is_1_for_a_rule_that_ranks_as_the_judges_and_minus_1_for_its_reverse(monkeypatch):
    monkeypatch.setattr(rank_correlation, "RESAMPLES", 50)
    ranking = choosing.rank(trainings(lambda n: n / 10, lambda n: n / 100))
    assert (ranking.configurations, ranking.folds) == (8, (0, 3))
    summary = choosing.summarise(ranking)
    assert {name: row["tau"][0] for name, row in summary["rules"].items()} == {
        **dict.fromkeys(("best_epoch", "late_mean", "dev_loss", "averaged", "two_seeds"), 1.0),
        **dict.fromkeys(("inner", "inner_late"), -1.0),
    }
    assert summary["rules"]["best_epoch"]["more"] is None
    assert summary["rules"]["late_mean"]["more"] == [0, 0, 0]
    assert summary["rules"]["inner"]["more"][0] == -2
    assert summary["rules"]["best_epoch"]["gain"] == pytest.approx(0.035)
    assert summary["rules"]["inner"]["gain"] == pytest.approx(-0.035)
    assert summary["ceiling"][0] == 1
    assert summary["averaging"] == [0, 0, 0]
    recorded = trainings(lambda n: n / 10, lambda n: n / 100)
    rows = choosing.page_lines({"emodb": {**recorded, "summary": summary}})
    assert rows[0].startswith("**EmoDB**: 8 configurations, folds 0, 3, 2 epochs; 128 trainings in 1.3 core-hours")
    assert any(
        "mean over 2 inner splits | 2 | -1.00 [-1.00, -1.00] |" in row and row.endswith("| -.035 |") for row in rows
    )


def test_an_interval_holds_its_value_and_what_is_all_equal_has_none(monkeypatch):
    monkeypatch.setattr(rank_correlation, "RESAMPLES", 50)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.3, 8)
    summary = choosing.summarise(choosing.rank(trainings(lambda n: n / 10 + noise[n], lambda n: n / 100)))
    tau, low, high = summary["rules"]["best_epoch"]["tau"]
    assert -1 < low < tau < high <= 1
    equal = choosing.summarise(choosing.rank(trainings(lambda n: 0.5, lambda n: n / 100)))
    assert equal["rules"]["best_epoch"]["tau"] is None


def test_configurations_that_are_not_whole_do_not_count():
    of_corpus = trainings(lambda n: n / 10, lambda n: n / 100)
    del of_corpus["trainings"]["3.7.inner1"]
    assert choosing.rank(of_corpus).configurations == 7
    of_corpus["trainings"] = {name: row for name, row in of_corpus["trainings"].items() if name.split(".")[1] < "2"}
    assert choosing.rank(of_corpus) is None
    assert choosing.page_lines({"emodb": of_corpus}) == choosing.page_lines({})


def test_who_judges_neither_trains_nor_chooses_and_nobody_of_the_test_part_is_there(demo):
    fold = demo[2][0]
    chosen = choosing.divide(fold)
    check_fold(chosen)
    assert {*chosen.train} | {*chosen.dev} == {*fold.train}
    assert chosen.test_ids == fold.dev
    assert not {*chosen.train, *chosen.dev, *chosen.test_ids} & {*fold.test_ids}


def test_figures_are_those_that_the_rules_name():
    epochs = tuple(EpochRecord("train", n, 1.0, 1.0, n / 10, 0.5, 0.1) for n in range(8))
    base = replace(records(), evaluations=(evaluation("dev", 3), evaluation("test", 4)), epochs=epochs)
    fold = type("Fold", (), {"protocol": "x", "index": 0, "hash": "h", "classes": ("a", "b")})()
    figures = dict(zip(choosing.COLUMNS, choosing.figures_of(base, fold), strict=True))
    assert figures == pytest.approx(
        {"best_epoch": 0.75, "late_mean": 0.65, "dev_loss": (0.9**3 * 0.1) ** 0.25, "judged": 1.0, "seconds": 1}
    )


def test_the_table_is_written_and_what_is_recorded_is_read_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rank_correlation, "RESAMPLES", 20)
    monkeypatch.setattr(choosing, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text(f"before\n{choosing.BEGIN}\nold\n{choosing.END}\nafter\n")
    figures = tmp_path / "choosing.json"
    recorded = {"emodb": trainings(lambda n: n / 10, lambda n: n / 100), "ravdess": trainings(float, float)}
    choosing.save_figures(figures, recorded)
    assert choosing.load_figures(figures) == recorded
    monkeypatch.setattr("sys.argv", ["choosing.py", "table", "--figures", str(figures)])
    assert choosing.main() == 0
    assert json.loads(capsys.readouterr().out)["ravdess"]["best_epoch"] == [1, 1, 1]
    page = (tmp_path / "page.md").read_text()
    assert page == choosing.with_tables(page, choosing.load_figures(figures))
    assert page.startswith(f"before\n{choosing.BEGIN}\n**EmoDB**")
    assert "\nold\n" not in page
