"""The files of cluster/, and a sweep on a real cluster of several Ray nodes on this machine."""

import json
import os
import re
import signal
import stat
import subprocess
import time
import tomllib
import urllib.request
from pathlib import Path

import jsonschema
import psutil
import pytest
import ray
import yaml
from ray._private import ray_constants
from ray.autoscaler._private.util import prepare_config, validate_config
from safetensors import safe_open

from emodarts.results import reader
from tests.support.chaos import local_cluster
from tests.support.commands import RUN, VARIED, manifest
from tests.support.files import REPOSITORY
from tests.support.layouts import msp_podcast

CLUSTER = REPOSITORY / "cluster"
DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"


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


def test_one_version_of_ray_is_named_everywhere_and_runs_here():
    """Nodes of another version do not join. `ray up` on own machines and Slurm install what pyproject.toml says."""
    written = {
        path: re.findall(pattern, (REPOSITORY / path).read_text())
        for path, pattern in {
            "pyproject.toml": r"\"ray\[[\w,]+\]==([\d.]+)\"",
            "Dockerfile": r"FROM rayproject/ray:([\d.]+)-",
            "cluster/gpu.yaml": r"rayproject/ray:([\d.]+)-",
            "cluster/kuberay.yaml": r"rayVersion: \"([\d.]+)\"",
        }.items()
    }
    assert all(len(versions) == 1 for versions in written.values()), written
    assert {version for versions in written.values() for version in versions} == {ray.__version__}, written
    for path in (*CLUSTER.glob("*.*"), REPOSITORY / "Dockerfile"):
        assert not re.search(r"ray(==|:)(?!2\.60\.0)\d", path.read_text()), f"{path.name} names another version"


def test_one_image_for_aws_and_kubernetes_is_named_after_the_package():
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    for path in ("Dockerfile", "cluster/gpu.yaml", "cluster/kuberay.yaml"):
        images = re.findall(r"/emodarts:([\d.]+)", (REPOSITORY / path).read_text())
        assert set(images) == {version}, path


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


# Fields of KubeRay's RayJob (ray.io/v1, release 1.7) and of Kubernetes' pods that the file uses, and no others.
FIELDS = {
    "job": "entrypoint backoffLimit shutdownAfterJobFinishes ttlSecondsAfterFinished rayClusterSpec",
    "cluster": ("rayVersion authOptions enableInTreeAutoscaling autoscalerOptions headGroupSpec workerGroupSpecs"),
    "head": "rayStartParams template",
    "workers": "groupName replicas minReplicas maxReplicas rayStartParams template",
    "pod": "serviceAccountName terminationGracePeriodSeconds tolerations containers volumes",
    "container": "name image resources env envFrom volumeMounts",
}


def of_fields(name, required=(), **properties):
    """The schema of an object with these fields and no others."""
    known = {field: properties.pop(field, {}) for field in FIELDS[name].split()}
    assert not properties
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": known}


def kubernetes_objects():
    return {content["kind"]: content for content in yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())}


def test_the_kubernetes_file():
    job = kubernetes_objects()["RayJob"]
    container = of_fields("container", FIELDS["container"].split())
    pod = of_fields("pod", ["serviceAccountName", "containers"], containers={"items": container})
    template = {"additionalProperties": False, "properties": {"spec": pod}, "required": ["spec"]}
    strings = {"additionalProperties": {"type": "string"}}
    head = of_fields("head", FIELDS["head"].split(), template=template, rayStartParams=strings)
    workers = of_fields("workers", FIELDS["workers"].split(), template=template, rayStartParams=strings)
    cluster = of_fields(
        "cluster",
        FIELDS["cluster"].split(),
        rayVersion={"type": "string"},
        authOptions={"const": {"mode": "token", "secretName": "emodarts"}},
        headGroupSpec=head,
        workerGroupSpecs={"type": "array", "minItems": 1, "items": workers},
    )
    spec = of_fields("job", FIELDS["job"].split(), rayClusterSpec=cluster, shutdownAfterJobFinishes={"const": True})
    jsonschema.validate(job["spec"], spec)
    assert job["apiVersion"] == "ray.io/v1"
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert job["spec"]["entrypoint"].split()[0] in project["scripts"]
    assert "sweep.wait=true" in job["spec"]["entrypoint"]
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {e["name"] for e in container["env"]} >= {"EMODARTS_RESULTS", "EMODARTS_CORPORA"}
    taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert taint in group["template"]["spec"]["tolerations"]


