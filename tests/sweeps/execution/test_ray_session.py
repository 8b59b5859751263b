"""Real Ray Tune over the studies, with units that need no torch: pruning, deaths, stores away, metrics, ports."""

import os
import time
import urllib.request

import optuna
import psutil
import pytest
import ray
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError
from ray.tune.experiment import Trial
from rich.console import Console

from emodarts.errors import EmodartsError
from emodarts.records import EpochRecord
from emodarts.results import reader
from emodarts.storage import StorageError
from sweeps.execution import tune_fit
from sweeps.execution.metrics import UnitMetrics
from sweeps.execution.tune_fit import ConcurrencyLimiter, fit
from sweeps.nodes.environment import runtime_environment
from sweeps.nodes.session import session, trial_resources
from sweeps.settings import RaySettings, ResourceSettings
from sweeps.units.system_queues import SystemQueues
from tests.support.commands import QUICK_WORKERS
from tests.support.studies import begin_with_journal, fault_counts, rows


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "1000")  # by default nodes export their figures every 10 s
        for name, value in QUICK_WORKERS.items():
            patch.setenv(name, value)
        with session(RaySettings(dashboard=False), ResourceSettings(), Console(quiet=True)):
            yield


def unit_that(does):
    """A trainable that is sent by value: workers cannot import this file."""

    def trainable(config):
        from ray import tune

        tune.report(does(config["unit"]))

    return trainable


def run(studies, does, workers=2):
    fit(unit_that(does), SystemQueues([studies]), {"cpu": 1}, [], workers)
    return studies


@pytest.mark.cluster(seconds=8)
def test_pruned_units_stop_and_their_worker_goes_on_with_the_next(cluster, tmp_path):
    folder, record = str(tmp_path), EpochRecord("search", 0, 1.0, 1.0, 0.5, 0.5, 0.1)

    def does(unit):
        import os
        from dataclasses import replace
        from pathlib import Path

        from ray import tune

        value = (unit.key.trial * 7 % 10) / 10
        epochs = []
        for number, (phase, _) in enumerate(unit.rungs):
            epochs.append(replace(record, phase=phase, dev_uar=value))
            tune.report({"status": "running", "rung": number, "dev_uar": value, "epochs": tuple(epochs)})
        Path(folder, f"whole-{unit.key.trial}-{os.getpid()}").touch()
        return {"status": "complete", "dev_uar": value, "parameters": 1}

    studies = run(begin_with_journal(tmp_path, trials=10, pruner="asha"), does, workers=1)
    assert studies.complete
    whole = {int(path.name.split("-")[1]): path.name.split("-")[2] for path in tmp_path.glob("whole-*")}
    found = reader.open(tmp_path)
    statuses = {t.trial: t.status for t in found.trials()}
    assert {number for number, status in statuses.items() if status == "complete"} == set(whole)
    assert set(statuses.values()) == {"complete", "pruned"}
    assert len(set(whole.values())) == 1, "one worker ran them all"
    assert {c.key.trial for c in found.commits} == {n for n, status in statuses.items() if status == "pruned"}
    kept = optuna.load_study(
        study_name="emodarts · fold0",
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(tmp_path / "s" / "journal.log"))
        ),
    )
    assert {t.user_attrs["trial"]: t.state.name.lower() for t in kept.trials} == statuses


@pytest.mark.cluster(seconds=8)
def test_workers_that_die_are_begun_again_three_times(cluster, tmp_path):
    folder = str(tmp_path)

    def does(unit):
        import os
        import signal
        from pathlib import Path

        tries = Path(folder, f"tries-{unit.key.trial}")
        tries.open("a").write("x")
        if unit.key.trial == 2 or (unit.key.trial == 1 and len(tries.read_text()) < 3):
            os.kill(os.getpid(), signal.SIGKILL)
        return {"status": "complete", "dev_uar": 0.5, "parameters": 1}

    studies = run(begin_with_journal(tmp_path, trials=4), does)
    assert [(s, t, status) for s, t, _, _, status, _ in rows(tmp_path)] == [
        ("fold0", 0, "complete"), ("fold0", 1, "complete"), ("fold0", 2, "failed"), ("fold0", 3, "complete"),
    ]  # fmt: skip
    assert [len((tmp_path / f"tries-{n}").read_text()) for n in range(4)] == [1, 3, 3, 1]
    assert fault_counts(studies) == {"retries": 4, "failed": 1, "pruned": 0}
    failed = next(t for t in reader.open(tmp_path).trials() if t.status == "failed")
    assert "its worker died 3 times" in failed.reason


@pytest.mark.cluster(seconds=8)
def test_results_that_are_away_end_the_sweep_and_fail_nothing(cluster, tmp_path):
    def does(unit):
        raise StorageError("cannot write results: No space left on device; make room")

    studies = run(begin_with_journal(tmp_path, trials=2), does)
    assert "No space left on device; make room" in studies.stopped
    assert studies.finished
    assert not studies.complete
    assert {(t.status, t.reason) for t in reader.open(tmp_path).trials()} == {("running", None)}
    assert not reader.open(tmp_path).commits
    again = begin_with_journal(tmp_path, trials=2)
    run(again, lambda unit: {"status": "complete", "dev_uar": 0.5, "parameters": 1})
    assert again.complete


