"""The files for AWS against Ray's own node provider, botocore's model of EC2, and moto's IAM evaluator."""

import json
import re
import subprocess
import time

import boto3
import botocore.session
import pytest
import yaml
from botocore.client import BaseClient
from botocore.validate import ParamValidator
from moto import mock_aws
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.loader import load_function_or_class
from ray.autoscaler._private.node_provider_availability_tracker import NodeProviderAvailabilityTracker
from ray.autoscaler._private.resource_demand_scheduler import get_nodes_for
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.node_launch_exception import NodeLaunchException

from tests.support.files import REPOSITORY

CLUSTER = REPOSITORY / "cluster"
CONTENT = yaml.safe_load((CLUSTER / "gpu.yaml").read_text())
NODES = CONTENT["available_node_types"]
STATEMENTS = json.loads((CLUSTER / "aws-policy.json").read_text())["Statement"]
IMAGE = "resolve:ssm:/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
NODE = "arn:aws:ec2:us-west-2:123456789012:instance/i-1"
OF_THIS_CLUSTER = {"ec2:ResourceTag/ray-cluster-name": CONTENT["cluster_name"]}
RESULTS = "arn:aws:s3:::CHANGE-bucket/results/sweep/tables/units.parquet"
CORPUS = "arn:aws:s3:::CHANGE-bucket/corpora/msp_podcast/labels.csv"


@pytest.fixture
def calls(monkeypatch):
    """What was asked of AWS: (operation, parameters)."""
    recorded, call = [], BaseClient._make_api_call

    def record(self, operation, parameters):
        recorded.append((operation, parameters))
        return call(self, operation, parameters)

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    aws = mock_aws()
    aws.start(reset=False)  # the bucket of other tests (tests/conftest.py) lives in the same memory
    try:
        monkeypatch.setattr(BaseClient, "_make_api_call", record)
        yield recorded
    finally:
        aws.stop(remove_data=False)


def is_permitted(action, resource="*", about=None):
    results = [
        IAMPolicyStatement(statement).is_action_permitted(action, resource, None, about or {})
        for statement in STATEMENTS
    ]
    return PermissionResult.PERMITTED in results


def make_instance_profile():
    """As cluster/README.md says: IAM's check of the document's grammar is part of it."""
    iam, name = boto3.client("iam"), NODES["head"]["node_config"]["IamInstanceProfile"]["Name"]
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    document = (CLUSTER / "aws-policy.json").read_text()
    iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=document)
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


@pytest.mark.slow(seconds=4)
def test_ray_starts_and_ends_nodes_as_ec2_s_model_and_the_profile_s_policy_allow(calls):
    """The provider that runs on the head, with each node type of the file; moto stands for AWS."""
    region = CONTENT["provider"]["region"]
    (subnet, *_) = boto3.client("ec2", region_name=region).describe_subnets()["Subnets"]
    make_instance_profile()
    calls.clear()
    provider = AWSNodeProvider({**CONTENT["provider"], "cache_stopped_nodes": False}, CONTENT["cluster_name"])
    for name, node_type in NODES.items():
        started = {**node_type["node_config"], "SubnetIds": [subnet["SubnetId"]], "KeyName": "ray"}
        provider.create_node(started, {"ray-user-node-type": name, "ray-node-status": "uninitialized"}, 1)
    nodes = provider.non_terminated_nodes({})
    assert len(nodes) == len(NODES)
    provider.set_node_tags(nodes[0], {"ray-node-status": "up-to-date"})
    deadline = time.time() + 20
    while not any(operation == "CreateTags" for operation, _ in calls) and time.time() < deadline:
        time.sleep(0.1)  # tags are set in batches
    provider.terminate_nodes(nodes)

    service = botocore.session.get_session().get_service_model("ec2")
    runs = [parameters for operation, parameters in calls if operation == "RunInstances"]
    assert len(runs) == len(NODES)
    for operation, parameters in calls:
        report = ParamValidator().validate(parameters, service.operation_model(operation).input_shape)
        assert not report.has_errors(), report.generate_report()
    for parameters in runs:
        assert parameters["ImageId"] == IMAGE, "EC2 itself looks the image up"
    asked = {operation for operation, _ in calls}
    assert asked >= {"RunInstances", "DescribeInstances", "CreateTags", "TerminateInstances"}
    for operation in asked:
        resource = "*" if operation.startswith("Describe") else NODE
        assert is_permitted(f"ec2:{operation}", resource, OF_THIS_CLUSTER), operation


