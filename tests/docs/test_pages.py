"""The Python of docs/library.md, results.md, report.md and statistics.md runs, from the first line to the last."""

import re
from pathlib import Path

import pyarrow.compute as pc
import pytest

from emodarts.results.schemas import TABLES
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from tests.support.markdown import blocks_of, read_page, run_python_blocks
from tests.support.unit_records import key, records


@pytest.mark.slow
def test_the_library_page_runs_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert len(blocks_of("docs/library.md", "python")) >= 10
    names = run_python_blocks("docs/library.md")
    told = capsys.readouterr().out
    assert re.search(r"dev UAR \d\.\d\d", told)
    assert "final test demo/test" in told
    assert "train 1: dev UAR" in told
    assert names["on_test"].shape == (len(names["fold"].tests["demo/test"]), len(names["fold"].classes))
    assert not Path("checkpoints", "fold0").exists()


def test_the_results_page_runs_and_names_every_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    storage = Storage.open("results")
    register(storage, "s", {})
    for fold in (0, 1):
        SweepWriter(storage, "s").commit(key(0, fold), records(test=3, fold=fold), "x")
    run_python_blocks("docs/results.md")
    told = capsys.readouterr().out
    assert "emodarts  0.75      2" in told
    assert told.count("0.75") >= 3, "the figure of the table is that of the predictions"
    page = read_page("docs/results.md")
    assert all(f"| `{table}` |" in page for table in TABLES)


@pytest.mark.slow
def test_the_report_page_computes_what_the_report_says(tmp_path, monkeypatch, capsys):
    from emodarts.report.page import build_page
    from emodarts.results import reader
    from tests.support.made_results import Made, write

    monkeypatch.chdir(tmp_path)
    write("results", Made("one", "one", {"emodarts": 0.7, "svm": 0.5}, seeds=2, speakers=2, takes=5))
    write("results", Made("two", "two", {"emodarts": 0.4}, folds=3, speakers=2, takes=5))
    run_python_blocks("docs/report.md")
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(told) == 5
    tables = [p for p in build_page(reader.open("results")).tables_and_figures() if p.name.startswith("systems")]
    for corpus, table, seeds in zip(("one", "two"), tables, (2, 1), strict=True):
        for system, uar in ((row[0], row[1].value) for row in table.rows if row[0] in ("emodarts", "svm")):
            mine = [float(x[-1]) for x in told if x[:2] == [corpus, system]]
            assert len(mine) == seeds
            assert sum(mine) / seeds == pytest.approx(uar)


def test_a_fold_takes_six_lines():
    code = next(b.text for b in blocks_of("docs/library.md", "python") if b.text.startswith("data = FoldData.of"))
    assert len(code.splitlines()) == 6


@pytest.mark.slow
def test_the_statistics_page_computes_intervals_and_differences(tmp_path, monkeypatch, capsys):
    from tests.support.made_results import Made, write

    monkeypatch.chdir(tmp_path)
    skills = {"emodarts": 0.9, "svm": 0.3, "cnn": 0.85}
    write("results", Made("one", "one", skills, seeds=2, speakers=2, takes=5))
    names = run_python_blocks("docs/statistics.md")
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert len(names["emodarts"]) == 2, "a tally a seed"
    assert names["differences"][0].low > 0, "0.9 against 0.3 is a difference"
    by_hand = [(names["rows_of"]("emodarts", seed)) for seed in (0, 1)]
    recalls = [t.filter(pc.equal(t["label"], c)) for t in by_hand for c in t["classes"][0].as_py()]
    right = [pc.mean(pc.equal(t["label"], t["predicted"])).as_py() for t in recalls]
    assert names["interval"](names["emodarts"]).value == pytest.approx(sum(right) / len(right))
