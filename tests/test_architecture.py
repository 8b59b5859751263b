"""The walls of the house: which room may import which, no circles, and names and sizes that hold everywhere."""

import ast
import importlib
import importlib.util
import re
import sys
import zipfile
from collections import defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.files import REPOSITORY
from tests.support.packages import PACKAGES, build_wheel

INSTALLED = ("emodarts", "sweeps")
PRODUCT = (*INSTALLED, "cluster")
BASE = (
    "checkpoints", "console", "errors", "exclusive", "files", "garbage_collection", "metrics", "processors",
    "provenance", "records", "seeds", "settings", "storage", "templates",
)  # fmt: skip
# Room of emodarts -> the rooms it may import, besides itself and the base modules, which are open to all.
MAY_IMPORT = {
    "corpora": (),
    "features": ("corpora",),
    "audit": ("corpora", "features"),
    "networks": (),
    "training": ("networks", "features"),
    "search": ("networks", "features", "training"),
    "experiment": ("corpora", "features", "audit", "networks", "training", "search"),
    "results": (),
    # corpora, features and export for recordings alone: licences, sound, and where an exported network looks.
    "report": ("results", "audit", "networks", "corpora", "features", "export"),
    # corpora and features beyond the table: the graph computes the features, networks are trained on the corpus again.
    "export": ("results", "audit", "networks", "experiment", "corpora", "features"),
    "cli": (
        "corpora",
        "features",
        "audit",
        "networks",
        "training",
        "search",
        "experiment",
        "results",
        "report",
        "export",
    ),
}
ONLY_SWEEPS = {"ray", "optuna", "hydra", "omegaconf", "sweeps"}
VAGUE = {"found", "told", "kept", "made", "given", "asked", "theirs", "one", "each"}
TOP_MODULES, FILE_LINES = 6, 400
# 25,000 when the rooms were built; since then encoders, ensembles, controls (27,000), the report one listens to
# (2,900), dimensions and warm starts (1,000), grammars and the matrix (600), faults of places (600), the space for
# frames (400), single paths, proposals and the sampler's method (650), messages and tasks on nodes (450),
# networks as one picture (250), trackers and the log of ended units (950), inner splits and their race (400), stops
# within an epoch (240), some trials of large files (80), a restart that looks for no cycles (20), an audit
# that nobody waits for and imports without a look for cycles (105).
PRODUCT_LINES = 35_955


def python_files(*folders):
    """Paths below the repository, in order."""
    return sorted(p.relative_to(REPOSITORY) for folder in folders for p in (REPOSITORY / folder).rglob("*.py"))


def module_name(path):
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parse(path):
    return ast.parse((REPOSITORY / path).read_text(), str(path))


MODULES = {module_name(path): path for path in python_files("emodarts", "sweeps")}


def imported_modules(path):
    """Dotted names of all that a file imports, inside functions, too: modules, not what they hold."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield (
                    submodule
                    if submodule in MODULES or (REPOSITORY / submodule.replace(".", "/")).is_dir()
                    else node.module
                )


def _is_module(name):
    place = REPOSITORY / name.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").is_file()


IMPORTS = {module: set(imported_modules(path)) - {module} for module, path in MODULES.items()}


def room_of(module):
    """`features` of `emodarts.features.store.plan`; of sweeps also its files at the top, each by itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def in_the_house(module):
    return module.partition(".")[0] in ("emodarts", "sweeps")


