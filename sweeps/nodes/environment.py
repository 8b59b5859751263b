"""Ray's runtime environment: how code and variables reach a worker, wherever its node is."""

import json
import os
from pathlib import Path
from typing import Any

from emodarts.provenance import git_revision

REPOSITORY = Path(__file__).resolve().parents[2]  # or the folder that the packages are installed in


def runtime_environment(threads: int, joined: bool) -> dict[str, Any]:
    """Ray's runtime environment: threads of a worker, the commit for the rows, and this code.

    On this machine workers import it from where it is. A cluster is sent it with the job, unless the job was submitted
    with a working directory, which has it already.
    """
    variables = {"OMP_NUM_THREADS": str(threads), "EMODARTS_REVISION": git_revision() or ""}
    if not joined:
        return {"env_vars": {**variables, "PYTHONPATH": str(REPOSITORY)}}
    environment: dict[str, Any] = {"env_vars": variables}
    if not _job_environment().get("working_dir"):
        environment["py_modules"] = [str(REPOSITORY / name) for name in ("emodarts", "sweeps")]
    return environment


def _job_environment() -> dict[str, Any]:
    """The runtime environment of `ray job submit`, where this driver runs as such a job."""
    try:
        content = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    except ValueError:
        return {}
    environment: dict[str, Any] = content.get("runtime_env") or {}
    return environment
