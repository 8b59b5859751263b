"""Rows of units on inner splits are no results: every reader says the same without and with them."""

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest
from rich.console import Console

from emodarts.report.leaderboard import read_leaderboard
from emodarts.report.page import build_page, render_page
from emodarts.report.report_data import load_report_data
from emodarts.report.sections.health import find_health
from emodarts.report.terminal import print_report
from emodarts.results import reader
from emodarts.results.compaction import compact
from emodarts.results.ensembles import evaluate_ensembles
from emodarts.results.winners import network_costs, rank_configurations, winners
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage
from tests.support.made_results import Made, unit, write

MADE = Made(skills={"emodarts": 0.7, "cnn": 0.5}, folds=3, trials=3)


def write_results(root, with_inner):
    """A sweep whose units on two inner splits, where there are some, are right every time, or never."""
    write(root, MADE)
    writer = SweepWriter(Storage.open(root), MADE.name)
    for row in reader.open(root).table("folds", where=pc.field("role") == "dev").to_pylist() if with_inner else ():
        for split in range(2):
            key = MADE.key(row["system"], row["fold"], row["trial"])
            rng = np.random.default_rng(split)  # and test parts were predicted as well, which no such unit does
            records = unit(MADE, row["system"], row["fold"], float((row["trial"] + split) % 2), rng)
            key = replace(key, inner=split, fold_hash=f"inner{split}")
            writer.commit(key, replace(records, parameters=row["parameters"]), "x")
    return reader.open(root)


@pytest.fixture(scope="module", params=["small files", "compacted"])
def both(request, tmp_path_factory):
    """The results without and with such rows."""
    root = tmp_path_factory.mktemp("inner")
    opened = [write_results(root / str(with_inner), with_inner) for with_inner in (False, True)]
    if request.param == "compacted":
        for folder in ("False", "True"):
            compact(Storage.open(root / folder), MADE.name)
        opened = [reader.open(root / folder) for folder in ("False", "True")]
    return opened


def read_tables(results):
    return {name: results.table(name).to_pylist() for name in ("folds", "predictions", "epochs", "genotypes", "trials")}


def read_ensembles(results):
    return [e.row for e in evaluate_ensembles(results.parts[0], 2)]


def read_report(results):
    data = load_report_data(results, top=2)
    curves = data.winner_rows("epochs", ["system", "fold", "phase", "epoch", "dev_uar"])
    return str([(s.system, s.winners, s.rows, s.tallies) for s in data.systems]), curves


def read_health(results):
    """Hours of units are those of all, and stand by themselves."""
    findings = find_health(load_report_data(results), results.parts[0])
    return [finding for finding in findings if finding.what != "time"]


def read_terminal(results):
    sink = io.StringIO()
    print_report(results, Console(file=sink, width=150))
    return sink.getvalue()


READERS = {
    "tables": read_tables,
    "winners": winners,
    "ranking": lambda results: rank_configurations(results.parts[0]).to_pylist(),
    "costs": lambda results: sorted(map(str, network_costs(results.parts[0]).to_pylist())),
    "ensembles": read_ensembles,
    "report": read_report,
    "health": read_health,
    "terminal": read_terminal,
    "leaderboard": read_leaderboard,
    "page": lambda results: _without_times(render_page(build_page(results))),
}


def _without_times(html):
    return [line for line in html.splitlines() if "hours of units" not in line and "emodarts report" not in line]


def _normalised(value):
    return json.loads(json.dumps(value, default=str, sort_keys=True).replace("/True", "/False"))


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_reader_says_the_same_without_and_with_inner_rows(both, name):
    plain, with_inner = (_normalised(READERS[name](reader.open(r.parts[0].path))) for r in both)
    assert plain == with_inner


def test_who_asks_for_inner_rows_has_them_and_all_commits_are_known(both):
    plain, opened = both
    rows = opened.table("folds", with_inner=True)
    assert len(rows.filter(pc.is_valid(rows["inner"]))) == 2 * len(plain.table("folds"))
    assert len(rows) == 3 * len(opened.table("folds"))
    assert len(opened.commits) == 3 * len(plain.commits)
    for commit in opened.commits:
        table = opened.parts[0].read_unit("folds", commit)
        assert set(table["inner"].to_pylist()) == {commit.key.inner}
        assert set(table["fold_hash"].to_pylist()) == {commit.key.fold_hash}