def a_circle(graph):
    """The nodes of a circle, or None."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


# Imports


@pytest.mark.parametrize("room", [*MAY_IMPORT, *BASE])
def test_a_room_imports_what_the_table_allows(room):
    allowed = {room, *BASE, *MAY_IMPORT.get(room, ())}
    own = [module for module in MODULES if module.startswith("emodarts.") and room_of(module) == room]
    assert own, f"there is no emodarts/{room}"
    others = [
        f"{MODULES[module]} imports {target}"
        for module in own
        for target in sorted(IMPORTS[module])
        if target.startswith("emodarts.") and room_of(target) not in allowed
    ]
    assert not others, "\n".join(others)


def test_every_room_stands_in_the_table():
    rooms = {room_of(module) for module in MODULES if module.startswith("emodarts.")}
    assert rooms == {*MAY_IMPORT, *BASE}


def test_emodarts_knows_nothing_of_sweeps():
    """A search runs in a notebook or a debugger, in one process: without Ray, Optuna and Hydra."""
    foreign = [
        f"{MODULES[module]} imports {target}"
        for module, targets in IMPORTS.items()
        for target in sorted(targets)
        if module.startswith("emodarts") and target.partition(".")[0] in ONLY_SWEEPS
    ]
    assert not foreign, "\n".join(foreign)


def test_no_circle_between_files():
    circle = a_circle({module: targets & MODULES.keys() for module, targets in IMPORTS.items()})
    assert circle is None, " imports ".join(reversed(circle or []))


@pytest.mark.parametrize("package", ["emodarts", "sweeps"])
def test_no_circle_between_rooms(package):
    graph = defaultdict(set)
    for module, targets in IMPORTS.items():
        if module.startswith(f"{package}."):
            ours = (target for target in targets if target.startswith(f"{package}."))
            graph[room_of(module)] |= {room_of(target) for target in ours} - {room_of(module)}
    circle = a_circle(graph)
    assert circle is None, " imports ".join(reversed(circle or []))


def imported_at_start(module):
    """Dotted names of all that is imported with a module, by it and by what it imports: nothing inside functions."""
    seen, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parts = name.split(".")
        waiting += [parent for n in range(1, len(parts)) if (parent := ".".join(parts[:n])) in MODULES]
        waiting += names_at_start(MODULES[name]) if name in MODULES else []
    return seen


def names_at_start(path):
    """What the statements of a file import that run with its import."""
    waiting = list(parse(path).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield name if (name := f"{node.module}.{alias.name}") in MODULES else node.module
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("sweeps.run", {"torch", "ray", "optuna", "scipy", "sklearn", "matplotlib"}),  # --help, and what is mistyped
        ("sweeps.sweep", {"torch", "ray", "scipy", "sklearn", "matplotlib"}),  # a start with nothing to do
        ("sweeps.execution.trainable", {"torch", "scipy", "sklearn", "matplotlib"}),  # the driver of workers
        ("emodarts.report.page", {"torch", "scipy", "sklearn", "matplotlib", "transformers"}),
        ("emodarts.cli", {"torch", "scipy", "sklearn", "matplotlib", "pyarrow"}),
    ],
)
def test_nobody_waits_for_the_import_of_what_is_not_used(module, heavy):
    """Each of these takes half a second to three: it is imported where it is used (`tests/benchmarks/waiting.py`)."""
    imported = {name.partition(".")[0] for name in imported_at_start(module)}
    assert not imported & heavy
    assert "pyarrow.dataset" not in imported_at_start(module)  # which imports pandas


@pytest.mark.slow
def test_no_test_module_imports_another():
    importers = [
        f"{path} imports {target}"
        for path in python_files("tests")
        for target in imported_modules(path)
        if target.startswith("tests.") and any(part.startswith(("test_", "conftest")) for part in target.split("."))
    ]
    assert not importers, "\n".join(importers)


def test_the_tests_stand_in_a_tree_that_mirrors_the_rooms():
    folders = {path.parent.relative_to("tests") for path in python_files("tests") if path.name.startswith("test_")}
    rooms = {Path("."), Path("cluster"), Path("docs"), Path("reference"), Path("tooling")}
    rooms |= {Path(*path.parent.parts[1:]) for path in python_files("emodarts")}
    rooms |= {path.parent for path in python_files("sweeps")}
    assert folders <= rooms, f"no room of this name: {sorted(map(str, folders - rooms))}"


@pytest.mark.parametrize("path", python_files("tests/benchmarks"), ids=lambda path: path.stem)
def test_what_benchmarks_import_is_there(path):
    """They are run by hand: a name that moved would be missed on the day somebody wants a figure."""
    missing = [
        f"{path}:{node.lineno} {node.module}.{alias.name}"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] in ("emodarts", "sweeps", "tests")
        for alias in node.names
        if not hasattr(importlib.import_module(node.module), alias.name)
        and f"{node.module}.{alias.name}" not in MODULES
    ]
    assert not missing, "\n".join(missing)


def test_no_benchmark_bears_the_name_of_a_package():
    """Its folder comes first on the path of a script and its processes: `coverage.py` there broke numba's import."""
    names = {path.stem for path in python_files("tests/benchmarks")}
    assert not names & {*sys.stdlib_module_names, "coverage"}  # which numba imports where it is there
    assert not [name for name in sorted(names) if importlib.util.find_spec(name) is not None]


