"""Protocols: named, hashed folds whose test speakers stand in no other role."""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from emodarts.corpora.labels import Labels
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.exclusions import MARK, exclude_from_training
from emodarts.corpora.protocols.rules import Division, LabelledUtterance, Rule
from emodarts.corpora.protocols.splits import read_split
from emodarts.corpora.readers import describe
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError

V = TypeVar("V")
# What a protocol's id must end with for a fold to be allowed this protocol_caveat.
_SUFFIXES = {rules.SHARED_DEV: "-random-dev", rules.NO_DEV: "-no-dev"}


@dataclass(frozen=True)
class Fold:
    """One fold: utterance ids by role (`tests`: test set -> ids), labels, speakers (None: unknown) and groups.

    A group is the speaker, or the recording where the speaker is unknown. The hash covers ids, labels and roles.
    `left_out` says of each labelled utterance in no role why; `protocol_caveat` what the protocol's id admits.
    """

    protocol: str
    index: int
    train: tuple[str, ...]
    dev: tuple[str, ...]
    tests: dict[str, tuple[str, ...]]
    labels: dict[str, str]
    classes: tuple[str, ...]
    speakers: dict[str, str | None]
    groups: dict[str, str]
    hash: str
    protocol_caveat: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def test_ids(self) -> tuple[str, ...]:
        """The utterances of all test sets."""
        return tuple(utterance for ids in self.tests.values() for utterance in ids)

    @property
    def roles(self) -> dict[str, str]:
        """The role (train, dev, test) of each utterance."""
        parts = {"train": self.train, "dev": self.dev, "test": self.test_ids}
        return {utterance: role for role, ids in parts.items() for utterance in ids}


def make_folds(settings: CorpusSettings, utterances: pa.Table, labels: Labels) -> tuple[Fold, ...]:
    """The folds of `settings.protocol` (None: the corpus's default) over utterances of schema UTTERANCES.

    A protocol is one of the corpus's own (`protocol_names`), `<corpus>/speaker<k>`, or the path of a CSV file with a
    user-made split. Unlabelled utterances stand in tests alone, where the protocol says so.
    Raises EmodartsError for a protocol that does not fit, and whatever `check_fold` finds.
    """
    candidates = _candidates(utterances, labels)
    name, rule = _rule(settings, candidates)
    for setting, value in rule.requires.items():
        if getattr(settings, setting) != value:
            raise EmodartsError(
                f"protocol {name} is defined for corpus.{setting}={value}, "
                f"not {getattr(settings, setting)}: set corpus.{setting}={value}, or take another protocol"
            )
    groups = {
        c.utterance: c.speaker or f"{settings.short_name}/unknown/{c.recording or c.utterance}" for c in candidates
    }
    speakers = {c.utterance: c.speaker for c in candidates}
    divisions, suffix = rule.divide(settings.short_name, candidates), ""
    for division in divisions:
        rules.keep_unknown_apart(candidates, division, rule.keeps_train)
        if rule.parts_recordings:
            rules.keep_recordings_apart(candidates, division)
    if settings.exclude is not None:
        excluded = Path(settings.exclude).expanduser()
        suffix = exclude_from_training(excluded, settings.name, candidates, divisions)
    if not name.lower().endswith(".csv"):
        others = protocol_names(
            settings.name, len({c.speaker for c in candidates if c.speaker and c.label is not None})
        )
        _refuse_empty(name, divisions, rule, [other for other in others if other != name])
    return tuple(
        _fold(f"{name}{suffix}", index, division, rule.protocol_caveat, labels, speakers, groups)
        for index, division in enumerate(divisions)
    )


def _refuse_empty(name: str, divisions: Sequence[Division], rule: Rule, fitting: Sequence[str]) -> None:
    """Raise EmodartsError where a role of a fold is empty: the copy lacks speakers, sessions or a split."""
    for index, division in enumerate(divisions):
        roles = {"train": division.train, "dev": division.dev or rule.protocol_caveat == rules.NO_DEV}
        tests = {f"test set {test}": ids for test, ids in division.tests.items()} or {"test": []}
        empty = [role for role, ids in {**roles, **tests}.items() if not ids]
        if empty:
            raise EmodartsError(
                f"{name} fold {index}: the {empty[0]} part is empty: the copy has no speaker, session or split with "
                f"labels for it; complete the copy, or choose another protocol: {', '.join([*fitting, 'a CSV file'])}"
            )


