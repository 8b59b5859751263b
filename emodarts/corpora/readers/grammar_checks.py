"""The checks of a grammar's file when it is loaded: each refusal names the file and the line."""

import re
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any, NoReturn

from emodarts.corpora.description import EVIDENCE, TRAP_FIGURES
from emodarts.errors import EmodartsError

_TEXTS = ("title", "citation", "language", "licence", "evidence", "example", "recording", "speaker", "protocol")
# Key -> the type that it must have.
_KEYS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys((*_TEXTS, "utterance", "label"), str),
    **dict.fromkeys(("paths", "references", "notes", "drops", "tables", "traps", "release"), list),
    **dict.fromkeys(("misspelt", "codes", "words", "protocols", "published"), dict),
    "gender": (str, dict),
    "ignore_case": bool,
}
_NEEDED = ("title", "example", "paths", "words")
# Of each [[list]] and of each [protocols.<name>]: the needed keys, and further ones.
_ENTRIES = {
    "drops": ({"path", "reason"}, set()),
    "tables": ({"file", "key", "column", "gives"}, {"of", "codes", "words", "ties"}),
    "traps": ({"subject", "fact", "advice"}, {"figure"}),
    "protocols": ({"groups"}, {"dev", "last"}),
}
_CHOICES: dict[str, Collection[str]] = {
    "label": ("intended", "perceived"),
    "evidence": EVIDENCE,
    "figure": TRAP_FIGURES,
    "of": ("utterance", "speaker", "file"),
    "gives": ("speaker", "intended", "perceived", "gender", "text", "scenario", "session", "recording", "split"),
    "groups": ("each_speaker", "balanced", "dealt_by_gender", "id_ranges"),
    "dev": ("next", "next_woman_and_man", "random"),
}


