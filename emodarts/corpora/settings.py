"""Settings of the corpora room: which corpus, where it lies, how its words become classes."""

import re
from dataclasses import dataclass, replace
from pathlib import PurePath

from emodarts.errors import EmodartsError
from emodarts.settings import check_settings, setting

# What a table of the user's may say of an utterance.
COLUMNS = (
    *("file", "speaker", "label", "intended", "perceived", "gender", "session", "recording", "scenario", "text"),
    *("split", "start", "end", "duration", "arousal", "valence", "dominance"),
)

# What speaks of one corpus: class set and policies hold for several corpora.
SINGLE_CORPUS_SETTINGS = ("root", "protocol", "source", "scenario", "table", "columns")


def is_grammar_file(name: str) -> bool:
    """Whether a corpus is named by the file of its grammar."""
    return name.lower().endswith(".toml")


def short_name(name: str) -> str:
    """A corpus's name in ids and tables: that of a grammar's file without folder and suffix.

    Raises EmodartsError for a file whose name cannot be a corpus's.
    """
    if not is_grammar_file(name):
        return name
    stem = PurePath(name).stem
    if not re.fullmatch(r"[a-z][a-z0-9_]*", stem, re.ASCII):
        raise EmodartsError(f"{name}: a grammar's file is named after its corpus, by small letters, digits and _")
    return stem


@dataclass(frozen=True)
class CorpusSettings:
    """Which corpus, where it lies, how it is divided, and how its words become classes."""

    name: str = setting("demo", "the corpus; `emodarts corpora` lists them; or a grammar's file, path/to/mine.toml")
    root: str | None = setting(None, "folder, or a URI such as s3://...; null: `$EMODARTS_CORPORA/<name>`")
    protocol: str | None = setting(
        None, "how it is divided: iemocap/session5, short session5, or a CSV file with a split; null: its default"
    )
    class_set: str = setting(
        "four",
        "the classes; full: all that the corpus has; common: those that all corpora of a sweep have",
        allowed="four | full | common | a list such as angry,sad",
    )
    excited: str = setting("happy", "what excited utterances count as", choices=("happy", "drop"))
    calm: str = setting("drop", "what calm utterances count as", choices=("drop", "neutral"))
    source: str | None = setting(
        None,
        "whose labels: the actor's or the listeners'; null: the corpus's default",
        choices=("intended", "perceived"),
    )
    scenario: str | None = setting(None, "the only ones, such as improvised (IEMOCAP) or S,P (MSP-IMPROV); null: all")
    table: str | None = setting(None, "manifest: CSV, JSON lines or Parquet; audformat: one of several tables")
    exclude: str | None = setting(
        None, "a CSV file whose utterances never train, as `emodarts report --hard` writes it; dev and test keep theirs"
    )
    columns: dict[str, str] = setting({}, "manifest: columns of other names, such as columns.label=mood")
    demo_seed: int = setting(0, "seed of the synthetic corpus demo", at_least=0)

    def __post_init__(self) -> None:
        check_settings(self, "corpus")
        unknown = set(self.columns) - set(COLUMNS)
        if unknown:
            raise EmodartsError(
                f"corpus.columns names unknown fields: {', '.join(sorted(unknown))}; known are {', '.join(COLUMNS)}"
            )

    @property
    def short_name(self) -> str:
        """The corpus's name in ids and tables."""
        return short_name(self.name)

    def for_corpus(self, name: str, root: str | None) -> "CorpusSettings":
        """The settings of another corpus: class set and policies are these, all that speaks of one is its default."""
        defaults = CorpusSettings()
        own = {key: getattr(defaults, key) for key in SINGLE_CORPUS_SETTINGS}
        return replace(self, name=name, **{**own, "root": root})
