"""Every fenced block of README and docs is run, composed or parsed; what cannot be is marked with its reason.

`<!-- no-run: reason -->` stands on the line before such a block. Python blocks of the pages in `RUN_BY` are run by the
tests named there, shell commands are checked here: a sweep's settings are composed, others' arguments parsed.
"""

import argparse
import re
import shlex
import sys

import pytest

from emodarts import cli
from emodarts.export import predict
from sweeps.variants import jobs
from tests.support.commands import of_command
from tests.support.files import REPOSITORY
from tests.support.markdown import PAGES, blocks_of, read_page

LANGUAGES = {"python", "sh", "text", "csv", "toml", "yaml", "json"}
RUN_BY = {
    "docs/library.md": "tests/docs/test_pages.py::test_the_library_page_runs_in_order",
    "docs/results.md": "tests/docs/test_pages.py::test_the_results_page_runs_and_names_every_table",
    "docs/report.md": "tests/docs/test_pages.py::test_the_report_page_computes_what_the_report_says",
    "docs/statistics.md": "tests/docs/test_pages.py::test_the_statistics_page_computes_intervals_and_differences",
    "docs/corpora.md": "tests/corpora/test_page.py::test_the_examples_run_one_after_another",
}
SHELL_BLOCKS = [block for page in PAGES for block in blocks_of(page, "sh")]
# Programs of others: that they are there and do what the page says is no matter of this repository.
FOREIGN = {
    "apptainer",
    "cat",
    "cd",
    "export",
    "docker",
    "git",
    "kubectl",
    "mkdocs",
    "pre-commit",
    "ray",
    "sbatch",
    "source",
    "venv",
}


def commands_in(text):
    """The single commands of a shell block: comments, prompts and output are left out, `&&` and `|` divide."""
    lines = re.sub(r" > \S+", "", text.replace("\\\n", " ")).splitlines()
    if any(line.startswith("$ ") for line in lines):  # with its output between
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    for line in lines:
        words = shlex.split(re.sub(r"(^|\s{2,})#.*$", "", line))
        command = []
        for word in [*words, "&&"]:
            if word in ("&&", "|", ";", "--") and (command or word != "--"):
                if command:
                    yield command
                command = []
            else:
                command.append(word)


def check_command(command):
    """Compose or parse one command; what it is, for the count. Raises what the command itself would."""
    while "=" in command[0] and not command[0].startswith(("-", "python")):  # NAME=value command
        command = command[1:]
        if not command:
            return "assignment"
    program, *words = command
    if program in ("python", "emodarts-sweep"):
        script = words.pop(0) if program == "python" else "sweeps/run.py"
        if script == "-m":
            return check_command([words[0], *words[1:]])
        if script == "sweeps/run.py":
            check_sweep(words)
            return "sweep composed"
        if script == "model/predict.py":
            return "arguments parsed" if predict_arguments(words) else ""
        assert (REPOSITORY / script).is_file(), f"{script} is not in the repository"
        return "script there"
    if program == "emodarts":
        cli._parser().parse_args(words)
        return "arguments parsed"
    if program == "pip":
        extras = set(re.findall(r"\[(\w+)\]", " ".join(words)))
        text = (REPOSITORY / "pyproject.toml").read_text()
        assert all(re.search(rf"^{extra} = \[", text, re.MULTILINE) for extra in extras)
        return "extras there"
    if program in ("pytest", "bash", "ruff", "mypy"):
        paths = [word.partition("::")[0] for word in words if "/" in word]
        assert all((REPOSITORY / path).exists() for path in paths), words
        return "paths there"
    assert program in FOREIGN, f"{shlex.join(command)}: mark the block with no-run, or teach this test to check it"
    return "program of others"


def check_sweep(words):
    """A sweep's settings, composed and checked as the command does before it reads any file."""
    settings = [word for word in words if not word.startswith("-") and "$" not in word and word != "..."]
    made = of_command(*settings)
    by_default = made.system is None and made.search.system == "emodarts"
    assert not by_default or not jobs._unused(jobs._systems(made), settings), (
        "refused: without a system there is no search"
    )


def predict_arguments(words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["predict.py", *words])
        return isinstance(predict._options(), argparse.Namespace)


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_a_shell_block_does_what_it_says(block, monkeypatch):
    if block.no_run is not None:
        pytest.skip(f"no-run: {block.no_run}")
    monkeypatch.setenv("EMODARTS_CORPORA", "/data")
    checked = [check_command(command) for command in commands_in(block.text)]
    assert checked, f"{block.page}:{block.line} holds no command: a block of output is ```text"


def test_every_block_is_run_or_says_why_not(capsys):
    blocks = [block for page in PAGES for block in blocks_of(page)]
    unknown = [f"{b.page}:{b.line} {b.language!r}" for b in blocks if b.language not in LANGUAGES]
    assert not unknown, "name the language of each block: " + ", ".join(sorted(LANGUAGES))
    python = [block for block in blocks if block.language == "python"]
    nobody = [f"{b.page}:{b.line}" for b in python if b.no_run is None and b.page not in RUN_BY]
    assert not nobody, "Python that no test runs: add its page to RUN_BY, or mark it <!-- no-run: reason -->"
    for test in RUN_BY.values():
        path, name = test.split("::")
        assert f"def {name}(" in (REPOSITORY / path).read_text()
    marked = [block for block in blocks if block.no_run is not None]
    with capsys.disabled():
        counts = f"{sum(b.no_run is None for b in python)} Python blocks run, {len(SHELL_BLOCKS)} shell blocks checked"
        print(f"\nblocks of README and docs: {counts}, {len(marked)} marked no-run")


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    folder = (REPOSITORY / page).parent
    for target, anchor in re.findall(r"\]\((?!https?:|#)([^)#\s]*)(#[^)\s]*)?\)", read_page(page)):
        file = (folder / target).resolve()
        assert file.exists(), f"{page}: {target}"
        if anchor and file.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor[1:] in slugs, f"{page}: {target}{anchor}"