def protocol_names(corpus: str, speakers: int | None = None) -> tuple[str, ...]:
    """The names of the protocols that a corpus has, the default first."""
    description = describe(corpus)
    corpus = description.name
    named = [f"{corpus}/{name}" for name in (description.protocol, *description.rules) if name != "speaker<k>"]
    if speakers is None or speakers >= 3:
        most = "the number of speakers" if speakers is None else speakers
        named.append(f"{corpus}/speaker<k> with k from 3 to {most}")
    return tuple(dict.fromkeys(named))


def protocol_name(settings: CorpusSettings) -> str:
    """The protocol's name as results have it, before the corpus is read (`speaker<k>` without a number stays so)."""
    named = settings.protocol or describe(settings.name).protocol
    if named.lower().endswith(".csv"):
        return f"{settings.short_name}/{Path(named).name}"
    short = named.removeprefix(f"{settings.short_name}/")
    return f"{settings.short_name}/{f'{short}-no-dev' if f'{short}-no-dev' in describe(settings.name).rules else short}"


def _candidates(utterances: pa.Table, labels: Labels) -> list[LabelledUtterance]:
    names = ("utterance", "speaker", "session", "gender", "recording", "scenario", "split")
    columns = (utterances[name].to_pylist() for name in names)
    return [
        LabelledUtterance(row[0], labels.by_utterance.get(row[0]), *row[1:])
        for row in sorted(zip(*columns, strict=True))
        if row[0] in labels.by_utterance or row[0] in labels.unlabelled
    ]


def _rule(settings: CorpusSettings, candidates: Sequence[LabelledUtterance]) -> tuple[str, Rule]:
    """The full name and the rule of a protocol."""
    corpus, description = settings.short_name, describe(settings.name)
    speakers = rules.known_speakers(candidates)
    name = protocol_name(settings)
    if name.lower().endswith(".csv"):
        return name, Rule(read_split(Path(settings.protocol or "").expanduser()))
    short = name.removeprefix(f"{corpus}/")
    if short in description.rules:
        return name, description.rules[short]
    match = re.fullmatch(r"speaker([1-9]\d*|<k>)", short)
    if match and len(speakers) < 3:
        raise EmodartsError(
            f"{corpus}: {len(speakers)} known speaker(s), but train, dev and test need one each: at least 3"
        )
    k = min(5, len(speakers)) if match and match[1] == "<k>" else int(match[1]) if match else 0
    if not 3 <= k <= len(speakers):
        raise EmodartsError(
            f"protocol '{settings.protocol}' does not fit {corpus}: choose one of "
            f"{', '.join(protocol_names(settings.name, len(speakers)))}, or a CSV file of utterance, role[, fold]"
        )
    groups = rules.each_speaker if k == len(speakers) else rules.balanced(k)
    parts_recordings = any(rule.parts_recordings for rule in description.rules.values())
    return f"{corpus}/speaker{k}", Rule(rules.by_speaker(groups), parts_recordings=parts_recordings)


def _fold(
    protocol: str,
    index: int,
    division: Division,
    protocol_caveat: str | None,
    labels: Labels,
    speakers: Mapping[str, str | None],
    groups: Mapping[str, str],
) -> Fold:
    tests = {name: tuple(sorted(ids)) for name, ids in division.tests.items()}
    ids = sorted({*division.train, *division.dev, *(u for test in tests.values() for u in test)})
    return _checked(
        Fold(
            protocol,
            index,
            train=tuple(sorted(division.train)),
            dev=tuple(sorted(division.dev)),
            tests=tests,
            labels={u: labels.by_utterance[u] for u in ids if u in labels.by_utterance},
            classes=labels.classes,
            speakers={u: speakers[u] for u in ids},
            groups={u: groups[u] for u in ids},
            hash="",
            protocol_caveat=protocol_caveat,
            left_out=dict(sorted(division.left_out.items())),
        )
    )


def _checked(fold: Fold) -> Fold:
    """The fold with its hash. Raises what `check_fold` finds."""
    check_fold(fold)
    return replace(fold, hash=fold_hash(fold.train, fold.dev, fold.tests, fold.labels, fold.classes))


