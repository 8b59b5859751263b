"""What a console says while nothing can run."""

import io
from types import SimpleNamespace

import pytest
import ray
from ray.tune.experiment import Trial
from rich.console import Console

from sweeps.execution.progress import ProgressTable
from sweeps.units.outcomes import UnitOutcome
from sweeps.units.system_queues import SystemQueues
from tests.support.studies import begin

RESOURCES = SimpleNamespace(required_resources={"CPU": 1.0, "GPU": 0.25})


@pytest.fixture
def table(tmp_path):
    output = io.StringIO()
    now = [1000.0]
    queues = SystemQueues([begin(tmp_path, trials=2)])
    progress = ProgressTable(queues, Console(file=output, width=500), "s", clock=lambda: now[0])

    def step(seconds, *statuses):
        now[0] += seconds
        trials = [SimpleNamespace(status=status, placement_group_factory=RESOURCES) for status in statuses]
        progress.on_step_end(0, trials)
        return output.getvalue().splitlines()

    return step


def test_units_that_wait_for_resources_say_what_they_ask_for_and_what_there_is(table, monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 3.0})
    assert table(0, Trial.PENDING) == []
    assert table(29, Trial.PENDING) == [], "a worker may be starting"
    (line,) = table(2, Trial.PENDING)
    assert "waiting for resources since 0.5 min: a unit asks for 1 CPU, 0.25 GPU; the cluster has 4 CPU, 0 GPU" in line
    assert "resources.gpus_per_trial, 0 for none" in line
    assert len(table(300, Trial.PENDING)) == 1, "not at each look"
    assert len(table(400, Trial.PENDING)) == 2
    assert len(table(400, Trial.RUNNING, Trial.PENDING)) == 2, "something runs"
    assert len(table(20, Trial.PENDING)) == 2


def test_a_tracker_that_was_given_up_is_said_once(tmp_path):
    output, queues = io.StringIO(), SystemQueues([begin(tmp_path, trials=2)])
    progress = ProgressTable(queues, Console(file=output, width=500), "s")
    for _ in range(2):
        unit = queues.next_unit()
        queues.queue_of(unit).on_unit_end(unit, UnitOutcome("complete", 0.5, 1, tracker_errors={"mlflow": "it is off"}))
        progress.on_unit_end(unit)
    text = output.getvalue()
    assert text.count("sweep.track: mlflow cannot be written (it is off); the sweep goes on") == 1
    assert text.count("dev UAR 0.500") == 2
