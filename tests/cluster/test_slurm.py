"""The files for Slurm under stand-ins for its commands, which refuse what Slurm refuses (tests/support/slurm.py)."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emodarts.results import reader
from tests.support.commands import VARIED, comparable, manifest, run_here, variables
from tests.support.files import REPOSITORY
from tests.support.slurm import FakeSlurm

CLUSTER = REPOSITORY / "cluster"
# A sweep that says what it was told, and ends with an exit code; or one that goes on until it is stopped.
SHORT = """
import os, sys
open("ran", "a").write(" ".join([os.environ["SLURM_JOB_ID"], os.environ["RAY_ADDRESS"], *sys.argv[1:]]) + "\\n")
sys.exit(3)
"""
LONG = """
import os, signal, sys, time
job = os.environ["SLURM_JOB_ID"]
def stop(*_):
    time.sleep(0.5); open("stopped", "w").close(); sys.exit(130)
signal.signal(signal.SIGTERM, stop)
told = [job, os.environ["RAY_ADDRESS"], os.environ.get("EMODARTS_WORKERS", "-"), *sys.argv[1:]]
open("ran", "a").write(" ".join(told) + "\\n")
while not os.path.exists("finish"):
    time.sleep(0.05)
sys.exit(int(open("finish").read()))
"""

# In every process of the nodes: while a file is there, each step of an optimiser takes a quarter of a second.
SLOW = """
import os, sys, threading, time

def watch():
    while (module := sys.modules.get("emodarts.features.batches")) is None or not hasattr(module, "class_weights"):
        time.sleep(0.05)
    from torch.nn import utils

    plain = utils.clip_grad_norm_

    def slow(*arguments, **options):
        if os.path.exists({!r}):
            time.sleep(0.25)
        return plain(*arguments, **options)

    utils.clip_grad_norm_ = slow

