"""Settings of the corpora room: which corpus, where it lies, how its words become classes."""

from dataclasses import dataclass, field, replace

from emodarts.errors import EmodartsError

# What a table of the user's may say of an utterance.
COLUMNS = (
    *("file", "speaker", "label", "intended", "perceived", "gender", "session", "recording", "scenario", "text"),
    *("split", "start", "end", "duration", "arousal", "valence", "dominance"),
)

# What speaks of one corpus: beside it, class set and policies hold for others too.
SINGLE_CORPUS_SETTINGS = ("root", "protocol", "source", "scenario", "table", "columns")


@dataclass(frozen=True)
class CorpusSettings:
    """One corpus. `root` None: `$EMODARTS_CORPORA/<name>`; `protocol` and `source` None: the corpus's default.

    `protocol` is a name (`iemocap/session5`, or short `session5`) or the path of a CSV file with a user-made split.
    """

    name: str = "demo"
    root: str | None = None
    protocol: str | None = None
    class_set: str = "four"  # four | full | a list such as "angry,sad"
    excited: str = "happy"  # happy | drop
    calm: str = "drop"  # drop | neutral
    source: str | None = None  # intended | perceived
    scenario: str | None = None  # these alone, such as "improvised" (IEMOCAP) or "S,P" (MSP-IMPROV); None: all
    table: str | None = None  # manifest: CSV, JSON lines or Parquet; audformat: one of several tables
    columns: dict[str, str] = field(default_factory=dict)  # manifest: our name -> the table's column
    demo_seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("excited", ("happy", "drop")),
            ("calm", ("drop", "neutral")),
            ("source", (None, "intended", "perceived")),
        ):
            if getattr(self, name) not in choices:
                allowed = ", ".join(choice for choice in choices if choice)
                raise EmodartsError(f"corpus.{name}={getattr(self, name)}: choose one of {allowed}")
        if self.demo_seed < 0:
            raise EmodartsError(f"corpus.demo_seed={self.demo_seed}: choose 0 or more")
        unknown = set(self.columns) - set(COLUMNS)
        if unknown:
            raise EmodartsError(
                f"corpus.columns names unknown fields: {', '.join(sorted(unknown))}; known are {', '.join(COLUMNS)}"
            )

    def for_corpus(self, name: str, root: str | None) -> "CorpusSettings":
        """The settings of another corpus: class set and policies are these, all that speaks of one is its default."""
        defaults = CorpusSettings()
        return replace(
            self, name=name, **{**{key: getattr(defaults, key) for key in SINGLE_CORPUS_SETTINGS}, "root": root}
        )
