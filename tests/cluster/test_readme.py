"""cluster/README.md: its table of faults names tests, all of which there are; its table of files names files."""

import ast
import re

from tests.support.files import REPOSITORY

TEXT = (REPOSITORY / "cluster" / "README.md").read_text()
TESTS = REPOSITORY / "tests"


def rows_of(title):
    """The cells of a table's rows below a heading."""
    section = re.split(r"^#+ ", TEXT.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    header, _, *rows = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, *rows)]
    assert all(len(row) == len(cells[0]) for row in cells), title
    return cells


def functions_of(path):
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_each_row_of_the_faults_names_tests_of_the_suite():
    suite = set().union(*(functions_of(path) for path in TESTS.rglob("test_*.py")))
    header, *rows = rows_of("When something dies")
    assert header == ["what", "what happens", "in the tables", "test"]
    assert len(rows) > 15
    for what, *_, cell in rows:
        names = re.findall(r"`(test_\w+)`", cell)
        assert names, f"no test provokes: {what}"
        assert not set(names) - suite, f"{what}: tests that are not there"


def test_what_is_provoked_on_real_ray_stands_in_the_table():
    """A fault that the suite provokes with a sick place is one that users want to read of."""
    provoked = functions_of(TESTS / "sweeps" / "execution" / "test_sick_places.py")
    named = {name for *_, cell in rows_of("When something dies")[1:] for name in re.findall(r"`(test_\w+)`", cell)}
    assert provoked
    assert not provoked - named


def test_every_file_is_described_and_every_one_that_is_described_is_there():
    files = {path.name for path in (REPOSITORY / "cluster").iterdir() if path.is_file()} - {"README.md"}
    described = {name for name in re.findall(r"`([\w.-]+\.(?:yaml|json|py|sh|sbatch))`", TEXT) if "/" not in name}
    assert files <= described
    told = {
        name
        for row in rows_of("What was run, and what was only validated")[1:]
        for name in re.findall(r"`([\w.-]+\.\w+)`", row[0])
    }
    assert files - told == {"slurm_common.sh"}, "of each file: what was run, and what was only validated"