def test_kubernetes_secrets_and_account_are_those_that_the_pods_name():
    content = (CLUSTER / "kuberay.yaml").read_text()
    objects = list(yaml.safe_load_all(content))
    secrets = {o["metadata"]["name"]: o["stringData"] for o in objects if o["kind"] == "Secret"}
    accounts = {o["metadata"]["name"] for o in objects if o["kind"] == "ServiceAccount"}
    cluster = kubernetes_objects()["RayJob"]["spec"]["rayClusterSpec"]
    assert "auth_token" in secrets[cluster["authOptions"]["secretName"]]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["serviceAccountName"] in accounts
        assert all(source["secretRef"]["name"] in secrets for c in pod["containers"] for source in c["envFrom"])
        mounts = {mount["name"] for c in pod["containers"] for mount in c["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}
    assert secrets["emodarts"]["auth_token"] == "CHANGE", "a token in the repository"


def test_a_pod_s_grace_period_is_longer_than_ray_s_drain():
    """Ray drains a node for 30 s unless told otherwise, however long its pod has."""
    cluster = kubernetes_objects()["RayJob"]["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (drain,) = {e["value"] for c in pod["containers"] for e in c["env"] if e["name"] == DRAIN}
        assert int(drain) > ray_constants.RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S
        assert int(drain) + 20 <= pod["terminationGracePeriodSeconds"], "time for the processes to end, too"


@pytest.mark.skipif("KUBERAY_CRD" not in os.environ, reason="KUBERAY_CRD=.../ray.io_rayjobs.yaml of KubeRay's release")
def test_the_kubernetes_file_against_the_operator_s_own_definition():
    """The whole definition, 1.4 MB, and no field beside it: passed with release 1.7."""
    versions = yaml.safe_load(Path(os.environ["KUBERAY_CRD"]).read_text())["spec"]["versions"]
    (schema,) = (v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == "v1")
    _close(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    errors = jsonschema.validators.validator_for(schema)(schema).iter_errors(kubernetes_objects()["RayJob"])
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def _close(schema):
    """Refuse unknown fields, as `kubectl apply --validate=strict` does; integers and strings as Kubernetes has them."""
    for part in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(part, dict | list):
            _close(part)
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            schema.setdefault("additionalProperties", "x-kubernetes-preserve-unknown-fields" in schema)
        if schema.get("x-kubernetes-int-or-string"):
            schema["type"] = ["string", "integer"]


@pytest.fixture(scope="module")
def cluster():
    with local_cluster(nodes=1, gpus=1, head={"cpus": 1, "gpus": 1, "dashboard": True}) as made:
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


def within_epoch(folder):
    """Epochs and steps of the next epoch that a unit left in its checkpoint within it; None: it left none."""
    file = folder / "training.within.safetensors"
    if not file.exists():
        return None
    with safe_open(file, "np") as content:
        state = json.loads(content.metadata()["state"])
    return len(state["records"]), len(state["progress"]["losses"])


@pytest.mark.cluster
@pytest.mark.timeout(500)
def test_the_literal_command_on_a_cluster_and_sigterm_from_a_scheduler(cluster, environment, tmp_path):
    """`python sweeps/run.py corpus=msp_podcast` with all its defaults; the same words go on with what was stopped."""
    msp_podcast.write_corpus(tmp_path / "corpora" / "msp_podcast", takes=6)  # no unit ends while its sweep stops
    variables = {**environment, **cluster.environment, "EMODARTS_CORPORA": str(tmp_path / "corpora")}
    variables["EMODARTS_RESULTS"] = str(tmp_path / "results")
    literal, retries, steps = [*RUN, "corpus=msp_podcast"], [], []
    for _ in range(2):
        driver = subprocess.Popen(
            literal, env=variables, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        begun, deadline = time.time(), time.time() + 200
        while time.time() < deadline and driver.poll() is None:
            trainings = tmp_path.glob("results/*/checkpoints/*/training.safetensors")
            if any(training.stat().st_mtime > begun for training in trainings) and any(cluster.workers()):
                break
            time.sleep(0.1)
        assert not processes_below(driver) & {"raylet", "gcs_server"}, "a second Ray was started"
        assert {"CPU": 1.0, "GPU": 0.25} in asked_for(cluster)
        driver.send_signal(signal.SIGTERM)
        told = driver.communicate(timeout=120)[0]
        assert driver.returncode == 130, told
        assert "To go on: python" in told
        places = [within_epoch(folder) for folder in tmp_path.glob("results/*/checkpoints/*")]
        steps += [place[1] for place in places if place is not None]  # a unit may be just at an epoch's end
        opened = reader.open(tmp_path / "results")
        assert {t.status for t in opened.trials()} <= {"running", "complete"}
        assert "running" in {t.status for t in opened.trials()}
        retries.append(sum(t.retries for t in opened.trials()))
        deadline = time.time() + 30
        while cluster.workers() and time.time() < deadline:
            time.sleep(0.2)
        assert not cluster.workers(), "workers go on after their driver has ended"
    assert steps, "nobody stopped within an epoch"
    assert min(steps) > 0
    assert retries[0] == 0
    assert retries[1] > 0, "what was in flight was adopted"
