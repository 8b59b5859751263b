"""A results folder with files deleted or cut: taken up, or refused with what is missing; never a wrong row."""

import shutil

import numpy as np
import pytest

from emodarts.errors import EmodartsError
from emodarts.report.report_data import load_report_data
from emodarts.results import reader
from tests.support.studies import begin, rows, run_all

SWEEP = {"folds": (0, 1), "trials": 4, "sampler": "random"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    run_all(begin(root, **SWEEP))
    return root


@pytest.fixture
def copy(whole, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(whole, root)
    return root


def test_a_trial_whose_files_are_deleted_runs_under_a_number_of_its_own(whole, copy):
    for path in (copy / "s").rglob("*.fold1.t00001.*"):
        path.unlink()
    again = run_all(begin(copy, **SWEEP))
    assert again.complete
    before, after = ({row[:3]: row[3:] for row in rows(root)} for root in (whole, copy))
    assert set(after) == {*before} - {("fold1", 1, 0)} | {("fold1", 4, 0)}
    assert all(after[key] == before[key] for key in {*before} & {*after}), "no other row is touched"


def test_a_row_that_is_deleted_alone_leaves_its_number_unused(copy):
    (copy / "s" / "trials" / "emodarts.fold0.t00003.s0.parquet").unlink()
    run_all(begin(copy, **SWEEP))
    assert [number for study, number, *_ in rows(copy) if study == "fold0"] == [0, 1, 2, 4]


@pytest.mark.parametrize("table", ["folds", "predictions", "epochs"])
def test_what_is_missing_is_named(copy, table):
    path = next((copy / "s" / table).glob("emodarts.fold0.t00002.*"))
    path.unlink()

    def read():
        begin(copy, **SWEEP)
        reader.open(copy).table(table)

    with pytest.raises(EmodartsError, match=r"emodarts\.fold0\.t00002.*restore"):
        read()


@pytest.mark.parametrize("seed", range(12))
def test_any_files_deleted_or_cut(copy, seed):
    """Twelve draws: up to six files of any table are gone, or end in their middle."""
    rng = np.random.default_rng(seed)
    before = {row[:3]: row[3:] for row in rows(copy)}
    files = sorted((copy / "s").rglob("*.parquet"))
    for path in rng.choice(files, rng.integers(1, 7), replace=False):
        if rng.random() < 0.7:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: rng.integers(0, path.stat().st_size)])
    refusal = None
    try:
        again = run_all(begin(copy, **SWEEP))
        load_report_data(reader.open(copy))
    except EmodartsError as error:
        refusal = str(error)
    if refusal is not None:
        assert ".parquet" in refusal, "the file is named"
        return
    assert again.complete
    after = {row[:3]: row[3:] for row in rows(copy)}
    assert len(after) == len(before), "as many as were asked for"
    assert all(after[key] == before[key] for key in {*before} & {*after}), "no other row is touched"
