"""What a reader's file says of its corpus: everything that the other rooms need to know is in this one object."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.published_counts import Release
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance

Rows = Callable[[Path, CorpusSettings], Iterator[Utterance | Dropped]]
EVIDENCE = ("recordings", "file lists", "descriptions")  # by what a reader was checked, the best first
TRAP_FIGURES = ("speakers", "class_from_speaker", "class_from_text", "class_from_duration", "equal_recordings")


@dataclass(frozen=True)
class Trap:
    """What a corpus is known to mislead by, and what to do; `figure`: what of TRAP_FIGURES measures it in a copy."""

    subject: str
    fact: str
    advice: str
    figure: str = ""


@dataclass(frozen=True)
class CorpusDescription:
    """A corpus: the `CORPUS` of a reader's module, or what a grammar says.

    `rows` yields an `Utterance` or a `Dropped` for everything on disk. `words` maps the corpus's own words (lower
    case) to classes; two classes are special: `other` (a class only where it is asked for by name) and
    `no_agreement` (never a class). `rules` are the named protocols beside `speaker<k>`; `protocol` is the default's
    name, `sources` says where labels may come from, the default first. `open_words`: unknown words may be classes.
    """

    name: str
    title: str
    rows: Rows
    looked_for: str
    words: Mapping[str, str]
    protocol: str
    rules: Mapping[str, Rule] = field(default_factory=dict)
    sources: tuple[str, ...] = ("intended",)
    open_words: bool = False
    attribute_scale: str = ""  # of arousal, valence, dominance: "1 to 5"
    licence: str = ""
    language: str = ""
    citation: str = ""
    evidence: str = ""
    references: tuple[str, ...] = ()  # where names and counts were found
    notes: tuple[str, ...] = ()  # where these differ, and what was not found
    traps: tuple[Trap, ...] = ()
    releases: tuple[Release, ...] = ()  # published counts
