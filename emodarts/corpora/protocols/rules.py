"""How the utterances of a corpus are divided into train, dev and test: the rules behind the named protocols."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from emodarts.seeds import derive_seed

SHARED_DEV = "dev shares speakers with train"
NO_DEV = "no dev part"
UNKNOWN_SPEAKER = "its speaker is unknown: such utterances only ever train"
SHARED_RECORDING = "test or dev speakers stand in the same recording"
UNKNOWN_NEAR_TEST = "its speaker is unknown, and dev or test speakers stand in the same recording"


@dataclass(frozen=True, slots=True)
class LabelledUtterance:
    """An utterance as a rule sees it; `label` None: not public."""

    utterance: str
    label: str | None
    speaker: str | None
    session: str | None
    gender: str | None
    recording: str | None
    scenario: str | None
    split: str | None


@dataclass
class Division:
    """One fold as ids: every candidate is in one role or in `left_out` with the reason."""

    train: list[str] = field(default_factory=list)
    dev: list[str] = field(default_factory=list)
    tests: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


Divide = Callable[[str, Sequence[LabelledUtterance]], list[Division]]
Groups = Callable[[Sequence[LabelledUtterance]], list[list[str]]]  # of speakers
DevOf = Callable[[list[list[str]], int, dict[str, str | None]], set[str]]  # groups, the test group, genders -> dev


@dataclass(frozen=True)
class Rule:
    """A named protocol of a corpus: `divide(corpus, candidates)`; candidates come sorted by id.

    `protocol_caveat` says what is not as it should be (SHARED_DEV, NO_DEV), `requires` which corpus settings the
    protocol is defined for, for example `{"excited": "drop"}`. `keeps_train`: a published train part stays whole, also
    where unknown speakers in it may be those of dev or test (the audit counts them). `parts_recordings`: a recording of
    several speakers stands in one role (`keep_recordings_apart`).
    """

    divide: Divide
    protocol_caveat: str | None = None
    requires: Mapping[str, str] = field(default_factory=dict)
    keeps_train: bool = False
    parts_recordings: bool = False


def keep_unknown_apart(candidates: Sequence[LabelledUtterance], division: Division, keeps_train: bool = False) -> None:
    """Take unknown speakers out of dev and tests, and out of train where dev or test have the same recording.

    Who they are cannot be known, so they may be anybody there. Hidden test labels (no label at all) stay.
    """
    nobody = {c.utterance for c in candidates if c.speaker is None and c.label is not None}
    for part in (division.dev, *division.tests.values()):
        division.left_out |= {u: UNKNOWN_SPEAKER for u in part if u in nobody}
        part[:] = [u for u in part if u not in nobody]
    if keeps_train:
        return
    held_out = {u for part in (division.dev, *division.tests.values()) for u in part}
    recordings = {c.recording for c in candidates if c.recording and c.utterance in held_out}
    near = {c.utterance for c in candidates if c.utterance in nobody and c.recording in recordings}
    division.left_out |= {u: UNKNOWN_NEAR_TEST for u in division.train if u in near}
    division.train = [u for u in division.train if u not in near]


def keep_recordings_apart(candidates: Sequence[LabelledUtterance], division: Division) -> None:
    """Leave out of dev what stands in a recording of a test speaker, and of train what stands in one of either.

    Who talk to each other share a room, a microphone and a topic, which tell one recording from another. Tests stay
    whole, so that every speaker tests once.
    """
    recordings = {c.utterance: c.recording for c in candidates if c.recording}
    held_out = {recordings[u] for part in division.tests.values() for u in part if u in recordings}
    for part in (division.dev, division.train):
        shared = {u for u in part if recordings.get(u) in held_out}
        division.left_out |= dict.fromkeys(sorted(shared), SHARED_RECORDING)
        part[:] = [u for u in part if u not in shared]
        held_out |= {recordings[u] for u in part if u in recordings}


def by_speaker(groups: Groups, dev_of: DevOf | None = None) -> Divide:
    """Groups of speakers take turns as test part; dev is the next group, or what `dev_of` says; the rest trains."""

    def divide(corpus: str, candidates: Sequence[LabelledUtterance]) -> list[Division]:
        parts = groups(candidates)
        genders = {c.speaker: c.gender for c in candidates if c.speaker}
        divisions = []
        for index, test in enumerate(parts):
            dev = dev_of(parts, index, genders) if dev_of else set(parts[(index + 1) % len(parts)])
            divisions.append(_divide(corpus, candidates, lambda c: c.speaker, set(test), dev, _not_public))
        return divisions

    return divide


def next_woman_and_man(parts: list[list[str]], index: int, genders: dict[str, str | None]) -> set[str]:
    """The next woman and the next man in cyclic order of id: one dev speaker alone is too few on a small corpus."""
    cycle = [s for part in parts[index + 1 :] + parts[:index] for s in part]
    pair = (next((s for s in cycle if genders[s] == gender), None) for gender in ("female", "male"))
    return {speaker for speaker in pair if speaker}


def session_partner(parts: list[list[str]], index: int, genders: dict[str, str | None]) -> set[str]:
    """The other speaker of the session, whose id differs from the test speaker's in its last letter alone (Ses01F)."""
    (test,) = parts[index]
    return {s for part in parts for s in part if s != test and s[:-1] == test[:-1]}


def _divide(
    corpus: str,
    candidates: Sequence[LabelledUtterance],
    key: Callable[[LabelledUtterance], str | None],
    test: Collection[str],
    dev: Collection[str],
    reason: Callable[[LabelledUtterance], str | None],
) -> Division:
    """By their keys (speakers, sessions) candidates test, are dev or train; those with a reason are left out."""
    division = Division(tests={f"{corpus}/test": []})
    for c in candidates:
        if (why := reason(c)) is not None:
            division.left_out[c.utterance] = why
        elif key(c) in test:
            division.tests[f"{corpus}/test"].append(c.utterance)
        else:
            (division.dev if key(c) in dev else division.train).append(c.utterance)
    return division


