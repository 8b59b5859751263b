"""No test was lost when the rooms were moved: `old_test_ids.toml` says where each test of before is now."""

import ast
import io
import shutil
import subprocess
import tarfile
import tomllib

import pytest

from tests.support.files import REPOSITORY

COMMIT = "c2e387ff9e189a9c554b8b47172662539ba94471"  # the last one before anything was moved
MOVED = tomllib.loads((REPOSITORY / "tests" / "old_test_ids.toml").read_text())


def collected_ids(sources):
    """Ids of all test functions in `{path: text}` as pytest collects them, but without parametrisations."""
    trees = {path: ast.parse(text) for path, text in sources.items()}
    classes = {n.name: n for tree in trees.values() for n in tree.body if isinstance(n, ast.ClassDef)}
    return {
        f"{path}::{name}"
        for path, tree in trees.items()
        if path.rpartition("/")[2].startswith("test_")
        for node in tree.body
        for name in _names(node, classes)
    }


def _names(node, classes):
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
        yield node.name
    elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
        yield from (f"{node.name}::{method}" for method in _methods(node, classes))
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and node.value.attr == "TestCase":
        yield from (f"{target.id}::runTest" for target in node.targets)  # a state machine of Hypothesis


def _methods(node, classes):
    """Names of a class's tests, with those that it inherits."""
    names = {n.name for n in node.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test")}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            names |= _methods(classes[base.id], classes)
    return names


def old_ids():
    """The ids of before, each with those of now."""
    for path, table in MOVED.items():
        for name in table["same"]:
            yield f"{path}::{name}", [f"{table['file']}::{name}"]
        for name, successors in table.get("others", {}).items():
            yield f"{path}::{name}", successors


@pytest.mark.slow
def test_every_successor_is_a_test():
    files = (REPOSITORY / "tests").rglob("*.py")
    present = collected_ids({path.relative_to(REPOSITORY).as_posix(): path.read_text() for path in files})
    missing = [f"{old}: {new}" for old, successors in old_ids() for new in successors if new not in present]
    assert not missing, "renamed, moved or gone: follow up in tests/old_test_ids.toml\n" + "\n".join(missing)


def test_every_old_test_has_a_successor_and_stands_there_once():
    ids = [old for old, _ in old_ids()]
    assert len(ids) == len(set(ids)) == 865
    assert all(successors for _, successors in old_ids())


def test_the_old_tests_are_those_of_the_commit():
    if shutil.which("git") is None:
        pytest.skip("needs git")
    archived = subprocess.run(["git", "-C", str(REPOSITORY), "archive", COMMIT, "tests"], capture_output=True)
    if archived.returncode != 0:
        pytest.skip(f"needs the history back to {COMMIT[:12]}, which is not in this checkout")
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as archive:
        files = [member for member in archive if member.name.endswith(".py")]
        sources = {file.name: archive.extractfile(file).read().decode() for file in files}
    assert collected_ids(sources) == {old for old, _ in old_ids()}
