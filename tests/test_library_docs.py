"""The code in docs/library.md runs, from the first line to the last."""

import re
from pathlib import Path

from conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "library.md"


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


def test_a_fold_takes_six_lines():
    code = next(code for _, code in blocks(PAGE.read_text()) if code.startswith("data = FoldData.of"))
    assert len(code.splitlines()) == 6