@pytest.mark.slow(seconds=3)
def test_instance_types_have_what_the_file_promises_the_autoscaler(calls):
    types = {name: node["node_config"]["InstanceType"] for name, node in NODES.items()}
    service = botocore.session.get_session().get_service_model("ec2")
    known = service.operation_model("RunInstances").input_shape.members["InstanceType"].enum
    assert set(types.values()) <= set(known)
    about = boto3.client("ec2", region_name="us-west-2").describe_instance_types(
        InstanceTypes=sorted(set(types.values()))
    )
    sizes = {kind["InstanceType"]: kind for kind in about["InstanceTypes"]}
    for name in NODES.keys() - {"head"}:
        kind = sizes[types[name]]
        gpus = sum(gpu["Count"] for gpu in kind["GpuInfo"]["Gpus"])
        assert {"CPU": kind["VCpuInfo"]["DefaultVCpus"], "GPU": gpus} == NODES[name]["resources"], name
        assert kind["InstanceStorageInfo"]["TotalSizeInGB"] > 200, "an own disk for the features"
    market = {name: node["node_config"].get("InstanceMarketOptions") for name, node in NODES.items()}
    assert all((how == {"MarketType": "spot"}) == name.startswith("spot-") for name, how in market.items())
    assert len({types[name] for name in types if name.startswith("spot-")}) >= 3


@pytest.mark.parametrize(
    ("action", "resource", "about"),
    [
        ("ssm:GetParameters", f"arn:aws:ssm:us-west-2::parameter{IMAGE.removeprefix('resolve:ssm:')}", {}),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/emodarts", {"iam:PassedToService": "ec2.amazonaws.com"}),
        ("ec2:CreateTags", NODE, {"ec2:CreateAction": "RunInstances"}),
        ("s3:ListBucket", "arn:aws:s3:::CHANGE-bucket", {}),
        ("s3:GetObject", CORPUS, {}),
        ("s3:GetObject", RESULTS, {}),
        ("s3:PutObject", RESULTS, {}),
        ("s3:DeleteObject", RESULTS, {}),
        ("s3:AbortMultipartUpload", RESULTS, {}),
        *(("ec2:RunInstances", f"arn:aws:ec2:us-west-2:123456789012:{kind}/x", {}) for kind in (
            "instance", "volume", "subnet", "network-interface", "security-group", "key-pair", "spot-instances-request",
        )),
        ("ec2:RunInstances", "arn:aws:ec2:us-west-2::image/ami-1", {}),
    ],
    ids=str,
)  # fmt: skip
def test_what_the_head_needs_is_permitted(action, resource, about):
    assert is_permitted(action, resource, about)


@pytest.mark.parametrize(
    ("action", "resource", "about"),
    [
        ("ec2:TerminateInstances", NODE, {"ec2:ResourceTag/ray-cluster-name": "another"}),
        ("ec2:CreateTags", NODE, {"ec2:ResourceTag/ray-cluster-name": "another", "ec2:CreateAction": "CreateVolume"}),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/Administrator", {"iam:PassedToService": "ec2.amazonaws.com"}),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/emodarts", {"iam:PassedToService": "lambda.amazonaws.com"}),
        ("ssm:GetParameters", "arn:aws:ssm:us-west-2:123456789012:parameter/secret", {}),
        ("s3:PutObject", CORPUS, {}),
        ("s3:GetObject", "arn:aws:s3:::another/results/x", {}),
    ],
    ids=str,
)
def test_what_the_head_does_not_need_is_not_permitted(action, resource, about):
    assert not is_permitted(action, resource, about)


