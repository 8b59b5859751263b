"""Which column of a table is which: names as people write them, and a clear refusal where none or two would do."""

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from emodarts.errors import EmodartsError

_CHOSEN_BY_USER = ("speaker", "label")  # where two columns would do, none is taken


@cache
def column_names() -> dict[str, list[str]]:
    """Our field -> the names that stand for it, the most telling first (`column_names.toml`)."""
    return tomllib.loads(files("emodarts.corpora.readers").joinpath("column_names.toml").read_text("utf-8"))


def match_columns(names: Sequence[str], where: str, set_columns: Mapping[str, str]) -> dict[str, str]:
    """Our field -> the table's column: as `corpus.columns` sets it, else guessed from the names.

    Raises EmodartsError where file, speaker or label have no column or several, or one that is set is not there.
    """
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(_plain(name), name)
    columns = {}
    for field, usual in column_names().items():
        fitting = [plain[name] for name in usual if name in plain]
        if len(fitting) > 1 and field in _CHOSEN_BY_USER and field not in set_columns:
            raise EmodartsError(
                f"{where}: {' and '.join(fitting)} could both be the {field}; say which with corpus.columns.{field}=..."
            )
        if field in set_columns or fitting:
            columns[field] = set_columns.get(field) or fitting[0]
    columns.update(_offset(plain, columns))
    if "label" not in columns and ("intended" in columns or "perceived" in columns):
        required: tuple[str, ...] = ("file", "speaker")
    else:
        required = ("file", "speaker", "label")
    _check({field: columns.get(field) for field in dict.fromkeys((*required, *columns))}, names, where)
    return columns


def _offset(plain: Mapping[str, str], columns: Mapping[str, str]) -> dict[str, str]:
    """`offset` ends what an onset begins, and begins what has a duration."""
    if "offset" not in plain or "end" in columns:
        return {}
    if "start" in columns:
        return {"end": plain["offset"]}
    return {"start": plain["offset"]} if "duration" in columns else {}


def _check(columns: Mapping[str, str | None], names: Sequence[str], where: str) -> None:
    """Raise EmodartsError for all fields without a column at once, and for columns that there are twice."""
    missing = {field: name for field, name in columns.items() if name not in names}
    if missing:
        faults = [f"no column {f'{name!r} ' if name else ''}for '{field}'" for field, name in missing.items()]
        faults[0] += f" among {', '.join(names) or 'none'}"
        faults += [
            f"names such as {', '.join(column_names()[f][:8])} are known for '{f}'"
            for f, n in missing.items()
            if n is None
        ]
        settings = " ".join(f"corpus.columns.{field}=..." for field in missing)
        raise EmodartsError(
            f"{where}: {'; '.join(faults)}; name it with {settings} (each behind --set for emodarts audit and features)"
        )
    for name in columns.values():
        if list(names).count(str(name)) > 1:
            raise EmodartsError(f"{where}: there are several columns '{name}'; rename all but one")


def _plain(name: str) -> str:
    """Lower case, no accents, underscores between words: `Speaker ID` and `speaker-id` are speaker_id."""
    letters = unicodedata.normalize("NFKD", name.casefold().strip())
    return re.sub(r"[^a-z0-9]+", "_", "".join(c for c in letters if not unicodedata.combining(c))).strip("_")
