"""The Dockerfile's steps, as far as they go without a container builder."""

import fnmatch
import re
import shutil
import subprocess
import tomllib

import pytest

from tests.support.files import REPOSITORY

STEPS = re.sub(r"\\\n\s*", "", (REPOSITORY / "Dockerfile").read_text()).splitlines()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def arguments_of(instruction):
    return [line.partition(" ")[2] for line in STEPS if line.startswith(f"{instruction} ")]


def copied():
    """Files and folders that the image gets."""
    for line in arguments_of("COPY"):
        *sources, target = [word for word in line.split() if not word.startswith("--")]
        yield from ((source, target) for source in sources)


def test_what_the_image_copies_is_there_and_in_the_build_s_context():
    rules = (REPOSITORY / ".dockerignore").read_text().split("\n")
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    assert rules[0] == "*"
    for source, _ in copied():
        assert (REPOSITORY / source).exists()
        assert f"!{source}" in rules
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    assert sent == {source for source, _ in copied()}
    assert any(fnmatch.fnmatch("emodarts/__pycache__", rule) for rule in rules)


@pytest.mark.slow
def test_the_image_s_steps_install_the_packages_of_the_project_and_then_its_code(tmp_path):
    """In a folder with what was copied, under a `pip` that notes what it is asked for."""
    home, packages = tmp_path / "home", tmp_path / "packages.txt"
    home.mkdir()
    for name in ("pip", "emodarts-sweep"):
        (tmp_path / name).write_text(f'#!/bin/bash\necho "{name} $*" >> "{tmp_path}/log"\n')
        (tmp_path / name).chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{shutil.which('python').rpartition('/')[0]}:/usr/bin:/bin"}
    for line in STEPS:
        instruction, _, rest = line.partition(" ")
        if instruction == "COPY":
            *sources, _ = [word for word in rest.split() if not word.startswith("--")]
            for source in sources:
                path = REPOSITORY / source
                (shutil.copytree if path.is_dir() else shutil.copy)(path, home / source)
        elif instruction == "RUN":
            command = rest.replace("/tmp/packages.txt", str(packages))
            subprocess.run(["sh", "-c", command], cwd=home, env=variables, check=True)
    expected = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["encoders"], "boto3"]
    assert packages.read_text().splitlines() == expected
    assert (tmp_path / "log").read_text().splitlines() == [
        f"pip install --no-cache-dir -r {packages}",
        "pip install --no-cache-dir --no-deps -e .",
        "emodarts-sweep --help",
    ]
    assert "emodarts-sweep" in PROJECT["scripts"]


def test_the_image_runs_as_the_user_that_the_files_suppose():
    """Ray's image runs as 1000; gpu.yaml hands the disk for features to that user."""
    assert all("--chown=1000:" in line for line in arguments_of("COPY"))
    assert not arguments_of("USER")
    assert "chown 1000:1000" in (REPOSITORY / "cluster" / "gpu.yaml").read_text()