def test_the_policy_names_actions_that_there_are():
    session = botocore.session.get_session()
    no_operations = {"iam:PassRole", "s3:ListBucket"}  # rights without an operation of that name
    actions = [a for s in STATEMENTS for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])]
    for action in set(actions) - no_operations:
        service, operation = action.split(":")
        assert operation in session.get_service_model(service).operation_names, action
    of_the_bucket = {r.split(":::")[1].split("/")[0] for s in STATEMENTS for r in s["Resource"] if ":s3:::" in r}
    text = (CLUSTER / "gpu.yaml").read_text()
    assert all(f"s3://{bucket}/" in text for bucket in of_the_bucket)
    assert f"IamInstanceProfile: {{Name: {NODES['head']['node_config']['IamInstanceProfile']['Name']}}}" in text


def refuse(tracker, node_type):
    refusal = NodeLaunchException("InsufficientInstanceCapacity", "there is none", None)
    tracker.update_node_availability(node_type, int(time.time()), refusal)


def test_where_aws_refuses_a_type_another_is_asked_for_and_on_demand_comes_last(monkeypatch):
    """Ray's own choice of nodes, with the function that the head's environment names."""
    (start,) = [line for line in CONTENT["head_start_ray_commands"] if "--head" in line]
    assert "RAY_enable_autoscaler_v2=0" in start
    assert "PYTHONPATH=$HOME/emodarts/cluster" in start
    monkeypatch.syspath_prepend(str(CLUSTER))
    scorer = load_function_or_class(re.search(r"RAY_AUTOSCALER_UTILIZATION_SCORER=([\w.]+)", start)[1])
    tracker, chosen = NodeProviderAvailabilityTracker(), []
    unit = {"CPU": 1, "GPU": 0.25}
    nodes = prepare_config(CONTENT)["available_node_types"]
    for _ in range(4):
        types, unmet = get_nodes_for(
            nodes, {}, "head", 8, [unit] * 4,
            utilization_scorer=lambda *about: scorer(*about, node_availability_summary=tracker.summary()),
        )  # fmt: skip
        assert not unmet
        ((node_type, count),) = types.items()
        assert count == 1, "four units share a GPU"
        chosen.append(node_type)
        refuse(tracker, node_type)
    assert chosen == ["spot-g6", "spot-g5", "spot-g4dn", "on-demand-g6"]
    assert scorer({"CPU": 0}, [unit], "head", node_availability_summary=tracker.summary()) is None


def test_all_commands_are_bash():
    for key in ("initialization", "setup", "head_setup", "head_start_ray", "worker_start_ray"):
        for command in CONTENT[f"{key}_commands"]:
            checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
            assert checked.returncode == 0, (command, checked.stderr)


@pytest.mark.parametrize(
    ("model", "looks"),
    [("Amazon EC2 NVMe Instance Storage", 3), ("Amazon Elastic Block Store", 0)],
    ids=["worker", "head"],
)
def test_a_node_waits_for_its_disk_to_be_mounted_and_one_without_does_not(tmp_path, model, looks):
    """The host's commands, with the disk mounted at the third look."""
    stubs = {
        "lsblk": f'echo "Amazon Elastic Block Store"; echo "{model}"',
        "mountpoint": 'echo x >> "$LOOKS"; test "$(wc -l < "$LOOKS")" -ge 3',
        "sleep": "exit 0",
        "sudo": 'echo "$*" >> "$LOOKS.sudo"',
    }
    for name, script in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "looks").touch()
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LOOKS": str(tmp_path / "looks")}
    for command in CONTENT["initialization_commands"]:
        subprocess.run(["bash", "-c", command], env=variables, check=True, timeout=20)
    assert (tmp_path / "looks").read_text().count("x") == looks
    host = "/opt/dlami/nvme/emodarts"
    assert (tmp_path / "looks.sudo").read_text() == f"mkdir -p {host}\nchown 1000:1000 {host}\n"


def test_features_are_kept_on_the_instance_s_own_disk():
    (volume,) = [option for option in CONTENT["docker"]["run_options"] if option.startswith("--volume=")]
    host, inside = volume.removeprefix("--volume=").split(":")
    assert any(f"mkdir -p {host}" in command for command in CONTENT["initialization_commands"])
    for key in ("head_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        assert f"EMODARTS_CACHE={inside}" in " ".join(CONTENT[key]), key
