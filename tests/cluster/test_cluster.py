"""The files of cluster/, and a sweep on a real cluster of several Ray nodes on this machine."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import jsonschema
import psutil
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from emodarts.results import reader
from tests.support.chaos import local_cluster
from tests.support.commands import RUN, VARIED, manifest
from tests.support.files import REPOSITORY
from tests.support.layouts import msp_podcast

CLUSTER = REPOSITORY / "cluster"


@pytest.mark.parametrize("name", ["gpu.yaml", "onprem.yaml"])
def test_files_for_ray_up_are_valid(name):
    raw = yaml.safe_load((CLUSTER / name).read_text())
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(raw, schema)
    validate_config(prepare_config(raw))
    started = " ".join(raw["head_start_ray_commands"])
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in started
    assert "--dashboard-host=127.0.0.1" in started
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "RAY_AUTH_MODE=token" in " ".join(raw[commands])
    assert raw["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("name", ["gpu.yaml", "onprem.yaml"])
def test_what_is_not_copied_to_the_nodes_is_no_part_of_the_code(name):
    """rsync's patterns that do not begin with / hold at any depth: `results/` left emodarts/results behind."""
    raw = yaml.safe_load((CLUSTER / name).read_text())
    anywhere = [pattern.rstrip("/") for pattern in raw["rsync_exclude"] if not pattern.startswith("/")]
    for room in ("emodarts", "sweeps", "cluster"):
        for path in (REPOSITORY / room).rglob("*"):
            part = path.relative_to(REPOSITORY)
            if "__pycache__" not in part.parts:
                assert not any(part.match(pattern) for pattern in anywhere), f"{part} would not be there"


def test_all_own_machines_are_started():
    """Ray's second autoscaler takes the head for one of the workers that have to be there."""
    raw = yaml.safe_load((CLUSTER / "onprem.yaml").read_text())
    assert "RAY_enable_autoscaler_v2=0" in raw["head_start_ray_commands"][-1]
    assert raw["max_workers"] == len(raw["provider"]["worker_ips"])


