"""What a page is made of: sections of words, tables and figures."""

from collections.abc import Iterator
from dataclasses import dataclass

from emodarts.report.figures import Figure
from emodarts.report.sheets import Sheet, slug


@dataclass(frozen=True)
class More:
    """What is shown when somebody opens it (and on paper)."""

    summary: str
    parts: tuple["Part", ...]


@dataclass(frozen=True)
class Words:
    """A paragraph; `tone` is warning for what must not be overlooked, else empty."""

    text: str
    tone: str = ""


Part = Words | Sheet | Figure | More


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    parts: tuple[Part, ...]

    @property
    def anchor(self) -> str:
        """The name by which the page links to it."""
        return slug(self.title)


def each(parts: tuple[Part, ...]) -> Iterator[Sheet | Figure]:
    """All tables and figures, those inside `More` too."""
    for part in parts:
        if isinstance(part, More):
            yield from each(part.parts)
        elif not isinstance(part, Words):
            yield part
