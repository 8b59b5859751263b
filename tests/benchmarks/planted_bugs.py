"""Whether the tests catch 20 planted bugs, in two commits: `python tests/benchmarks/planted_bugs.py`.

Each commit is copied to a folder of its own. There, the tests that `planted_bugs.toml` names pass; then each bug is
planted by itself, and its test must fail. Takes about 6 minutes; the last line is one JSON object. Exit code 1 where a
bug was not caught.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.compare_commits import check_out  # noqa: E402

BUGS = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class PlantedBug:
    """In a commit: `text`, which stands once in `file`, becomes `replacement`, and `test` has to fail."""

    name: str
    file: str
    text: str
    replacement: str
    test: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant all bugs in both commits, print what came out, and return the exit code."""
    content = tomllib.loads(BUGS.read_text())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--now", default="HEAD", metavar="COMMIT", help="the later commit (default: HEAD)")
    parser.add_argument("--only", metavar="WORDS", help="bugs whose name has these words")
    options = parser.parse_args(arguments)
    chosen = [bug for bug in content["bugs"] if (options.only or "") in bug["name"]]
    caught: dict[str, list[bool]] = {}
    for side, commit in (("old", content["before"]), ("new", options.now)):
        bugs = [of_side(bug, side) for bug in chosen]
        with tempfile.TemporaryDirectory(prefix="planted-") as folder:
            caught[side] = catch(commit, bugs, Path(folder))
    width = max(len(bug["name"]) for bug in chosen)
    for number, bug in enumerate(chosen):
        words = ["caught" if caught[side][number] else "MISSED" for side in ("old", "new")]
        print(f"{bug['name']:{width}}  before {words[0]}  now {words[1]}")
    counts = {"planted": len(chosen), "caught_before": sum(caught["old"]), "caught_now": sum(caught["new"])}
    print(json.dumps(counts))
    return 0 if all(map(all, caught.values())) else 1


def of_side(bug: dict, side: str) -> PlantedBug:
    """A bug as a commit spells it."""
    spelling = {**bug, **bug[side]}
    return PlantedBug(bug["name"], *(spelling[name] for name in ("file", "text", "bug", "test")))


def catch(commit: str, bugs: Sequence[PlantedBug], folder: Path) -> list[bool]:
    """Whether each bug makes its test fail, which passes without it. Stops the program where it cannot be planted."""
    check_out(commit, folder)
    tests = list(dict.fromkeys(bug.test for bug in bugs))
    print(f"{commit}: {len(tests)} tests without a bug", file=sys.stderr, flush=True)
    if not _passes(folder, *tests):
        sys.exit(f"{commit}: not all tests pass without a bug")
    return [_is_caught(folder, bug) for bug in bugs]


def _is_caught(folder: Path, bug: PlantedBug) -> bool:
    path = folder / bug.file
    original = path.read_text()
    if original.count(bug.text) != 1:
        sys.exit(f"{bug.name}: its text stands {original.count(bug.text)} times in {bug.file}")
    path.write_text(original.replace(bug.text, bug.replacement))
    try:
        caught = not _passes(folder, bug.test)
    finally:
        path.write_text(original)
    print(f"  {'caught' if caught else 'MISSED'}: {bug.name}", file=sys.stderr, flush=True)
    return caught


def _passes(folder: Path, *tests: str) -> bool:
    """Whether all of the tests ran and passed. Stops the program where nothing ran: that is no failed test."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EMODARTS_")}
    # No bytecode: of two texts of equal length within a second, the older one would be run.
    environment |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--tb=line", *tests]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    passed, failed, skipped = (re.search(rf"\d+ {word}", done.stdout) for word in ("passed", "failed", "skipped"))
    if done.returncode not in (0, 1) or not (passed or failed) or skipped or (done.returncode == 1 and not failed):
        sys.exit(f"{' '.join(command)} ran no test, or skipped some:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