def test_what_the_schema_does_not_look_at_in_the_aws_file():
    raw = yaml.safe_load((CLUSTER / "gpu.yaml").read_text())
    assert set(raw["provider"]) == {"type", "region", "availability_zone", "cache_stopped_nodes"}
    assert raw["auth"]["ssh_user"]
    nodes = raw["available_node_types"]
    assert raw["head_node_type"] in nodes
    assert all(node["node_config"]["InstanceType"] for node in nodes.values())
    assert nodes["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert nodes["gpu"]["resources"]["GPU"] == 1
    assert nodes["head"]["resources"] == {"CPU": 0}
    assert sum(node.get("min_workers", 0) for node in nodes.values()) <= raw["max_workers"]
    text = (CLUSTER / "gpu.yaml").read_text()
    assert text.startswith("#")
    for value in ("max_workers", "idle_timeout_minutes", "docker", "provider", "auth", "file_mounts"):
        before = text.split(f"\n{value}:")[0].rstrip().splitlines()
        assert any(line.startswith("#") for line in before[-4:]), f"{value} is not explained"


@pytest.mark.parametrize("name", ["gpu.yaml", "onprem.yaml"])
def test_the_login_shell_of_the_head_has_the_variables(name, tmp_path):
    raw = yaml.safe_load((CLUSTER / name).read_text())
    variables = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    commands = [c for c in raw["head_setup_commands"] if not c.startswith("pip")]
    for _ in range(2):  # `ray up` again appends nothing twice
        for line in commands:
            subprocess.run(["bash", "-c", line], env=variables, check=True)
    names = ("RAY_ADDRESS", "EMODARTS_RESOURCES", "RAY_AUTH_MODE", "EMODARTS_CORPORA", "EMODARTS_RESULTS")
    shown = subprocess.run(
        ["bash", "-lc", " ".join(f"echo ${name};" for name in names)], env=variables, capture_output=True, text=True
    ).stdout.split()
    assert shown[:3] == ["auto", "gpu", "token"]  # without the mode, `ray status` there does not show the token
    assert all("/" in value for value in shown[3:])
    assert (tmp_path / ".profile").read_text().count("emodarts_environment") == 1


def test_the_kubernetes_file():
    (content,) = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    # Fields of ray.io/v1 RayCluster: https://docs.ray.io/en/latest/cluster/kubernetes
    container = {
        "type": "object",
        "required": ["name", "image", "resources", "env", "volumeMounts"],
        "additionalProperties": False,
        "properties": {name: {} for name in ("name", "image", "resources", "env", "volumeMounts")},
    }
    pod = {
        "type": "object",
        "required": ["spec"],
        "properties": {"spec": {"required": ["containers"], "properties": {"containers": {"items": container}}}},
    }
    group = {"type": "object", "required": ["rayStartParams", "template"], "properties": {"template": pod}}
    worker = {**group, "required": [*group["required"], "groupName", "replicas", "minReplicas", "maxReplicas"]}
    schema = {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": "ray.io/v1"},
            "kind": {"const": "RayCluster"},
            "spec": {
                "type": "object",
                "additionalProperties": False,
                "required": ["rayVersion", "headGroupSpec", "workerGroupSpecs"],
                "properties": {
                    "rayVersion": {"type": "string"},
                    "authOptions": {"const": {"mode": "token"}},
                    "enableInTreeAutoscaling": {"type": "boolean"},
                    "autoscalerOptions": {"type": "object"},
                    "headGroupSpec": group,
                    "workerGroupSpecs": {"type": "array", "minItems": 1, "items": worker},
                },
            },
        },
    }
    jsonschema.validate(content, schema)
    spec = content["spec"]
    assert all(type(v) is str for v in spec["headGroupSpec"]["rayStartParams"].values())
    (workers,) = spec["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {e["name"] for e in container["env"]} >= {"EMODARTS_RESULTS", "EMODARTS_CORPORA"}


STUBS = {
    "scontrol": 'if [ "$1" = show ]; then echo node1; echo node2; fi; echo "scontrol $*" >> "$LOG"',
    "srun": (
        'while [[ "$1" == --* ]]; do shift; done; if [ "$1" = hostname ]; then echo 127.0.0.1; exit; fi; '
        'echo "srun $*" >> "$LOG"; case "$*" in *--head*) exec python "$LISTEN" "$@";; esac; sleep 60'
    ),
}
LISTEN = """
import socket, sys, time
port = next(a for a in sys.argv if a.startswith("--port=")).partition("=")[2]
server = socket.create_server(("127.0.0.1", int(port)))
time.sleep(60)
"""


def submit(tmp_path, job, sweep, term_after=None):
    """Run the batch file with stand-ins for Slurm's commands and a sweep; exit code and what was called."""
    folder = tmp_path / str(job)
    stubs = folder / "bin"
    stubs.mkdir(parents=True)
    for name, script in STUBS.items():
        (stubs / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (stubs / name).chmod(0o755)
    (stubs / "python").symlink_to(sys.executable)
    (folder / "listen.py").write_text(LISTEN)
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "run.py").write_text(sweep)
    variables = {
        "HOME": str(folder), "PATH": f"{stubs}:/usr/bin:/bin", "LOG": str(folder / "log"), "ENVIRONMENT": str(folder),
        "LISTEN": str(folder / "listen.py"), "SLURM_JOB_ID": str(job), "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_SUBMIT_DIR": str(folder), "SLURM_CPUS_PER_TASK": "16", "SLURM_GPUS_PER_NODE": "4",
    }  # fmt: skip
    batch = subprocess.Popen(
        ["bash", str(CLUSTER / "slurm.sbatch"), "corpus=demo"], env=variables, start_new_session=True
    )
    if term_after is not None:
        while not (folder / term_after).exists():
            time.sleep(0.05)
        batch.terminate()
    code = batch.wait(timeout=60)
    return code, (folder / "log").read_text().splitlines(), folder


@pytest.mark.slow
def test_the_slurm_file_starts_a_head_and_nodes_with_ports_of_the_job(tmp_path):
    sweep = (
        "import os, sys\n"
        "told = [os.environ['RAY_ADDRESS'], *sys.argv[1:]]\n"
        "open('ran', 'w').write(' '.join(told)); sys.exit(3)\n"
    )
    code, called, folder = submit(tmp_path, 1234, sweep)
    assert code == 3, "the sweep's exit code is the job's"
    address, given, rest = (folder / "ran").read_text().split()
    assert given == f"ray.address={address}"
    assert rest == "corpus=demo"
    starts = [line for line in called if "ray start" in line]
    assert sum("--head" in line for line in starts) == 1
    assert sum(f"--address={address}" in line for line in starts) == 1
    assert all("--num-gpus=4" in line for line in starts)
    assert not any("requeue" in line for line in called)
    assert list((folder / ".emodarts").iterdir()) == []  # the token goes with the job
    _, others, _ = submit(tmp_path, 1235, sweep)
    mine, theirs = (
        {w for line in lines for w in line.split() if "port=" in w or "temp-dir" in w} for lines in (called, others)
    )
    assert mine
    assert not mine & theirs, "two jobs on one node do not meet"


@pytest.mark.slow
def test_the_slurm_file_stops_the_sweep_and_queues_the_job_again(tmp_path):
    sweep = (
        "import signal, sys, time\n"
        "def stop(*_):\n"
        "    time.sleep(0.5); open('stopped', 'w').close(); sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "open('running', 'w').close()\n"
        "time.sleep(60)\n"
    )
    code, called, folder = submit(tmp_path, 77, sweep, term_after="running")
    assert code == 0
    assert (folder / "stopped").exists(), "the sweep ended by itself, tables closed"
    assert called[-1] == "scontrol requeue 77"


@pytest.fixture(scope="module")
def cluster():
    with local_cluster(nodes=2, gpus=1) as made:
        yield made


def asked_for(cluster):
    """What each worker that runs units asks Ray for, as the cluster's own dashboard tells it."""
    token = (cluster.folder / "token").read_text()
    page = f"http://127.0.0.1:{cluster.dashboard_port}/api/v0/actors?detail=1&limit=1000"
    request = urllib.request.Request(page, headers={"Authorization": f"Bearer {token}"})
    told = json.load(urllib.request.urlopen(request, timeout=30))["data"]["result"]["result"]
    return [_of_its_group(actor["required_resources"]) for actor in told if actor["repr_name"] == "run_unit"]


def _of_its_group(resources):
    """Tune reserves a unit's resources as a placement group, whose names are `GPU_group_<id>` and some more."""
    found = {re.fullmatch("(CPU|GPU)_group_[0-9a-f]{8,}", name): amount for name, amount in resources.items()}
    return {match[1]: amount for match, amount in found.items() if match}


def processes_below(driver):
    return {child.name() for child in psutil.Process(driver.pid).children(recursive=True)}


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_the_variables_of_the_login_shell_let_a_sweep_join_and_ask_for_gpu_shares(
    cluster,
    environment,
    small_corpus,
    tmp_path,
):
    results = tmp_path / "results"
    variables = {**environment, **cluster.environment, "EMODARTS_RESOURCES": "gpu", "EMODARTS_RESULTS": str(results)}
    told = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    asked = manifest(small_corpus, results, *VARIED, "sweep.trials=2", "sweep.folds=[0,1]", "resources.device=cpu")
    given = [*RUN, *(option for option in asked if not option.startswith("results="))]
    driver = subprocess.Popen(given, env=variables, **told)
    below = set()
    while driver.poll() is None:
        below |= processes_below(driver)
        time.sleep(0.3)
    output = driver.stdout.read()
    assert driver.returncode == 0, output
    assert not below & {"raylet", "gcs_server"}, "a second Ray was started"
    assert asked_for(cluster)
    assert all(asked == {"CPU": 1.0, "GPU": 0.25} for asked in asked_for(cluster))
    opened = reader.open(results)
    assert len(opened.commits) == 4
    assert {c.status for c in opened.commits} == {"complete"}
    rows = opened.table("folds").to_pylist()
    assert all(row["git_revision"] for row in rows), "the commit is told although the code was sent"
    assert (results / "features").is_dir(), "the features lie where every node finds them"
    assert stat.S_IMODE(os.stat(cluster.folder / "token").st_mode) == 0o600


@pytest.mark.cluster
@pytest.mark.timeout(500)
def test_the_literal_command_on_a_cluster_and_sigterm_from_a_scheduler(cluster, environment, tmp_path):
    """`python sweeps/run.py corpus=msp_podcast` with all its defaults; the same words go on with what was stopped."""
    msp_podcast.write_corpus(tmp_path / "corpora" / "msp_podcast", takes=6)  # no unit ends while its sweep stops
    variables = {**environment, **cluster.environment, "EMODARTS_CORPORA": str(tmp_path / "corpora")}
    variables["EMODARTS_RESULTS"] = str(tmp_path / "results")
    literal, retries = [*RUN, "corpus=msp_podcast"], []
    for _ in range(2):
        driver = subprocess.Popen(
            literal, env=variables, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        begun, deadline = time.time(), time.time() + 200
        while time.time() < deadline and driver.poll() is None:
            searches = tmp_path.glob("results/*/checkpoints/*/search.safetensors")
            if any(search.stat().st_mtime > begun for search in searches) and any(cluster.workers()):
                break
            time.sleep(0.1)
        assert not processes_below(driver) & {"raylet", "gcs_server"}, "a second Ray was started"
        assert {"CPU": 1.0, "GPU": 0.25} in asked_for(cluster)
        driver.send_signal(signal.SIGTERM)
        told = driver.communicate(timeout=120)[0]
        assert driver.returncode == 130, told
        assert "To go on: python" in told
        opened = reader.open(tmp_path / "results")
        assert {t.status for t in opened.trials()} <= {"running", "complete"}
        assert "running" in {t.status for t in opened.trials()}
        retries.append(sum(t.retries for t in opened.trials()))
        deadline = time.time() + 30
        while cluster.workers() and time.time() < deadline:
            time.sleep(0.2)
        assert not cluster.workers(), "workers go on after their driver has ended"
    assert retries[0] == 0
    assert retries[1] > 0, "what was in flight was adopted"
