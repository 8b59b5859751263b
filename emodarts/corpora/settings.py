"""Settings of the corpora room: which corpus, where it lies, how its words become classes."""

from dataclasses import dataclass, field

from emodarts.errors import EmodartsError


@dataclass(frozen=True)
class CorpusSettings:
    """One corpus. `root` None: `$EMODARTS_CORPORA/<name>`; `protocol` None: the corpus's default."""

    name: str = "demo"
    root: str | None = None
    protocol: str | None = None
    class_set: str = "four"  # four | full | a list such as "angry,sad"
    excited: str = "happy"  # happy | drop
    calm: str = "drop"  # drop | neutral
    source: str = "intended"  # intended | perceived
    table: str | None = None  # manifest: the CSV or Parquet file, relative to root
    columns: dict[str, str] = field(default_factory=dict)  # manifest: our name -> the table's column
    demo_seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("excited", ("happy", "drop")),
            ("calm", ("drop", "neutral")),
            ("source", ("intended", "perceived")),
        ):
            if getattr(self, name) not in choices:
                raise EmodartsError(f"corpus.{name}={getattr(self, name)}: choose one of {', '.join(choices)}")
        if self.demo_seed < 0:
            raise EmodartsError(f"corpus.demo_seed={self.demo_seed}: choose 0 or more")
        unknown = set(self.columns) - {"file", "speaker", "label", "gender", "session", "text", "split", "start", "end"}
        if unknown:
            raise EmodartsError(f"corpus.columns names unknown fields: {', '.join(sorted(unknown))}")