@pytest.mark.cluster(seconds=8)
def test_figures_of_units_reach_the_metrics_page(cluster):
    telemetry = UnitMetrics("trial 12 · fold 3", "s", "emodarts", 40)
    before = psutil.Process().cmdline()
    assert "trial 12 · fold 3 · begins" in " ".join(before)
    telemetry.on_epoch_end(EpochRecord("search", 0, 1.0, 1.0, 0.625, 0.5, 2.0))
    assert "trial 12 · fold 3 · search" in " ".join(psutil.Process().cmdline())
    (node,) = ray.nodes()
    page = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline, text = time.time() + 90, ""
    while "ray_emodarts_utterances_per_second{" not in text and time.time() < deadline:
        time.sleep(1)
        text = urllib.request.urlopen(page, timeout=10).read().decode()
    line = next(x for x in text.splitlines() if x.startswith("ray_emodarts_dev_uar{") and 'phase="search"' in x)
    assert line.endswith(" 0.625")
    assert any(x.startswith("ray_emodarts_utterances_per_second{") and x.endswith(" 20.0") for x in text.splitlines())


LISTENERS = {  # what may be reached from other hosts, each behind Ray's token
    "gcs_server": "the cluster's state",
    "raylet": "a node's scheduler and its objects",
    "ray::": "workers",
    "dashboard": "agents that export metrics and install environments",
    "runtime_env": "agent",
    "python": "this driver",
}


@pytest.mark.cluster(seconds=8)
def test_what_listens_is_known_and_the_token_is_asked_for(cluster):
    listening = [
        (psutil.Process(c.pid), c.laddr)
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]
        for c in process.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
        for c in [type("C", (), {"pid": process.pid, "laddr": c.laddr})]
    ]
    assert listening
    for process, address in listening:
        if address.ip not in ("127.0.0.1", "::1"):
            told = " ".join(process.cmdline()) + process.name()
            assert any(name in told for name in LISTENERS), f"{told[:200]} listens on {address}"
    token = os.path.expanduser("~/.ray/auth_token")
    assert os.environ.get("RAY_AUTH_MODE", "token") == "token"
    assert os.stat(token).st_mode & 0o077 == 0


@pytest.mark.cluster(seconds=8)
def test_what_a_unit_asks_for(cluster):
    assert trial_resources(ResourceSettings()) == {"cpu": 1, "gpu": 0}
    assert trial_resources(ResourceSettings(cpus_per_trial=2, gpus_per_trial=0.5)) == {"cpu": 2, "gpu": 0.5}


@pytest.mark.cluster(seconds=8)
def test_all_slots_are_taken_from_the_start(cluster, tmp_path):
    folder, slots = str(tmp_path), int(ray.cluster_resources()["CPU"])

    def does(unit):
        import os
        import time
        from pathlib import Path

        with Path(folder, "pids").open("a") as file:
            file.write(f"{os.getpid()}\n")
        end = time.time() + 120
        while len(set(Path(folder, "pids").read_text().split())) < slots and time.time() < end:
            time.sleep(0.05)  # until all slots are taken
        time.sleep(0.2)  # then in turns
        return {"status": "complete", "dev_uar": 0.5, "parameters": 1}

    run(begin_with_journal(tmp_path, trials=4 * slots), does, workers=None)
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 4 * slots
    assert len(set(pids)) == slots, "one worker a slot, and each runs many units"
    assert min(pids.count(pid) for pid in set(pids)) >= 2


def test_slots_are_those_of_the_nodes_that_are_there(monkeypatch):
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 3.0, "GPU": 4.0}},
        {"Alive": True, "Resources": {"CPU": 64.0}},
        {"Alive": False, "Resources": {"CPU": 8.0, "GPU": 8.0}},
    ]
    now = [0.0]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    slots = ConcurrencyLimiter({"cpu": 1, "gpu": 0.25}, None, clock=lambda: now[0])
    assert slots() == 4 + 3
    nodes.clear()
    assert slots() == 7, "nodes are not looked at for each unit"
    now[0] += 60
    assert slots() == 1, "with no node at all one unit waits, and tells the cluster what is wanted"
    assert ConcurrencyLimiter({"cpu": 1, "gpu": 0}, None)._capacity({"CPU": 2.0}) == 2
    assert ConcurrencyLimiter({"cpu": 1, "gpu": 0.25}, 32)() == 32


@pytest.mark.cluster(seconds=8)
@pytest.mark.parametrize("address", ["127.0.0.1:9", "127.0.0.1:notaport"])
def test_a_cluster_that_does_not_answer_is_one_sentence(address):
    with (
        pytest.raises(EmodartsError, match=f"ray.address={address} (does not answer|cannot be joined)"),
        session(RaySettings(address=address), ResourceSettings(), Console(quiet=True)),
    ):
        pass


def test_code_reaches_the_workers(monkeypatch):
    assert "py_modules" not in runtime_environment(2, joined=False)
    assert runtime_environment(2, joined=False)["env_vars"]["OMP_NUM_THREADS"] == "2"
    sent = runtime_environment(1, joined=True)["py_modules"]
    assert [os.path.basename(path) for path in sent] == ["emodarts", "sweeps"]
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"runtime_env": {"working_dir": "gcs://x.zip"}}')
    assert "py_modules" not in runtime_environment(1, joined=True)


def test_a_worker_that_is_killed_for_memory_before_it_told_anything_ends_no_sweep(monkeypatch):
    for owner, name in ((RayActorManager, "_actor_task_failed"), (Trial, "_get_default_result_or_future")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back afterwards

    def get(future):
        raise OutOfMemoryError("1 worker(s) were killed")

    tune_fit._let_a_worker_die_for_memory()
    monkeypatch.setattr(ray, "get", get)
    trial = Trial("unit", stub=True)
    trial._default_result_or_future = ray.ObjectRef(bytes(28))
    assert trial.last_result == {"trial_id": trial.trial_id}
