"""Whether two commits give the same figures to the digit: `python tests/benchmarks/compare_commits.py A B`.

Each commit is copied to a folder of its own, where its own reference units are run; `.` is the working tree as it is.
Exit code 0 and `equal: N units`, or 1 and where each unit that differs first does so; 2 where nothing can be compared.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.reference.difference import first_difference  # noqa: E402

WORKING_TREE = "."
# Archives are this repository's own; Python before 3.11.4 knows no filter.
_SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
_RUNNER, _UNITS = "run_units.py", "units.toml"


class CompareError(Exception):
    """What cannot be compared, in a sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare as the command line says, print what came out, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commits", nargs=2, metavar="COMMIT", help="a commit, or . for the working tree")
    parser.add_argument("--units", nargs="+", metavar="NAME", help="default: all that both know")
    options = parser.parse_args(arguments)
    try:
        compared, differences = compare(options.commits, options.units)
    except CompareError as error:
        print(error, file=sys.stderr)
        return 2
    for name, difference in differences.items():
        print(f"{name}: {difference}")
    print(f"differing: {len(differences)} of {compared} units" if differences else f"equal: {compared} units")
    return 1 if differences else 0


def compare(commits: Sequence[str], names: Sequence[str] | None = None) -> tuple[int, dict[str, str]]:
    """The number of units that were run, and where those that differ first do so. Raises CompareError."""
    for commit in commits:
        _check_commit(commit)
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        runners = [_runner(commit, Path(folder) / str(number)) for number, commit in enumerate(commits)]
        known = [list(tomllib.loads(runner.with_name(_UNITS).read_text())["units"]) for runner in runners]
        for commit, there in zip(commits, known, strict=True):
            if unknown := [name for name in names or [] if name not in there]:
                raise CompareError(f"{commit} has no unit {', '.join(unknown)}: it knows {', '.join(there)}")
        chosen = list(names or [name for name in known[0] if name in known[1]])
        digests = [_digests(runner, chosen, Path(folder) / f"{n}.json") for n, runner in enumerate(runners)]
    differences = {name: first_difference(digests[0][name], digests[1][name]) for name in chosen}
    return len(chosen), {name: text for name, text in differences.items() if text is not None}


def _check_commit(commit: str) -> None:
    """Raise CompareError for a commit that is unknown or older than the reference units."""
    if commit == WORKING_TREE:
        return
    since = f"the reference units came with commit {_introduction()}, and that one and later ones can be compared"
    try:
        files = _git("ls-tree", "-r", "--name-only", f"{commit}^{{commit}}", "--", "tests").decode().split("\n")
    except subprocess.CalledProcessError:
        raise CompareError(f"{commit} is no commit of this repository: {since}") from None
    if not any(Path(file).name == _RUNNER for file in files):
        raise CompareError(f"{commit} has no reference units: {since}")


def _introduction() -> str:
    """The first commit that has a runner."""
    try:
        lines = _git("log", "--diff-filter=A", "--format=%h", "--", f":(glob)tests/**/{_RUNNER}").decode().split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise CompareError(f"commits are compared in a git checkout, and {ROOT} is none ({error})") from error
    return lines[-1] if lines else "(not in the history that is here)"


def check_out(commit: str, folder: Path) -> Path:
    """The root of a clean copy of a commit in `folder`, or of the working tree, where it is."""
    if commit == WORKING_TREE:
        return ROOT
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit))) as archive:
        archive.extractall(folder, **_SAFELY)
    return folder


def _runner(commit: str, folder: Path) -> Path:
    """The file that runs the units of a commit."""
    return next((check_out(commit, folder) / "tests").rglob(_RUNNER))


def _digests(runner: Path, names: Sequence[str], out: Path) -> dict[str, Any]:
    """What a runner makes of the units, in a process of its own that imports its own checkout. Raises CompareError."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(runner), *names, "--out", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise CompareError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    digests: dict[str, Any] = json.loads(out.read_text())["units"]
    return digests


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