# Sizes


def test_few_modules_at_the_top_of_sweeps():
    top = [path.name for path in (REPOSITORY / "sweeps").glob("*.py") if path.name != "__init__.py"]
    assert len(top) <= TOP_MODULES, f"{sorted(top)}: at most {TOP_MODULES}, others belong in a room"


def lines_of(path):
    return len((REPOSITORY / path).read_text().splitlines())


def test_no_product_file_is_long():
    lengths = {str(path): lines_of(path) for path in python_files(*PRODUCT)}
    long = {path: length for path, length in lengths.items() if length > FILE_LINES}
    assert not long, f"over {FILE_LINES} lines: {long}"


def test_the_product_stays_small():
    total = sum(lines_of(path) for path in python_files(*INSTALLED))
    assert total <= PRODUCT_LINES, f"{total} lines"


# Names


def names_of_values(tree):
    """Name and line of every variable, parameter, attribute and function that a file defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            yield node.name, node.lineno
        elif isinstance(node, ast.alias):
            yield node.asname, node.lineno


def test_names_say_what_they_hold():
    vague = [
        f"{path}:{line} {name}"
        for path in python_files(*PRODUCT)
        for name, line in names_of_values(parse(path))
        if name in VAGUE
    ]
    assert not vague, "\n".join(vague)


def test_no_public_class_name_twice():
    places = defaultdict(list)
    for path in python_files(*PRODUCT):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{path}:{node.lineno}")
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert not twice, twice


# Each rule once: the function that is the rule, its module, and what only a second copy of it would use


@cache
def used_names(path):
    """Names that a file uses, defines or imports, and the labels of the seeds that it derives."""
    names = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.FunctionDef):
            names.add(f"def {node.name}")
        elif isinstance(node, ast.alias):
            names.add(node.name.rpartition(".")[2])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "derive_seed":
            names |= {f"seed of {x.value}" for x in node.args if isinstance(x, ast.Constant)}
    return frozenset(names)


@pytest.mark.parametrize(
    ("rule", "place", "tools"),
    [
        pytest.param("rank_on_dev", "emodarts/results/winners.py", {"lexsort"}, id="winner on dev"),
        pytest.param("late_dev_epoch", "emodarts/records.py", {"is_late"}, id="late-dev epoch"),
        pytest.param("unit_seed", "emodarts/seeds.py", {"seed of unit"}, id="seed of a unit"),
        pytest.param("atomic_write", "emodarts/files.py", {"fsync", "rename", "mkstemp"}, id="atomic write"),
        pytest.param("file_lock", "emodarts/files.py", {"FileLock", "flock", "lockf", "fcntl"}, id="file lock"),
        pytest.param(
            "render_template", "emodarts/templates.py", {"Environment", "PackageLoader"}, id="Jinja environment"
        ),
    ],
)
def test_each_rule_stands_once(rule, place, tools):
    product = python_files(*PRODUCT)
    assert [str(path) for path in product if f"def {rule}" in used_names(path)] == [place]
    assert [str(path) for path in product if tools & used_names(path)] == [place]
    assert any(rule in used_names(path) for path in python_files("tests")), f"no test names {rule}"


# Documents and the package


def test_files_that_documents_name_are_there():
    pages = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "cluster").glob("*.md")]
    pages = [page for page in pages if page.name != "CHANGELOG.md"]  # it names what is gone
    named = re.compile(r"\b(?:emodarts|sweeps|cluster|tests|docs)/[\w/.-]+\.(?:py|yaml|toml|md|json|sbatch|sh|j2)\b")
    missing = [
        f"{page.relative_to(REPOSITORY)}: {path}"
        for page in pages
        for path in sorted(set(named.findall(page.read_text())))
        if not (REPOSITORY / path).exists() and Path(path).stem != "studio"  # the corpus that docs/corpora.md invents
    ]
    assert not missing, "\n".join(missing)


@pytest.mark.slow
def test_the_wheel_holds_every_data_file(tmp_path):
    """What is not named in pyproject's package-data is there in a checkout and missing after `pip install`."""
    packed = {name for name in zipfile.ZipFile(build_wheel(tmp_path)).namelist() if ".dist-info/" not in name}
    tree = {
        path.relative_to(REPOSITORY).as_posix()
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == tree, f"not in the wheel: {sorted(tree - packed)}"
