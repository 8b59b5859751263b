"""A sweep whose driver, workers and a node are killed ends with the tables of an undisturbed one.

The long version, on the demo corpus: `python tests/benchmarks/chaos.py`.
"""

import pytest

from emodarts.results import reader
from tests.support.chaos import Chaos, local_cluster
from tests.support.commands import RUN, VARIED, comparable, manifest, run_here


@pytest.mark.cluster(seconds=50)
@pytest.mark.timeout(600)
def test_kills_leave_no_trace_in_the_tables(environment, small_corpus, tmp_path):
    longer = ["search.epochs=4", "training.epochs=6"]
    space = [option for option in VARIED if "search.epochs" not in option]
    asked = [*space, *longer, "sweep.trials=3", "sweep.folds=[0,1]", "sweep.sampler=random"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_here(environment, *manifest(small_corpus, whole, *asked))
    quickly = {"RAY_health_check_period_ms": "1000"}  # a killed node is missed after 5 of these
    with local_cluster(nodes=1, head={"cpus": 1}, **quickly) as cluster:
        kills = ["driver", "worker", "worker", "node"]
        chaos = Chaos(cluster, [*RUN, *manifest(small_corpus, killed, *asked)], environment, kills, pause=(0.2, 1.0))
        chaos.run(tmp_path / "log")
    assert chaos.starts == 2
    assert comparable(killed) == comparable(whole)
    retries = sum(t.retries for t in reader.open(killed).trials())
    assert retries >= 2
    assert f"configurations 6 complete; begun again {retries} times" in (tmp_path / "log").read_text()
    assert not list(killed.glob("*/checkpoints/*"))
