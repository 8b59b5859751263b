"""The files of a compacted sweep: one of each table, one of all commits, and `compact.json`, which names them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa

from emodarts.errors import EmodartsError
from emodarts.results.commits import COMMIT_KEY, Commit
from emodarts.results.schemas import SCHEMA_VERSION, TABLES, check_version
from emodarts.storage import Storage

COMPACT_FILE = "compact.json"
FOLDER = "compact"
COMMITS = pa.schema([("commit", pa.string())])  # JSON, as in the header of a unit's file


@dataclass(frozen=True)
class CompactedFiles:
    """Paths relative to the results: `files` of each table, and `commits`."""

    files: dict[str, str]
    commits: str

    @classmethod
    def named(cls, sweep: str, token: str) -> "CompactedFiles":
        """The files of a compaction that is to be made; `token` is its own."""
        names = (*TABLES, "commits")
        paths = {name: f"{sweep}/{FOLDER}/{token}.{name}.parquet" for name in names}
        return cls(paths, paths.pop("commits"))

    @classmethod
    def load(cls, storage: Storage, sweep: str) -> "CompactedFiles | None":
        """None for a sweep that was never compacted. Raises EmodartsError for another version, or a damaged file."""
        path = f"{sweep}/{COMPACT_FILE}"
        try:
            content = json.loads(storage.read(path))
            check_version(content["schema_version"], storage.path(path))
            return cls(content["files"], content["commits"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise EmodartsError(f"{storage.path(path)} is damaged ({error!r}); restore it from a copy") from error

    def save(self, storage: Storage, sweep: str) -> None:
        """Write `compact.json`: from then on these files count."""
        content = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        storage.write(f"{sweep}/{COMPACT_FILE}", json.dumps(content, indent=1).encode())


def commits_table(commits: Iterable[Commit]) -> pa.Table:
    """Schema COMMITS."""
    return pa.table({"commit": [commit.header()[COMMIT_KEY] for commit in commits]}, COMMITS)


def commits_in(table: pa.Table, where: str) -> Iterator[Commit]:
    """The reverse of `commits_table`."""
    for text in table["commit"].to_pylist():
        yield Commit.of({COMMIT_KEY.encode(): text.encode()}, where)
