"""The fenced blocks of README and docs: what language each has, and whether it is marked as not to be run."""

import re
from dataclasses import dataclass

from tests.support.files import REPOSITORY

PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for folder in ("", "docs", "cluster")
    for path in (REPOSITORY / folder).glob("*.md")
)
_FENCE = re.compile(r"(?:<!-- no-run: ([^>]+?) -->\n)?^```(\w*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page and line, language, file name (`python studio.py`), text, and why it is not run."""

    page: str
    line: int
    language: str
    name: str
    text: str
    no_run: str | None


def read_page(page):
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks_of(page, *languages):
    """The blocks of a page; of some languages alone, if they are named."""
    text = read_page(page)
    blocks = [
        Block(page, text.count("\n", 0, match.start(4)), match[2], match[3], match[4], match[1])
        for match in _FENCE.finditer(text)
    ]
    return [block for block in blocks if not languages or block.language in languages]


def run_python_blocks(page, names=None):
    """Run a page's Python blocks one after the other, as one program would; the names that they leave behind."""
    names = {"__name__": "page", **(names or {})}
    for block in blocks_of(page, "python"):
        if block.no_run is None and not block.name:
            exec(compile("\n" * block.line + block.text, page, "exec"), names)
    return names