def join_folds(parts: Mapping[str, Sequence[Fold]]) -> tuple[Fold, ...]:
    """The protocol `<a>+<b>/joined`: fold i joins fold i mod k of each corpus; the test sets stay apart.

    The name has the corpora in the order given. Raises EmodartsError for fewer than two corpora, corpora with different
    classes, and one without dev part.
    """
    if len(parts) < 2:
        raise EmodartsError(f"a joined protocol needs two corpora or more, not {', '.join(parts) or 'none'}")
    without = [name for name, folds in parts.items() if folds[0].protocol_caveat == rules.NO_DEV]
    if without:
        raise EmodartsError(f"{', '.join(without)}: a protocol without dev part cannot be joined")
    classes = {name: folds[0].classes for name, folds in parts.items()}
    if len(set(classes.values())) > 1:
        listed = "; ".join(f"{name}: {', '.join(names)}" for name, names in classes.items())
        common = sorted(set.intersection(*map(set, classes.values())))
        hint = (
            f"corpus.class_set='{','.join(common)}'" if len(common) > 1 else "corpus.class_set to classes that all have"
        )
        raise EmodartsError(f"corpora with different classes cannot be joined ({listed}): set {hint}")
    count = max(len(folds) for folds in parts.values())
    excluded = [folds[0].protocol.partition(MARK)[2] for folds in parts.values()]
    name = f"{'+'.join(parts)}/joined{''.join(f'{MARK}{mark}' for mark in excluded if mark)}"
    return tuple(_joined(name, i, [folds[i % len(folds)] for folds in parts.values()]) for i in range(count))


def _joined(name: str, index: int, folds: Sequence[Fold]) -> Fold:
    """One fold of several corpora's."""
    caveat = next((fold.protocol_caveat for fold in folds if fold.protocol_caveat), None)
    return _checked(
        Fold(
            f"{name}{_SUFFIXES[caveat] if caveat else ''}",
            index,
            train=tuple(sorted(u for fold in folds for u in fold.train)),
            dev=tuple(sorted(u for fold in folds for u in fold.dev)),
            tests=_union(fold.tests for fold in folds),
            labels=_union(fold.labels for fold in folds),
            classes=folds[0].classes,
            speakers=_union(fold.speakers for fold in folds),
            groups=_union(fold.groups for fold in folds),
            hash="",
            protocol_caveat=caveat,
            left_out=_union(fold.left_out for fold in folds),
        )
    )


def _union(mappings: Iterable[Mapping[str, V]]) -> dict[str, V]:
    return {key: value for mapping in mappings for key, value in mapping.items()}


def folds_of_corpora(parts: Mapping[str, Sequence[Fold]]) -> tuple[Fold, ...]:
    """The folds of a training on these corpora: those of one as they are, of several joined. Raises as `join_folds`."""
    return join_folds(parts) if len(parts) > 1 else tuple(next(iter(parts.values())))


def check_not_trained_on(folds: Sequence[Fold], corpus: str) -> None:
    """Raise EmodartsError where a corpus that was to be a further test stands in the training of these folds."""
    if any(u.startswith(f"{corpus}/") for fold in folds for u in (*fold.train, *fold.dev)):
        raise EmodartsError(
            f"{corpus} trains here ({folds[0].protocol}), so it cannot be a further test: leave it out of extra_tests"
        )


