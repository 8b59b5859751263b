"""What a reader's file says of its corpus: everything that the other rooms need to know is in this one object."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance, drop_copies, rows_of_files

Rows = Callable[[Path, CorpusSettings], Iterator[Utterance | Dropped]]


@dataclass(frozen=True)
class CorpusDescription:
    """A corpus. A reader's module has one of these under the name `CORPUS`.

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


def rows_by_name(read_name: Callable[[Path, str], Utterance | str]) -> Rows:
    """`CorpusDescription.rows` of a corpus whose file names say everything, of which copies are dropped.

    `read_name(file, path)` gives the utterance of a file, or the reason why it is none; `path` is relative to the root.
    """
    return lambda root, settings: drop_copies(root, rows_of_files(root, read_name))