threading.Thread(target=watch, daemon=True).start()
"""


@pytest.fixture
def slurm(tmp_path):
    """`slurm(sweep, name, variables)`: a cluster of two nodes, ended with the test."""
    clusters = []

    def make(sweep, name="a", **about):
        clusters.append(FakeSlurm(tmp_path / name, CLUSTER, sweep, **about))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.stop()


def submit(cluster, *options, file="cluster/slurm.sbatch"):
    done = cluster.run("sbatch", "--parsable", *options, file, "corpus=demo")
    assert done.returncode == 0, done.stderr
    return done.stdout.split(";")[0]


def exit_code(cluster, job):
    cluster.wait_for(lambda: cluster.job(job)["code"] is not None)
    return cluster.job(job)["code"]


def option(arguments, name):
    (value,) = [a.partition("=")[2] for a in arguments if a.startswith(f"--{name}=")]
    return value


@pytest.mark.slow(seconds=4)
def test_the_slurm_file_starts_a_head_and_nodes_with_ports_of_the_job(slurm):
    cluster = slurm(SHORT)
    job = submit(cluster)
    assert exit_code(cluster, job) == 3, "the sweep's exit code is the job's\n" + cluster.output()
    _, address, *options = (cluster.folder / "ran").read_text().split()
    assert options == [f"ray.address={address}", "sweep.wait=true", "corpus=demo"]
    head, *others = cluster.log("ray")
    assert "--head" in head[3]
    assert address == f"127.0.0.1:{option(head[3], 'port')}"
    assert [option(started[3], "address") for started in others] == [address] * len(others)
    for _, _, _, arguments in (head, *others):
        assert option(arguments, "num-gpus") == "4"
        assert option(arguments, "num-cpus") == "16"
    for _, _, _, arguments in cluster.log("srun"):
        assert option(arguments, "cpus-per-task") == "16", "srun does not inherit it"
        assert option(arguments, "mem") == str(96 * 1024)
    assert not cluster.log("scontrol")
    assert list((cluster.folder / ".emodarts").iterdir()) == []  # the token goes with the job


@pytest.mark.slow(seconds=4)
def test_the_slurm_file_stops_the_sweep_and_queues_the_job_again(slurm):
    cluster = slurm(LONG, HOLD="1")
    job = submit(cluster)
    cluster.wait_for((cluster.folder / "ran").exists)
    cluster.signal(job, signal.SIGTERM)
    assert exit_code(cluster, job) == 0
    assert (cluster.folder / "stopped").exists(), "the sweep ended by itself, tables closed"
    assert [line[3] for line in cluster.log("scontrol")] == [["requeue", job]]


@pytest.mark.slow(seconds=4)
def test_a_sweep_that_ends_while_its_time_is_over_is_not_queued_again(slurm):
    cluster = slurm(LONG.replace("sys.exit(130)", "sys.exit(0)"), HOLD="1")
    job = submit(cluster)
    cluster.wait_for((cluster.folder / "ran").exists)
    cluster.signal(job, signal.SIGTERM)
    assert exit_code(cluster, job) == 0
    assert not cluster.log("scontrol")


@pytest.mark.slow(seconds=6)
def test_two_slurm_jobs_run_on_the_same_nodes_at_once(slurm):
    """All of their processes listen at once: whatever two had in common, the second would be refused."""
    cluster = slurm(LONG)
    jobs = [submit(cluster), submit(cluster)]
    ran = cluster.folder / "ran"
    cluster.wait_for(lambda: ran.exists() and len(ran.read_text().splitlines()) == 2 and len(cluster.log("ray")) == 4)
    (cluster.folder / "finish").write_text("0")
    assert [exit_code(cluster, job) for job in jobs] == [0, 0], cluster.output()
    first, second = (
        {a for line in cluster.log("ray") if line[2] == job for a in line[3] if "port=" in a or "temp-dir=" in a}
        for job in jobs
    )
    assert first
    assert not first & second


@pytest.mark.slow(seconds=3)
def test_a_slurm_job_whose_ports_are_taken_takes_the_next_ones(slurm):
    """Job numbers repeat after 200 blocks of ports."""
    cluster = slurm(LONG)
    jobs = [submit(cluster)]
    cluster.wait_for((cluster.folder / "ran").exists)
    cluster.environment["FIRST_JOB"] = "199"  # 100 + 1 + 199: the second begins where the first does
    jobs.append(submit(cluster))
    cluster.wait_for(lambda: len((cluster.folder / "ran").read_text().splitlines()) == 2)
    assert (int(jobs[1]) - int(jobs[0])) % 200 == 0
    addresses = {line.split()[1] for line in (cluster.folder / "ran").read_text().splitlines()}
    assert len(addresses) == 2


@pytest.mark.slow(seconds=8)
@pytest.mark.parametrize("hidden", ["", "1"], ids=["devices", "no devices"])
@pytest.mark.parametrize(
    ("options", "gpus"),
    [
        (("--gpus-per-node=a100:4",), {"4"}),
        (("--gpus=8",), {"4"}),
        (("--gpus=a100:6", "--mem-per-cpu=4G"), {"3"}),
    ],
    ids=str,
)
def test_gpus_are_counted_whichever_option_asked_for_them(slurm, options, gpus, hidden):
    """With `no devices` Slurm tells no node's own number, as where it does not confine devices."""
    if hidden and options[0].startswith("--gpus="):
        pytest.skip("nothing but nvidia-smi tells: see the next test")
    cluster = slurm(SHORT, **({"HIDE_DEVICES": hidden} if hidden else {}))
    script = cluster.folder / "cluster" / "slurm.sbatch"
    lines = [line for line in script.read_text().splitlines() if "gpus-per-node=4" not in line or "CHANGE" in line]
    lines = [line for line in lines if not (line.startswith("#SBATCH --mem=") and len(options) > 1)]
    script.write_text("\n".join(lines) + "\n")
    assert exit_code(cluster, submit(cluster, *options)) == 3, cluster.output()
    assert {option(line[3], "num-gpus") for line in cluster.log("ray")} == gpus


@pytest.mark.slow(seconds=3)
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0,1,2"}, "3"),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, "0"),
        ({"SLURM_JOB_GPUS": "2,3"}, "2"),
        ({"SLURM_GPUS_ON_NODE": "4"}, "4"),
        ({"SLURM_GPUS_PER_NODE": "a100:4"}, "4"),
        ({"SLURM_GPUS_PER_NODE": "a100"}, "1"),
        ({"SLURM_GPUS_PER_NODE": "gpu:a100:2(S:0),gpu:v100:1"}, "3"),
        ({"SMI": "2"}, "2"),
        ({}, None),
    ],
    ids=str,
)
def test_the_number_of_gpus_is_read_from_what_slurm_tells(slurm, variables, expected):
    cluster = slurm(SHORT)
    smi = cluster.bin / "nvidia-smi"
    smi.write_text('#!/bin/bash\ntest -n "$SMI" || exit 9\nfor ((i = 0; i < SMI; i++)); do echo "GPU $i: A100"; done\n')
    smi.chmod(0o755)
    cluster.environment |= variables
    done = cluster.run(
        "bash", "-euo", "pipefail", "-c", "source cluster/slurm_common.sh; gpus=$(count_gpus); echo $gpus"
    )
    if expected is None:
        assert done.returncode == 1
        assert "login has no GPU for this job: ask for some (--gpus-per-node=4, --gres=gpu:a100:4" in done.stderr
    else:
        assert done.stdout.strip() == expected, done.stderr


