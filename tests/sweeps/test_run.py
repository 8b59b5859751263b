"""The command as `pip install .` installs it, from any folder: the settings' files, the code that workers import."""

import os
import subprocess
import sys

import pytest

from emodarts.results import reader
from tests.support.commands import ONE_TRIAL, manifest
from tests.support.packages import build_wheel


@pytest.fixture
def installed(environment, tmp_path):
    """Runs `emodarts-sweep` of an installed package in a folder of its own: exit code and output."""
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([sys.executable, *install, str(build_wheel(tmp_path))], check=True)
    path = os.pathsep.join([str(target), *(p for p in sys.path if p.endswith("site-packages"))])

    def run(*overrides):
        command = [sys.executable, str(target / "bin" / "emodarts-sweep"), *overrides]
        variables = {**environment, "PYTHONPATH": path}
        done = subprocess.run(command, cwd=elsewhere, env=variables, capture_output=True, text=True, timeout=250)
        assert not list(elsewhere.iterdir())
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.cluster(seconds=20)
def test_the_installed_command_runs_a_sweep_from_any_folder(installed, small_corpus, tmp_path):
    overrides = manifest(small_corpus, tmp_path / "results", *ONE_TRIAL, "sweep.folds=[0]")
    code, output = installed(*overrides, "ray.dashboard=true")
    assert code == 0, output
    assert "dashboard: http://127.0.0.1:" in output
    assert "next: emodarts report" in output
    assert [t.status for t in reader.open(tmp_path / "results").trials()] == ["complete"]
    code, output = installed(*overrides, "search=nope")
    assert (code, output) == (
        1,
        "error: there is no search=nope: choose one of frames, paper, paper_reduced, sampler, small\n",
    )
    code, output = installed(*overrides, "sweep.trials=2", "sweep.time_budget_hours=1e-9", "ray.address=none")
    assert code == 0
    assert "To go on: emodarts-sweep corpus=manifest" in " ".join(output.split())