def check_fold(fold: Fold) -> None:
    """Refuse a fold that leaks or cannot be learnt from.

    Raises EmodartsError for an utterance listed twice, a speaker (or recording of an unknown one) in two roles, an
    empty role or test set, an utterance without group or (in train and dev) declared class, a class with fewer than
    2 utterances in train. A dev part that shares speakers with train, or no dev part, pass only where the protocol's
    id says so (`-random-dev`, `-no-dev`).
    """
    where = f"{fold.protocol} fold {fold.index}"
    if fold.protocol_caveat is not None and _SUFFIXES[fold.protocol_caveat] not in fold.protocol:
        suffix = _SUFFIXES[fold.protocol_caveat]
        raise EmodartsError(f"{where}: {fold.protocol_caveat}, but the protocol's name does not say {suffix}")
    sets = {"train": fold.train, "dev": fold.dev, **{f"test set {name}": ids for name, ids in fold.tests.items()}}
    for name, part in {**sets, "test": fold.test_ids}.items():
        if not part and not (name == "dev" and fold.protocol_caveat == rules.NO_DEV):
            raise EmodartsError(f"{where}: the {name} part is empty; choose another protocol or split")
    roles = {"train": fold.train, "dev": fold.dev, "test": fold.test_ids}
    for first, second in combinations(roles, 2):
        if (first, second) == ("train", "dev") and fold.protocol_caveat == rules.SHARED_DEV:
            continue
        shared = _owners(fold, roles[first]) & _owners(fold, roles[second])
        if shared:
            raise EmodartsError(
                f"{where}: speaker {min(shared)} stands in {first} and in {second}; a fold must not share any: "
                "correct the speaker, or leave one side out by a CSV split"
            )
        alike = _alike(fold, roles[first], roles[second])
        if alike:
            raise EmodartsError(
                f"{where}: speaker {alike[0]!r} stands in {first} and {alike[1]!r} in {second}: if that is one person, "
                "spell it one way; else rename one, so that they differ by more than case, blanks or leading zeros"
            )
    _check_utterances(fold, where, sets)
    counts = Counter(fold.labels[u] for u in fold.train)
    few = [name for name in fold.classes if counts[name] < 2]
    if few:
        rest = ",".join(name for name in fold.classes if name not in few)
        raise EmodartsError(
            f"{where}: class '{few[0]}' has {counts[few[0]]} utterance(s) in the train part, at least 2 are needed; "
            f"leave it out with corpus.class_set='{rest}'"
        )


def _owners(fold: Fold, ids: Sequence[str]) -> set[str]:
    """Who must not stand in another role: the speakers, and the groups too where someone grouped otherwise."""
    known = {speaker for u in ids if (speaker := fold.speakers.get(u)) is not None}
    return known | {fold.groups[u] for u in ids if u in fold.groups}


def _alike(fold: Fold, first: Sequence[str], second: Sequence[str]) -> tuple[str, str] | None:
    """Two different speakers, one of each part, whose names differ so little that they may be one person."""
    named = [{s for u in ids if (s := fold.speakers.get(u)) is not None} for ids in (first, second)]
    plain = {_plain(speaker): speaker for speaker in sorted(named[0])}
    pairs = ((plain[_plain(speaker)], speaker) for speaker in sorted(named[1]) if _plain(speaker) in plain)
    return next((pair for pair in pairs if pair[0] != pair[1]), None)


def _plain(speaker: str) -> str:
    """A name without case, blanks, invisible letters and leading zeros of numbers."""
    letters = unicodedata.normalize("NFKC", speaker).casefold()
    shown = "".join(c for c in letters if unicodedata.category(c) not in ("Cf", "Zs", "Cc"))
    return re.sub(r"(?<!\d)0+(?=\d)", "", shown)


def _check_utterances(fold: Fold, where: str, sets: dict[str, tuple[str, ...]]) -> None:
    role_of: dict[str, str] = {}
    for role, ids in sets.items():
        for utterance in ids:
            if utterance in role_of:
                raise EmodartsError(f"{where}: utterance {utterance} stands in {role_of[utterance]} and in {role}")
            role_of[utterance] = role
            if utterance not in fold.groups:
                raise EmodartsError(f"{where}: utterance {utterance} has neither speaker nor group; leaks stay unseen")
            if role in ("train", "dev") and fold.labels.get(utterance) not in fold.classes:
                label = fold.labels.get(utterance)
                raise EmodartsError(f"{where}: utterance {utterance} in {role} has no declared class (label: {label})")


def fold_hash(
    train: Sequence[str],
    dev: Sequence[str],
    tests: Mapping[str, Sequence[str]],
    labels: Mapping[str, str],
    classes: Sequence[str],
) -> str:
    """16 hex digits of a SHA-256 over roles, ids, labels and classes; the order of ids does not count."""
    content = {
        "train": sorted((u, labels.get(u)) for u in train),
        "dev": sorted((u, labels.get(u)) for u in dev),
        "tests": {name: sorted((u, labels.get(u)) for u in ids) for name, ids in tests.items()},
        "classes": sorted(classes),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