def test_the_address_of_a_head_is_that_of_the_way_out(slurm):
    cluster = slurm(SHORT)
    command = ("bash", "-euo", "pipefail", "-c", "source cluster/slurm_common.sh; own_address")
    assert cluster.run(*command).stdout.strip() == "127.0.0.1"
    del cluster.environment["HEAD_ADDRESS"]
    done = cluster.run(*command)
    assert done.stdout.count(".") == 3 or "set HEAD_ADDRESS" in done.stderr


def elastic(cluster, workers, *options):
    """The numbers of the head's job and of the array."""
    options = options or ("corpus=demo", "sweep.trials=3")
    done = cluster.run("bash", "cluster/slurm_elastic.sh", str(workers), *options)
    assert done.returncode == 0, done.stderr
    words = done.stdout.replace(",", " ").split()
    return words[words.index("job") + 1], words[words.index("array") + 1]


def joined(cluster):
    """Jobs whose node has joined, each as often as it has."""
    return [line[2] for line in cluster.log("ray") if "--head" not in line[3]]


@pytest.mark.slow(seconds=8)
def test_elastic_slurm_workers_join_leave_are_killed_and_come_again(slurm):
    cluster = slurm(LONG)
    head, array = elastic(cluster, 3)
    names = [f"{array}_{index}" for index in (1, 2, 3)]
    ids = [str(cluster.job(name)["id"]) for name in names]
    cluster.wait_for(lambda: sorted(joined(cluster)) == ids)
    _, address, workers, *options = (cluster.folder / "ran").read_text().split()
    assert workers == "12", "four units a GPU, those that are still to come among them"
    assert options == [f"ray.address={address}", "sweep.wait=true", "corpus=demo", "sweep.trials=3"]
    (started,) = [line[3] for line in cluster.log("ray") if "--head" in line[3]]
    assert (option(started, "num-cpus"), option(started, "num-gpus")) == ("0", "0"), "no units on the head"
    assert all(option(line[3], "num-gpus") == "1" for line in cluster.log("ray") if "--head" not in line[3])

    cluster.signal(names[0], signal.SIGTERM)  # preempted: Ray drains, the job is queued again, and joins again
    cluster.wait_for(lambda: joined(cluster).count(ids[0]) == 2)
    assert ["left", *cluster.log("left")[0][1:3]][2] == ids[0]
    cluster.signal(names[1], signal.SIGKILL)  # its node is lost: Slurm queues it again by itself
    cluster.run("scontrol", "requeue", names[1])
    cluster.wait_for(lambda: joined(cluster).count(ids[1]) == 2)
    assert joined(cluster).count(ids[2]) == 1, "the third has not noticed"

    (cluster.folder / "finish").write_text("0")
    assert exit_code(cluster, head) == 0
    assert [line[3] for line in cluster.log("scancel")] == [[array]]
    assert not list(cluster.folder.glob(".emodarts/*/token"))


@pytest.fixture
def real_ray(slurm, tmp_path):
    """Jobs start real Ray and run the real command; while the file `slow` is there, steps take long."""
    command = [sys.executable, str(REPOSITORY / "sweeps" / "run.py")]
    cluster = slurm(f"import os, sys\nos.execv({command[0]!r}, {command} + sys.argv[1:])\n")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SLOW.format(str(cluster.folder / "slow")))
    (cluster.folder / "slow").touch()
    cluster.environment |= variables(tmp_path / "cache") | cluster.environment
    cluster.environment |= {
        "REAL_RAY": str(Path(sys.executable).with_name("ray")),
        "FIRST_JOB": str(os.getpid() * 10),  # Ray's folders are named after jobs
        "PYTHONPATH": str(tmp_path / "site"),
        "PATH": f"{cluster.bin}:{os.environ['PATH']}",
        "EMODARTS_WORKERS": "2",
    }
    yield cluster
    cluster.stop()
    for job in {line[2] for line in cluster.log("ray")}:
        shutil.rmtree(f"/tmp/emodarts-{job}", ignore_errors=True)