def _not_public(c: LabelledUtterance) -> str | None:
    return "its label is not public" if c.label is None else None


def each_speaker(candidates: Sequence[LabelledUtterance]) -> list[list[str]]:
    """Every speaker is a group."""
    return [[speaker] for speaker in sorted(known_speakers(candidates))]


def balanced(k: int) -> Groups:
    """k groups of whole speakers with nearly equal numbers of utterances: largest speaker first, to the smallest."""

    def groups(candidates: Sequence[LabelledUtterance]) -> list[list[str]]:
        sizes = Counter(c.speaker for c in candidates if c.speaker and c.label is not None)
        filled: dict[int, list[str]] = defaultdict(list)
        loads = [0] * k
        for speaker in sorted(sizes, key=lambda s: (-sizes[s], s)):
            smallest = min(range(k), key=lambda g: (loads[g], g))
            filled[smallest].append(speaker)
            loads[smallest] += sizes[speaker]
        return [sorted(filled[g]) for g in range(k)]

    return groups


def dealt_by_gender(k: int) -> Groups:
    """k groups with the same number of women and of men each, in order of id."""

    def groups(candidates: Sequence[LabelledUtterance]) -> list[list[str]]:
        genders = {c.speaker: c.gender for c in candidates if c.speaker and c.label is not None}
        parts: list[list[str]] = [[] for _ in range(k)]
        for gender in ("female", "male"):
            members = sorted(s for s in genders if genders[s] == gender)
            for position, speaker in enumerate(members):
                parts[position * k // len(members)].append(speaker)
        return [sorted(part) for part in parts]

    return groups


def id_ranges(last_of_each: Sequence[str]) -> Groups:
    """Groups of speakers by ranges of id, each given by its last speaker."""

    def groups(candidates: Sequence[LabelledUtterance]) -> list[list[str]]:
        speakers = sorted(known_speakers(candidates))
        parts: list[list[str]] = [[] for _ in last_of_each]
        for speaker in speakers:
            parts[next((i for i, last in enumerate(last_of_each) if speaker <= last), -1)].append(speaker)
        return parts

    return groups


def by_groups(groups: Sequence[Sequence[str]]) -> Groups:
    """Groups as listed."""
    return lambda candidates: [list(group) for group in groups]


def in_string_order(k: int) -> Groups:
    """k groups of speakers, equal in number, in the order of their ids as text."""
    return lambda candidates: [part.tolist() for part in np.array_split(sorted(known_speakers(candidates)), k)]


def known_speakers(candidates: Sequence[LabelledUtterance]) -> set[str]:
    """Known speakers who have a label: others cannot test."""
    return {c.speaker for c in candidates if c.speaker and c.label is not None}


def by_session(test_and_dev: Sequence[tuple[str, str]]) -> Divide:
    """Whole sessions: for each (test, dev) pair one fold; the other sessions train."""

    def reason(c: LabelledUtterance) -> str | None:
        return "it has no session, or no label" if c.session is None or c.label is None else None

    def divide(corpus: str, candidates: Sequence[LabelledUtterance]) -> list[Division]:
        return [_divide(corpus, candidates, lambda c: c.session, {test}, {dev}, reason) for test, dev in test_and_dev]

    return divide


def with_random_dev(divide: Divide, fraction: float = 0.2) -> Divide:
    """The same tests; dev and train are one part, of which a seeded, stratified `fraction` becomes dev."""

    def divided(corpus: str, candidates: Sequence[LabelledUtterance]) -> list[Division]:
        labels = {c.utterance: c.label for c in candidates}
        divisions = divide(corpus, candidates)
        for index, division in enumerate(divisions):
            rest = sorted(division.train + division.dev)
            rng = np.random.default_rng(derive_seed(corpus, "random dev", index))
            dev: set[str] = set()
            for label in sorted({labels[u] or "" for u in rest}):
                members = [u for u in rest if labels[u] == label]
                picked = rng.permutation(len(members))[: round(fraction * len(members))]
                dev |= {members[i] for i in picked}
            division.dev = sorted(dev)
            division.train = [u for u in rest if u not in dev]
        return divisions

    return divided


def without_dev(
    groups: Groups,
    is_used: Callable[[LabelledUtterance], bool],
    reason: str,
    key: Callable[[LabelledUtterance], str | None] = lambda c: c.speaker,
) -> Divide:
    """Each group of keys (speakers, sessions) tests once, the others that are used train; no dev part."""

    def left_out(c: LabelledUtterance) -> str | None:
        return reason if not is_used(c) or c.label is None else None

    def divide(corpus: str, candidates: Sequence[LabelledUtterance]) -> list[Division]:
        parts = groups([c for c in candidates if is_used(c)])
        return [_divide(corpus, candidates, key, set(test), (), left_out) for test in parts]

    return divide


def official(train: str, dev: Sequence[str], tests: Mapping[str, str]) -> Divide:
    """The published split, one fold: `tests` maps a test split to its name."""

    def divide(corpus: str, candidates: Sequence[LabelledUtterance]) -> list[Division]:
        division = Division(tests={})
        for c in candidates:
            if c.split == train and c.label is not None:
                division.train.append(c.utterance)
            elif c.split in dev and c.label is not None:
                division.dev.append(c.utterance)
            elif c.split is not None and c.split in tests:
                division.tests.setdefault(f"{corpus}/{tests[c.split]}", []).append(c.utterance)
            else:
                division.left_out[c.utterance] = f"it stands in no split of the protocol ({c.split})"
        return [division]

    return divide
