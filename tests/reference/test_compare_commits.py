"""The working tree gives the figures of the commit that they were recorded with, run side by side on this machine.

Unlike the recorded digests this holds on any CPU.
"""

import shutil
import subprocess

import pytest

from tests.benchmarks import compare_commits
from tests.support.files import REPOSITORY

BASE = "470a09a5c5e5c492b391d80054b589e3b227cae6"  # introduced the reference units; its product is that of _PRODUCT
_PRODUCT = "c2e387ff9e189a9c554b8b47172662539ba94471"
# Without a supernet: the rule beside its own rows has another name since search.derive_at.
_UNITS = ["cnn_lstm_attention", "random_search", "evolution"]


def _git(*arguments):
    return subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True)


@pytest.fixture(scope="module", autouse=True)
def history():
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("needs a git checkout")
    for commit in (BASE, _PRODUCT):
        if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
            pytest.skip(f"needs the history back to {commit[:12]}, which is not in this checkout")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_working_tree_gives_the_figures_of_the_base(capsys):
    code = compare_commits.main([BASE, ".", "--units", *_UNITS])
    said = capsys.readouterr()
    assert (code, said.out) == (0, f"equal: {len(_UNITS)} units\n"), said.out + said.err


def test_the_base_has_the_product_before_anything_was_moved():
    assert _git("diff", "--stat", _PRODUCT, BASE, "--", "emodarts", "sweeps", "cluster").stdout == ""


@pytest.mark.slow
def test_what_cannot_be_compared_is_refused_in_a_sentence(capsys):
    for commit, why in ((_PRODUCT, "has no reference units"), ("no-such-commit", "is no commit of this repository")):
        assert compare_commits.main([".", commit]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"{commit} {why}: the reference units came with commit ")
        assert said.count("\n") == 1
        introduction = said.split("commit ")[-1].split(",")[0]
        assert BASE.startswith(introduction)
    assert compare_commits.main([".", BASE, "--units", "no_such_unit"]) == 2
    assert "has no unit no_such_unit: it knows base, " in capsys.readouterr().err
