"""Grammars: corpora whose file names say everything, as data. `grammars/*.toml` are the project's, others are a user's.

docs/corpora.md says what the keys mean. A file is checked when it is loaded: whatever it names must be there.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from emodarts.corpora.description import CorpusDescription, Trap
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.published_counts import Release, parse_published
from emodarts.corpora.readers.grammar_checks import GrammarFile
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance, drop_copies, files_below, is_hidden, rows_of_files
from emodarts.corpora.table_files import read_records
from emodarts.errors import EmodartsError

_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")  # ASCII alone: no look-alikes
# Groups of a path that become columns; `take` only tells utterances apart.
_COLUMNS = ("text", "scenario", "session", "recording", "split")
GROUPS = ("speaker", "emotion", "gender", "take", *_COLUMNS)


@dataclass(frozen=True)
class _PathPattern:
    """The end of a path without suffix: as many folders as the pattern has slashes. `reason`: why it is dropped."""

    pattern: re.Pattern[str]
    reason: str | None = None

    def match(self, folders: list[str], name: str) -> re.Match[str] | None:
        depth = self.pattern.pattern.count("/")
        return self.pattern.fullmatch("/".join([*folders[len(folders) - depth :], name]))


@dataclass(frozen=True)
class _SideTable:
    """A table beside the audio: `column` of the row whose `key` is the `of` of an utterance gives it a field."""

    file: str
    key: str
    column: str
    gives: str
    of: str = "utterance"
    codes: Mapping[str, str] = field(default_factory=dict)  # all that the column may hold, where there are any
    words: Mapping[str, str] = field(default_factory=dict)
    ties: str = ""  # between words of equal votes, which are no agreement

    def read(self, root: Path) -> dict[str, str]:
        """Key -> value of the first such table below root; empty where there is none.

        Raises EmodartsError with file and line for a table that is not as published, or that contradicts itself.
        """
        tables = files_below(root, lambda name: name == self.file)
        path = next((p for p in tables if not is_hidden(p.relative_to(root).as_posix())), None)
        if path is None:
            return {}
        table = read_records(path)
        if not {self.key, self.column} <= set(table.columns):
            pointer = " (a git-LFS pointer: git lfs pull)" if "git-lfs" in "".join(table.columns) else ""
            raise EmodartsError(f"{path}: no columns {self.key} and {self.column}{pointer}; restore or remove the file")
        values: dict[str, str] = {}
        for row in table.rows:
            name, cell = ((row.cells.get(column) or "").strip() for column in (self.key, self.column))
            where = f"{path.parent}/{row.where}"
            if self.codes and cell not in self.codes:
                raise EmodartsError(f"{where}: {self.column} is '{cell}', not {' or '.join(self.codes)}")
            if values.setdefault(name, cell) != cell:
                raise EmodartsError(f"{where}: {name} stands there twice, as {self.column} {cell} too")
        return {name: self.codes.get(cell, cell) for name, cell in values.items()}

    def class_words(self) -> dict[str, str]:
        """The words of the column, and all ties between them."""
        sizes = range(2, len(self.words) + 1) if self.ties else ()
        ties = (self.ties.join(tie) for size in sizes for tie in combinations(sorted(self.words), size))
        return {**self.words, **dict.fromkeys(ties, "no_agreement")}


@dataclass(frozen=True)
class Grammar:
    """What a file name says. `gender`: of all, by speaker, or by `odd` and `even` speakers."""

    name: str
    recording: str
    paths: tuple[_PathPattern, ...]
    codes: Mapping[str, Mapping[str, str]]
    words: Mapping[str, str]
    gender: str | Mapping[str, Any] | None
    utterance: str
    label: str
    misspelt: Mapping[str, str]
    ignore_case: bool
    speaker: str | None
    tables: tuple[_SideTable, ...]

    def rows(self, root: Path, settings: CorpusSettings) -> Iterator[Utterance | Dropped]:
        """A row or a drop for every audio file below root; one file an utterance."""
        tables = [(table, table.read(root)) for table in self.tables]
        return drop_copies(root, rows_of_files(root, lambda file, path: self.read_name(file, path, tables)))

    def read_name(
        self, file: Path, path: str, tables: list[tuple[_SideTable, dict[str, str]]] | None = None
    ) -> Utterance | str:
        """The utterance of a file, whose `path` is relative to the root, or the reason why it is none."""
        *folders, name = (part.translate(_LOWER) if self.ignore_case else part for part in file.with_suffix("").parts)
        name = self.misspelt.get(name, name)
        matches = ((pattern.reason, pattern.match(folders, name)) for pattern in self.paths)
        reason, match = next((pair for pair in matches if pair[1]), (None, None))
        if match is None or reason:
            return reason or f"the name is not that of {self.recording}"
        groups = {group: self._decode(group, code) for group, code in match.groupdict().items() if code is not None}
        word, speaker = groups.get("emotion"), groups.get("speaker", self.speaker)
        if word is not None and word.lower() not in self.words:
            return f"its emotion '{word}' has no class in the grammar of {self.name}"
        utterance = self.utterance.format(**{"stem": name, **dict.fromkeys(match.groupdict(), ""), **groups})
        fields: dict[str, Any] = {column: groups.get(column) for column in _COLUMNS} | {self.label: word}
        fields["gender"] = groups.get("gender") or self._gender(speaker)
        keys = {"utterance": (utterance,), "speaker": (speaker,), "file": (file.name, file.stem)}
        for table, values in tables or ():
            present = (key for key in keys[table.of] if key in values)
            fields[table.gives] = values.get(next(present, "")) or fields.get(table.gives)
        speaker = fields.pop("speaker", speaker)
        return Utterance(f"{self.name}/{utterance}", path, speaker and f"{self.name}/{speaker}", **fields)

    def _decode(self, group: str, code: str) -> str:
        return self.codes.get(group, {}).get(code, code)

    def _gender(self, speaker: str | None) -> str | None:
        if speaker is None or not isinstance(self.gender, dict):
            return self.gender if isinstance(self.gender, str) else None
        if "odd" in self.gender:
            return self.gender["even" if speaker[-1] in "02468" else "odd"] if speaker[-1:].isdigit() else None
        return next((gender for gender, speakers in self.gender.items() if speaker in speakers), None)


def load_grammar(path: Path, name: str) -> CorpusDescription:
    """The corpus that a file describes. Raises EmodartsError, with file and line, for one that cannot be right."""
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EmodartsError(f"{path}: {error}") from error
    file = GrammarFile(path, text, content)
    file.check(GROUPS)
    tables = tuple(_SideTable(**table) for table in content.get("tables", ()))
    words = content["words"] | {word: to for table in tables for word, to in table.class_words().items()}
    lower = {word.lower(): to for word, to in words.items()}
    paths = [(path, None) for path in content["paths"]]
    paths += [(drop["path"], drop["reason"]) for drop in content.get("drops", ())]
    label = content.get("label", "intended")
    grammar = Grammar(
        name=name,
        recording=content.get("recording", f"a recording of {content['title']} (such as {content['example']})"),
        paths=tuple(_PathPattern(re.compile(path, re.ASCII), reason) for path, reason in paths),
        codes=content.get("codes", {}),
        words=lower,
        gender=content.get("gender"),
        utterance=content.get("utterance", "{stem}"),
        label=label,
        misspelt=content.get("misspelt", {}),
        ignore_case=content.get("ignore_case", False),
        speaker=content.get("speaker"),
        tables=tables,
    )
    releases: tuple[Release, ...] = parse_published(name, content, str(path))
    return CorpusDescription(
        name=name,
        title=content["title"],
        rows=grammar.rows,
        looked_for=f"audio files such as {content['example']}",
        words=lower,
        protocol=content.get("protocol", "speaker<k>"),
        rules={rule: _rule(name, rule, file) for rule in content.get("protocols", {})},
        sources=tuple(dict.fromkeys([label, *(t.gives for t in tables if t.gives in ("intended", "perceived"))])),
        licence=content.get("licence", ""),
        language=content.get("language", ""),
        citation=content.get("citation", ""),
        evidence=content.get("evidence", ""),
        references=tuple(content.get("references", ())),
        notes=tuple(content.get("notes", ())),
        traps=tuple(Trap(**trap) for trap in content.get("traps", ())),
        releases=releases,
    )


_PROTOCOL_GROUPS: Mapping[str, Callable[[int, list[str]], rules.Groups]] = {
    "each_speaker": lambda k, last: rules.each_speaker,
    "balanced": lambda k, last: rules.balanced(k),
    "dealt_by_gender": lambda k, last: rules.dealt_by_gender(k),
    "id_ranges": lambda k, last: rules.id_ranges(last),
}


def _rule(corpus: str, name: str, file: GrammarFile) -> Rule:
    """The rule of `[protocols.<name>]`; the number in its name says how many groups there are."""
    about = file.content["protocols"][name]
    number = re.match(r"speaker(\d+)", name)
    last = [f"{corpus}/{speaker}" for speaker in about.get("last", ())]
    groups = _PROTOCOL_GROUPS[about["groups"]](int(number[1]) if number else 0, last)
    dev = about.get("dev", "next")
    divide = rules.by_speaker(groups, rules.next_woman_and_man if dev == "next_woman_and_man" else None)
    if dev == "random":
        return Rule(rules.with_random_dev(divide), rules.SHARED_DEV)
    return Rule(divide)
