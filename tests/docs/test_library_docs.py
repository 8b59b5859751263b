"""The code in docs/library.md, docs/results.md and docs/report.md runs, from the first line to the last."""

import re
from pathlib import Path

import pytest

from emodarts.results.schemas import TABLES
from emodarts.results.sweep_file import register
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from tests.support.files import REPOSITORY
from tests.support.unit_records import key, records

PAGE = REPOSITORY / "docs" / "library.md"
RESULTS = REPOSITORY / "docs" / "results.md"
REPORT = REPOSITORY / "docs" / "report.md"


def blocks(text):
    """Line number and code of every python block."""
    return [(text[: m.start(1)].count("\n"), m[1]) for m in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S)]


def test_every_block_of_the_page_runs_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = blocks(PAGE.read_text())
    assert len(found) >= 10
    names = {"__name__": "page"}
    for line, code in found:
        exec(compile("\n" * line + code, str(PAGE), "exec"), names)
    told = capsys.readouterr().out
    assert re.search(r"dev UAR \d\.\d\d", told)
    assert "final test demo/test" in told
    assert "train 1: dev UAR" in told
    assert names["on_test"].shape == (len(names["fold"].tests["demo/test"]), len(names["fold"].classes))
    assert not Path("checkpoints", "fold0").exists()


def test_the_page_on_results_runs_and_names_every_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    storage = Storage.open("results")
    register(storage, "s", {})
    for fold in (0, 1):
        SweepWriter(storage, "s").commit(key(0, fold), records(test=3, fold=fold), "x")
    names = {"__name__": "page"}
    text = RESULTS.read_text()
    for line, code in blocks(text):
        exec(compile("\n" * line + code, str(RESULTS), "exec"), names)
    told = capsys.readouterr().out
    assert "emodarts  0.75      2" in told
    assert told.count("0.75") >= 3, "the figure of the table is that of the predictions"
    assert all(f"| `{table}` |" in text for table in TABLES)


def test_the_page_on_reports_computes_what_the_report_says(tmp_path, monkeypatch, capsys):
    from emodarts.report.page import page_of
    from emodarts.results import reader
    from tests.support.made_results import Made, write

    monkeypatch.chdir(tmp_path)
    write("results", Made("one", "one", {"emodarts": 0.7, "svm": 0.5}, seeds=2, speakers=2, takes=5))
    write("results", Made("two", "two", {"emodarts": 0.4}, folds=3, speakers=2, takes=5))
    for line, code in blocks(REPORT.read_text()):
        exec(compile("\n" * line + code, str(REPORT), "exec"), {"__name__": "page"})
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(told) == 5
    tables = [p for p in page_of(reader.open("results")).parts() if p.name.startswith("systems")]
    for corpus, table, seeds in zip(("one", "two"), tables, (2, 1), strict=True):
        for system, uar in ((row[0], row[1].value) for row in table.rows if row[0] in ("emodarts", "svm")):
            mine = [float(x[-1]) for x in told if x[:2] == [corpus, system]]
            assert len(mine) == seeds
            assert sum(mine) / seeds == pytest.approx(uar)


def test_a_fold_takes_six_lines():
    code = next(code for _, code in blocks(PAGE.read_text()) if code.startswith("data = FoldData.of"))
    assert len(code.splitlines()) == 6
