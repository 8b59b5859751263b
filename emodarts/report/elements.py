"""What a page is made of: sections of paragraphs, tables, figures, and what is shown on demand."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from emodarts.report.figures import Figure
from emodarts.report.tables import ReportTable, slug


@dataclass(frozen=True)
class Collapsible:
    """Elements that are shown when somebody opens them (and on paper)."""

    summary: str
    elements: tuple["Element", ...]
    is_open: bool = False


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `tone` is warning for what must not be overlooked, lead for what answers a section's question."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class SoundClip:
    """A recording on the page: `source` is a data URI or a file beside the page, `picture` (log-mel) a data URI,
    `outline` the path of its waveform in a box of 240 times 2 units around 0.
    """

    source: str
    outline: str
    picture: str
    seconds: float
    attention: str = ""  # the path of a network's attention over time, in the same box


@dataclass(frozen=True)
class RecordingCard:
    """A recording with its label, what was predicted with which probabilities, and what `others` said."""

    utterance: str
    label: str
    predicted: str
    speaker: str
    details: str
    probabilities: tuple[tuple[str, float], ...]
    others: tuple[str, ...]
    clip: SoundClip


Element = Paragraph | ReportTable | Figure | Collapsible | RecordingCard


@dataclass(frozen=True)
class Section:
    """A heading and the elements below it."""

    title: str
    elements: tuple[Element, ...]

    @property
    def anchor(self) -> str:
        """The name by which the page links to it."""
        return slug(self.title)


def iter_tables_and_figures(elements: tuple[Element, ...]) -> Iterator[ReportTable | Figure]:
    """All tables and figures, those inside of a `Collapsible` too."""
    for element in elements:
        if isinstance(element, Collapsible):
            yield from iter_tables_and_figures(element.elements)
        elif not isinstance(element, Paragraph | RecordingCard):
            yield element


def with_unique_names(sections: tuple[Section, ...]) -> tuple[Section, ...]:
    """The same with a number behind repeated names of tables and figures: files and anchors are named by them."""
    seen: Counter[str] = Counter()

    def renamed(element: Element) -> Element:
        if isinstance(element, Collapsible):
            return replace(element, elements=tuple(map(renamed, element.elements)))
        if isinstance(element, Paragraph | RecordingCard):
            return element
        key = f"{type(element).__name__} {element.name.lower()}"  # some file systems know no case
        seen[key] += 1
        return element if seen[key] == 1 else replace(element, name=f"{element.name}--{seen[key]}")

    return tuple(replace(section, elements=tuple(map(renamed, section.elements))) for section in sections)
