"""experiment=matrix: one ordinary sweep a corpus, tested on the others, and one heat map of all of them."""

import pytest

from emodarts.report.notices import comparability_notices
from emodarts.report.report_data import load_report_data
from emodarts.report.sections.cross_corpus import cross_corpus_section
from emodarts.results import reader
from tests.support.commands import comparable, run_here, variables
from tests.support.layouts import crema_d, savee

CORPORA = {"crema_d": crema_d, "savee": savee}


@pytest.mark.slow(seconds=20)
def test_a_matrix_from_folders_to_its_heat_map(tmp_path):
    for name, layout in CORPORA.items():
        layout.write_corpus(tmp_path / "corpora" / name, junk=False)
    environment = variables(tmp_path / "cache", EMODARTS_CORPORA=str(tmp_path / "corpora"))
    command = ["experiment=matrix", "matrix=[savee,crema_d]", "corpus.class_set=four", "system=svm", "sweep.trials=1"]
    command += ["features.n_mels=32", f"results={tmp_path / 'results'}", "batches.sampling=corpus"]
    told = run_here(environment, *command)
    assert "savee, audit" not in told  # one corpus a sweep: its audit without the corpus's name
    assert "audit, warning: sentences go with emotions" in told
    assert "draws the matrix of savee, crema_d" in " ".join(told.split())
    opened = reader.open(tmp_path / "results")
    assert sorted(name.rpartition("-")[0] for name in opened.sweeps) == ["crema_d", "savee"]
    tested = {(row["train_corpora"][0], row["test_set"], row["role"]) for row in opened.table("folds").to_pylist()}
    assert {("savee", "crema_d/all", "cross"), ("crema_d", "savee/all", "cross")} <= tested
    audited = [row["corpus"] for row in opened.table("corpora").to_pylist() if row["audit"]]
    assert sorted(audited) == ["crema_d", "savee"]

    data = load_report_data(opened)
    section = cross_corpus_section(data)
    assert any(
        "batches.sampling=corpus: corpora do not count by their sizes" in n for n in comparability_notices(data.systems)
    )
    figure, table = section.elements[1:3]
    assert {(row[2], row[3]) for row in table.rows} == {
        ("English (American): crema_d*", "English (American): crema_d"),
        ("English (American): crema_d", "English (British): savee"),
        ("English (British): savee*", "English (British): savee"),
        ("English (British): savee", "English (American): crema_d"),
    }
    assert "trained on (rows), tested on (columns)" in figure.caption

    before = comparable(tmp_path / "results")
    run_here(environment, *command)  # nothing is left to do
    assert comparable(tmp_path / "results") == before