@dataclass(frozen=True)
class GrammarFile:
    """A grammar's file: its `text`, and what it holds as `content`."""

    path: Path
    text: str
    content: Mapping[str, Any]

    def fail(self, message: str, *keys: str) -> NoReturn:
        """Raise EmodartsError with the line of the last of the nested keys (or words) that can be found."""
        lines, place = self.text.splitlines(), 0
        for key in keys:
            pattern = re.compile(rf"(?<![\w-]){re.escape(key)}[\"']?\s*[=\].]")
            matches = (n for n in range(place, len(lines)) if pattern.search(lines[n]))
            place = next(matches, next((n for n in range(place, len(lines)) if key in lines[n]), place))
        raise EmodartsError(f"{self.path}:{place + 1}: {message}")

    def check(self, groups: Collection[str]) -> None:
        """Raise EmodartsError for unknown or missing keys, patterns and tables that name what is not there."""
        self._check_keys(self.content, _KEYS, _NEEDED)
        for key, value in self.content.items():
            if not isinstance(value, _KEYS[key]):
                self.fail(f"{key} must be {_type_name(_KEYS[key])}", key)
        for name, (needed, further) in _ENTRIES.items():
            entries = self.content.get(name, [])
            for entry in entries.values() if isinstance(entries, dict) else entries:
                if not isinstance(entry, dict):
                    self.fail(f"{name} must have tables of {', '.join(sorted(needed))}", name)
                self._check_keys(entry, needed | further, needed, name)
        self._check_choice(self.content)
        self._check_paths(groups)
        self._check_codes()
        self._check_words()
        self._check_gender()
        self._check_protocol()

    def _check_keys(
        self, table: Mapping[str, Any], known: Collection[str], needed: Collection[str], *keys: str
    ) -> None:
        for key in table:
            if key not in known:
                self.fail(f"unknown key {key}; known are {', '.join(sorted(known))}", *keys, key)
        if missing := [key for key in sorted(needed) if key not in table]:
            self.fail(f"{', '.join(missing)} missing", *keys)
        self._check_choice(table)

    def _check_choice(self, table: Mapping[str, Any]) -> None:
        for key, value in table.items():
            if key in _CHOICES and value not in _CHOICES[key]:
                self.fail(f"{key} is '{value}', not {' or '.join(_CHOICES[key])}", key)

    @cached_property
    def _patterns(self) -> list[tuple[str, re.Pattern[str]]]:
        paths = [*self.content["paths"], *(drop["path"] for drop in self.content.get("drops", ()))]
        compiled = []
        for path in paths:
            try:
                compiled.append((path, re.compile(path, re.ASCII)))
            except (re.error, TypeError) as error:
                self.fail(f"{path} is no pattern: {error}", str(path))
        return compiled

    @cached_property
    def _groups(self) -> Set[str]:
        """Groups that any path has."""
        return {group for _, pattern in self._patterns for group in pattern.groupindex}

    def _check_paths(self, groups: Collection[str]) -> None:
        if not self.content["paths"]:
            self.fail("paths must have a pattern at least", "paths")
        for path, pattern in self._patterns:
            if unknown := sorted(set(pattern.groupindex) - set(groups)):
                self.fail(f"unknown group {unknown[0]}; known are {', '.join(groups)}", path)
        template = self.content.get("utterance", "{stem}")
        try:
            fields = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        except ValueError as error:
            self.fail(f"utterance '{template}': {error}", "utterance")
        for path, pattern in self._patterns[: len(self.content["paths"])]:
            if missing := sorted(fields - {"stem", *pattern.groupindex}):
                self.fail(f"utterance names {{{missing[0]}}}, and {path} has no such group", "utterance")

    def _check_codes(self) -> None:
        if not all(isinstance(name, str) for name in self.content.get("misspelt", {}).values()):
            self.fail("misspelt must map names to names", "misspelt")
        for group, codes in self.content.get("codes", {}).items():
            if group not in self._groups:
                self.fail(f"codes of a group {group} that no path has", "codes", group)
            if not isinstance(codes, dict) or not all(isinstance(value, str) for value in codes.values()):
                self.fail(f"codes.{group} must map codes to texts", "codes", group)
        if unknown := set(self.content.get("codes", {}).get("gender", {}).values()) - {"female", "male"}:
            self.fail(f"gender is '{min(unknown)}', not female or male", "codes", "gender")

    def _check_words(self) -> None:
        """Every word that a path or a code may give has a class."""
        words = {word.lower() for word in self.content["words"]}
        for table in self.content.get("tables", ()):
            words |= {word.lower() for word in table.get("words", ())}
        if wrong := [word for word, to in self.content["words"].items() if not isinstance(to, str) or not to]:
            self.fail(f"the word {wrong[0]} needs a class, a text", "words", wrong[0])
        codes = self.content.get("codes", {}).get("emotion", {})
        for code, word in codes.items():
            if word.lower() not in words:
                self.fail(f"the word '{word}' has no class in [words]", "codes", "emotion", code)
        for path, _ in self._patterns:
            listed = re.search(r"\(\?P<emotion>([\w|-]+)\)", path)  # a plain list of codes
            for code in listed[1].split("|") if listed else ():
                if codes.get(code, code).lower() not in words:
                    self.fail(f"the word '{codes.get(code, code)}' has no class in [words]", path)

    def _check_gender(self) -> None:
        gender = self.content.get("gender", "female")
        values = {gender} if isinstance(gender, str) else set(gender.values()) if "odd" in gender else set(gender)
        keys = {"odd", "even"} if isinstance(gender, dict) and "odd" in gender else values
        if not values <= {"female", "male"} or (isinstance(gender, dict) and set(gender) != keys):
            self.fail(
                "gender must be female, male, or a table of odd and even, or of female and male speakers", "gender"
            )

    def _check_protocol(self) -> None:
        protocols, default = self.content.get("protocols", {}), self.content.get("protocol", "speaker<k>")
        if default not in protocols and not re.fullmatch(r"speaker(<k>|[1-9]\d*)", default):
            self.fail(f"protocol {default} is neither in [protocols] nor speaker<k>", "protocol")
        for name, about in protocols.items():
            if (about.get("dev") == "random") != name.endswith("-random-dev"):
                self.fail(f"the name of {name} must end in -random-dev where dev is random, and only there", name)
            if about["groups"] == "id_ranges" and not about.get("last"):
                self.fail(f"{name} needs the last speaker of each of its ranges: last = [...]", name)
            if about["groups"] in ("balanced", "dealt_by_gender") and not re.match(r"speaker[1-9]", name):
                self.fail(f"the name of {name} must have the number of groups: speaker5", name)


def _type_name(kind: type | tuple[type, ...]) -> str:
    names = {str: "a text", list: "a list", dict: "a table", bool: "true or false"}
    return " or ".join(names[k] for k in (kind if isinstance(kind, tuple) else (kind,)))
