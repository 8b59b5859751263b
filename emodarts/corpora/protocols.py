"""Protocols: named, hashed folds whose test speakers stand in no other role."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from emodarts.corpora.labels import Labels
from emodarts.errors import EmodartsError

_DEFAULTS = {"emodb": 10, "ravdess": 6, "demo": 4}


@dataclass(frozen=True)
class Fold:
    """One fold: utterance ids by role (`tests`: test set -> ids), labels, speakers (None: unknown) and groups.

    A group is the speaker, or the recording where the speaker is unknown. The hash covers ids, labels and roles.
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


def make(corpus: str, utterances: pa.Table, labels: Labels, protocol: str | None = None) -> tuple[Fold, ...]:
    """The folds of `<corpus>/speaker<k>` over the labelled utterances; without a name, the corpus's default.

    k speaker groups take turns as test part, the next group is dev, the rest trains; unknown speakers only train.
    Raises EmodartsError for a protocol that does not fit, and whatever `check` finds.
    """
    rows = [row for row in utterances.to_pylist() if row["utterance"] in labels.by_utterance]
    speakers = {row["utterance"]: row["speaker"] for row in rows}
    groups = {
        row["utterance"]: row["speaker"] or f"{corpus}/unknown/{row['recording'] or row['utterance']}" for row in rows
    }
    genders = {row["speaker"]: row["gender"] for row in rows if row["speaker"]}
    name = _name(corpus, protocol, len(genders))
    k = int(name.rsplit("speaker", 1)[1])
    sizes = Counter(speaker for speaker in speakers.values() if speaker)
    parts = _speaker_groups(corpus, k, genders, sizes)
    folds = []
    for index, (test, dev) in enumerate(_test_and_dev(corpus, parts, genders)):
        roles: dict[str, list[str]] = {"test": [], "dev": [], "train": []}
        for utterance in sorted(speakers):
            speaker = speakers[utterance]
            roles["test" if speaker in test else "dev" if speaker in dev else "train"].append(utterance)
        folds.append(_fold(name, index, roles, f"{corpus}/test", labels, speakers, groups))
    return tuple(folds)


def check(fold: Fold) -> None:
    """Refuse a fold that leaks or cannot be learnt from.

    Raises EmodartsError for an utterance listed twice, a speaker (or recording of an unknown one) in two roles, an
    empty role or test set, an utterance without group or (in train and dev) declared class, a class with fewer than
    2 utterances in train.
    """
    where = f"{fold.protocol} fold {fold.index}"
    sets = {"train": fold.train, "dev": fold.dev, **{f"test set {name}": ids for name, ids in fold.tests.items()}}
    test = [utterance for ids in fold.tests.values() for utterance in ids]
    for name, part in {**sets, "test": test}.items():
        if not part:
            raise EmodartsError(f"{where}: the {name} part is empty; choose another protocol")
    roles = {"train": fold.train, "dev": fold.dev, "test": test}
    for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
        shared = _owners(fold, roles[first]) & _owners(fold, roles[second])
        if shared:
            raise EmodartsError(
                f"{where}: speaker {min(shared)} stands in {first} and in {second}; a fold must not share any"
            )
    _check_utterances(fold, where, sets)
    counts = Counter(fold.labels[u] for u in fold.train)
    for name in fold.classes:
        if counts[name] < 2:
            raise EmodartsError(
                f"{where}: class '{name}' has {counts[name]} utterance(s) in the train part, at least 2 are needed; "
                f"leave it out with corpus.class_set='...'"
            )


def _owners(fold: Fold, ids: Sequence[str]) -> set[str]:
    """Who must not stand in another role: the speakers, and the groups too where someone grouped otherwise."""
    known = {speaker for u in ids if (speaker := fold.speakers.get(u)) is not None}
    return known | {fold.groups[u] for u in ids if u in fold.groups}