@pytest.mark.cluster(seconds=80)
@pytest.mark.timeout(500)
def test_a_sweep_over_elastic_workers_that_come_and_go_ends_like_an_undisturbed_one(real_ray, small_corpus, tmp_path):
    """A worker comes late; the first is preempted, the late one is killed, and both come again."""
    cluster, results, whole = real_ray, tmp_path / "results", tmp_path / "whole"
    longer = ["search.epochs=8", "training.epochs=12", "sweep.trials=2", "sweep.folds=[0,1]", "sweep.sampler=random"]
    options = [*(option for option in VARIED if "epochs" not in option), *longer]
    run_here(variables(tmp_path / "cache"), *manifest(small_corpus, whole, *options))
    of_units = ["resources.device=cpu", "resources.gpus_per_trial=1"]  # one to a worker, whose GPU is a number alone
    head, array = elastic(cluster, 2, *manifest(small_corpus, results, *options, *of_units))
    first, late = f"{array}_1", f"{array}_2"

    def in_flight():
        return len({file.parent for file in results.glob("*/checkpoints/*/*.safetensors")})

    def joins(name):
        return joined(cluster).count(str(cluster.job(name)["id"]))

    cluster.signal(late, signal.SIGKILL)  # there is no place for it yet
    cluster.wait_for(lambda: in_flight() == 1, 150)
    assert joins(late) == 0
    cluster.run("scontrol", "requeue", late)
    cluster.wait_for(lambda: in_flight() == 2, 150)
    cluster.signal(first, signal.SIGTERM)  # Ray drains; the unit stops within its epoch, and the node goes
    cluster.wait_for(lambda: any(results.glob("*/checkpoints/*/*.within.safetensors")), 60)
    cluster.wait_for(lambda: joins(first) == 2, 150)
    cluster.signal(late, signal.SIGKILL)
    cluster.run("scontrol", "requeue", late)
    (cluster.folder / "slow").unlink()
    cluster.wait_for(lambda: cluster.job(head)["code"] is not None, 150)
    assert cluster.job(head)["code"] == 0, cluster.output()
    assert comparable(results) == comparable(whole)
    assert sum(trial.retries for trial in reader.open(results).trials()) >= 2


@pytest.mark.slow(seconds=8)
def test_elastic_slurm_workers_follow_a_head_that_is_queued_again(slurm):
    cluster = slurm(LONG)
    head, array = elastic(cluster, 1)
    worker = str(cluster.job(f"{array}_1")["id"])
    cluster.wait_for(lambda: joined(cluster) == [worker])
    cluster.signal(head, signal.SIGTERM)
    cluster.wait_for(lambda: joined(cluster) == [worker] * 2)
    assert (cluster.folder / "stopped").exists()
    assert [line[3] for line in cluster.log("scontrol")] == [["requeue", head]]
    cluster.signal(f"{array}_1", signal.SIGKILL)
    cluster.signal(head, signal.SIGKILL)


def test_elastic_slurm_without_a_number_says_how_it_is_used(slurm):
    cluster = slurm(SHORT)
    done = cluster.run("bash", "cluster/slurm_elastic.sh", "corpus=demo")
    assert done.returncode == 2
    assert "usage: bash cluster/slurm_elastic.sh GPUS OPTIONS" in done.stderr


def test_the_stand_ins_refuse_what_slurm_refuses(slurm):
    """What the files did before: more GPUs than a node has, two kinds of memory, Ray's default port twice."""
    cluster = slurm(SHORT)
    step = {"FAKE_GPUS": "4", "SLURM_CPUS_ON_NODE": "16", "SLURM_JOB_NODELIST": "node1"}
    cluster.environment |= step
    node = ("--nodes=1", "--ntasks=1", "--nodelist=node1")
    refused = [
        (("srun", *node, "true"), {"SLURM_GPUS": "8"}, "Requested node configuration is not available"),
        (("srun", *node, "--mem=1G", "true"), {"SLURM_MEM_PER_CPU": "4096"}, "mutually exclusive"),
        (("srun", *node, "--cpus-per-task=32", "true"), {}, "More processors requested than permitted"),
        (("srun", *node, "--memory=1G", "true"), {}, "unrecognized option"),
    ]
    for command, more, message in refused:
        done = subprocess.run(
            command, env=cluster.environment | more, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode != 0
        assert message in done.stderr
    shown = cluster.run("srun", *node, "bash", "-c", "echo $SLURM_CPUS_PER_TASK")
    assert shown.stdout.strip() == "1", "srun does not inherit --cpus-per-task"
