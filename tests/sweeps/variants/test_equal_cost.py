"""Random search and evolution get as many candidates as a search is worth: measured once, then in the rows."""

import json

import pytest

from emodarts.errors import EmodartsError
from emodarts.results import reader
from sweeps.study.search_space import SearchSpace
from sweeps.variants import equal_cost
from tests.support.commands import ONE_TRIAL, TINY, manifest, run_here, settings, variables

SYSTEM = "emodarts:random_search:joint"


def seconds(monkeypatch, search, candidate):
    """Plant what is measured."""
    monkeypatch.setattr(equal_cost, "search_seconds", lambda *_: search)
    monkeypatch.setattr(equal_cost, "candidate_seconds", lambda *_: candidate)


def rows(results):
    """The candidates of each trial's row, and those that each of its units trained."""
    opened = reader.open(results)
    trials = [json.loads(t["parameters"]) for t in opened.table("trials").to_pylist()]
    units = [json.loads(row["settings"])["search"]["candidates"] for row in opened.table("folds").to_pylist()]
    searched = [row for row in opened.table("epochs").to_pylist() if row["phase"] == "search"]
    return trials, units, searched


@pytest.mark.slow
def test_the_number_is_measured_once_and_stands_in_every_row(small_corpus, tmp_path, monkeypatch):
    results, environment = tmp_path / "results", variables(tmp_path / "cache")
    command = manifest(
        small_corpus, results, *ONE_TRIAL, f"system=[{SYSTEM},emodarts:fixed]", "sweep.folds=[0]", "sweep.name=s"
    )
    seconds(monkeypatch, search=7.0, candidate=2.0)
    told = run_here(environment, *command)
    assert "so each search has 3 candidates" in " ".join(told.split())
    seconds(monkeypatch, search=90.0, candidate=2.0)  # a later start, on a slower machine
    told = run_here(environment, *command, "sweep.trials=2")
    assert "candidates" not in told
    trials, units, searched = rows(results)
    assert [t.get(equal_cost.NAME) for t in trials].count(3) == 2
    assert len(trials) == 4
    assert set(units) == {3, None}
    assert len(searched) == 2 * 3


@pytest.mark.slow
def test_what_is_measured_is_a_search_and_a_candidate(small_corpus, tmp_path):
    results, environment = tmp_path / "results", variables(tmp_path / "cache")
    command = manifest(small_corpus, results, *ONE_TRIAL, f"system={SYSTEM}", "sweep.folds=[0]", "sweep.name=s")
    told = " ".join(run_here(environment, *command).split())
    assert f"{SYSTEM}: a search by a supernet takes" in told
    trials, units, searched = rows(results)
    assert len(searched) == trials[0][equal_cost.NAME] == units[0] >= 1


@pytest.mark.parametrize(
    ("given", "measures"),
    [
        (["search.method=random_search"], True),
        (["search.method=evolution"], True),
        (["search.method=evolution", "search.candidates=9"], False),
        (["search.method=random_search", "+sweep.space.search.candidates=4"], False),
        (["search.method=darts"], False),
        (["system=cnn", "search.method=random_search"], False),
    ],
)
def test_only_searches_by_candidates_without_a_number_are_measured(given, measures):
    assert equal_cost.counts_by_seconds(SearchSpace.of(settings(*TINY, *given))) is measures


def test_the_measured_number_is_no_dimension():
    space = SearchSpace.of(settings(*TINY, "search.method=evolution"))
    assert equal_cost.NAME not in space.free
    with pytest.raises(EmodartsError, match=r"search\.candidates=0 is out of range"):
        space.apply({equal_cost.NAME: 0})
