"""What a page is made of: sections of words, tables and figures."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from emodarts.report.figures import Figure
from emodarts.report.sheets import Sheet, slug


@dataclass(frozen=True)
class Collapsible:
    """What is shown when somebody opens it (and on paper)."""

    summary: str
    parts: tuple["Part", ...]


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `tone` is warning for what must not be overlooked, else empty."""

    text: str
    tone: str = ""


Part = Paragraph | Sheet | Figure | Collapsible


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    parts: tuple[Part, ...]

    @property
    def anchor(self) -> str:
        """The name by which the page links to it."""
        return slug(self.title)


def walk_parts(parts: tuple[Part, ...]) -> Iterator[Sheet | Figure]:
    """All tables and figures, those inside `More` too."""
    for part in parts:
        if isinstance(part, Collapsible):
            yield from walk_parts(part.parts)
        elif not isinstance(part, Paragraph):
            yield part


def told_apart(sections: tuple[Section, ...]) -> tuple[Section, ...]:
    """The same with a number behind names that come again: they are names of files and of places on the page."""
    seen: Counter[str] = Counter()

    def renamed(part: Part) -> Part:
        if isinstance(part, Collapsible):
            return replace(part, parts=tuple(renamed(inner) for inner in part.parts))
        if isinstance(part, Paragraph):
            return part
        kind = f"{type(part).__name__} {part.name.lower()}"  # some file systems know no case
        seen[kind] += 1
        return part if seen[kind] == 1 else replace(part, name=f"{part.name}--{seen[kind]}")

    return tuple(replace(section, parts=tuple(renamed(part) for part in section.parts)) for section in sections)