def _check_utterances(fold: Fold, where: str, sets: dict[str, tuple[str, ...]]) -> None:
    role_of: dict[str, str] = {}
    for role, ids in sets.items():
        for utterance in ids:
            if utterance in role_of:
                raise EmodartsError(f"{where}: utterance {utterance} stands in {role_of[utterance]} and in {role}")
            role_of[utterance] = role
            if utterance not in fold.groups:
                raise EmodartsError(
                    f"{where}: utterance {utterance} has neither speaker nor group; a leak cannot be seen"
                )
            if role in ("train", "dev") and fold.labels.get(utterance) not in fold.classes:
                found = fold.labels.get(utterance)
                raise EmodartsError(f"{where}: utterance {utterance} in {role} has no declared class (label: {found})")


def _name(corpus: str, protocol: str | None, speakers: int) -> str:
    if speakers < 3:
        raise EmodartsError(f"{corpus}: {speakers} known speaker(s), but train, dev and test need one each: at least 3")
    default = f"{corpus}/speaker{_DEFAULTS.get(corpus, min(5, speakers))}"
    name = protocol or default
    match = re.fullmatch(re.escape(corpus) + r"/speaker(\d+)", name)
    if not match or not 3 <= int(match[1]) <= speakers:
        raise EmodartsError(
            f"protocol '{name}' does not fit {corpus}: choose {corpus}/speaker<k> with k from 3 to {speakers} "
            f"(default {default})"
        )
    return name


def _speaker_groups(corpus: str, k: int, genders: dict[str, str | None], sizes: Counter[str]) -> list[list[str]]:
    """k groups of speakers: women and men dealt evenly in order of id, else balanced by utterance count."""
    if len(genders) == k:
        return [[speaker] for speaker in sorted(genders)]
    if corpus in ("ravdess", "demo"):
        groups: list[list[str]] = [[] for _ in range(k)]
        for gender in ("female", "male"):
            members = sorted(s for s in genders if genders[s] == gender)
            for position, speaker in enumerate(members):
                groups[position * k // len(members)].append(speaker)
        return [sorted(group) for group in groups]
    filled: dict[int, list[str]] = defaultdict(list)
    for speaker in sorted(sizes, key=lambda s: (-sizes[s], s)):
        smallest = min(range(k), key=lambda g: (sum(sizes[s] for s in filled[g]), g))
        filled[smallest].append(speaker)
    return [sorted(filled[g]) for g in range(k)]


def _test_and_dev(
    corpus: str, parts: list[list[str]], genders: dict[str, str | None]
) -> list[tuple[set[str], set[str]]]:
    pairs = []
    for index, test in enumerate(parts):
        if corpus == "emodb":  # one dev speaker is too few: the next woman and the next man
            cycle = [s for part in parts[index + 1 :] + parts[:index] for s in part]
            dev = [next((s for s in cycle if genders[s] == gender), "") for gender in ("female", "male")]
        else:
            dev = parts[(index + 1) % len(parts)]
        pairs.append((set(test), set(dev)))
    return pairs


def _fold(
    protocol: str,
    index: int,
    roles: dict[str, list[str]],
    test_set: str,
    labels: Labels,
    speakers: dict[str, str | None],
    groups: dict[str, str],
) -> Fold:
    ids = sorted(speakers)
    by_utterance = {utterance: labels.by_utterance[utterance] for utterance in ids}
    tests = {test_set: tuple(roles["test"])}
    fold = Fold(
        protocol,
        index,
        tuple(roles["train"]),
        tuple(roles["dev"]),
        tests,
        by_utterance,
        labels.classes,
        speakers,
        groups,
        fold_hash(roles["train"], roles["dev"], tests, by_utterance, labels.classes),
    )
    check(fold)
    return fold


def fold_hash(
    train: Sequence[str],
    dev: Sequence[str],
    tests: dict[str, tuple[str, ...]],
    labels: dict[str, str],
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
