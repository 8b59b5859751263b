"""MSP-IMPROV (Busso et al. 2017): English dialogs of 12 actors in 6 sessions; 8,438 turns, labels in Evalution.txt."""

import re
from collections.abc import Iterator
from pathlib import Path

from emodarts.corpora.description import CorpusDescription
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.published_counts import read_releases
from emodarts.corpora.readers.ratings import Rating, add_rating, numbered_lines, only_copy, parse_rating, rated_turns
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance, files_below, is_hidden

# dialog (sentence, intended emotion; target actor, session), scenario, speaker; then listener and turn. Who is the
# target of the dialog is not who speaks: S01A-F01-S-MF03 is spoken by the man of session 1. Labels name the video, UTD.
_TURN = r"(?:MSP|UTD)-IMPROV-(S(0[1-9]|1\d|20)([AHNS])-[FM]0([1-6]))-([PRST])-([FM])[FM]\d{2,}"
_NAME = re.compile(_TURN, re.ASCII)
# turn, consensus, activation, valence, dominance, naturalness
_LINE = re.compile(
    rf"(?P<turn>{_TURN})\.(?:avi|wav)\s*;\s*(?P<word>[AHNSOX])\s*;"
    r"\s*A:(?P<A>[^;]*);\s*V:(?P<V>[^;]*);\s*D:(?P<D>[^;]*);\s*N:[^;]*;\s*",
    re.ASCII,
)
# a rater's own line below: only the consensus counts, so that raters who occur twice do not matter
_RATER = re.compile(r"[\w-]+\s*;\s*(?:ang|sad|hap|neu|oth)", re.ASCII | re.IGNORECASE)
# (test, dev)
_SESSIONS = [("4", "3"), ("3", "2"), ("2", "1"), ("1", "6"), ("6", "5"), ("5", "4")]


def _rows(root: Path, settings: CorpusSettings) -> Iterator[Utterance | Dropped]:
    ratings: dict[str, Rating] = {}
    yield from _read_labels(root, ratings)

    def read_name(file: Path, path: str) -> Utterance | str:
        match, name = _NAME.fullmatch(file.stem), _audio_name(file.stem)
        if not match:
            return "the name is not that of an MSP-IMPROV turn (such as MSP-IMPROV-S01A-F01-P-FM01.wav)"
        if name not in ratings:
            return "no line in Evalution.txt labels it"
        return _utterance(path, name, match, ratings[name])

    yield from rated_turns(root, ratings, read_name)


def _audio_name(name: str) -> str:
    """The name of a turn as its audio file has it."""
    return f"MSP{name[3:]}"


def _utterance(path: str, name: str, turn: re.Match[str], rating: Rating) -> Utterance:
    """The row of a turn; only in target turns (R, T) is the sentence of the dialog said: the others have own words."""
    dialog, sentence, intended, session, scenario, letter = turn.groups()
    return Utterance(
        utterance=f"msp_improv/{name}",
        path=path,
        speaker=f"msp_improv/{letter}{session}",
        intended=intended,
        perceived=rating.word,
        recording=dialog,
        session=session,
        gender="female" if letter == "F" else "male",
        scenario=scenario,
        text=sentence if scenario in "RT" else None,
        arousal=rating.arousal,
        valence=rating.valence,
        dominance=rating.dominance,
    )


def _read_labels(root: Path, ratings: dict[str, Rating]) -> Iterator[Dropped]:
    """Fill in the ratings by turn, from the first lines of the blocks of Evalution.txt (or Evaluation.txt)."""
    files = files_below(root, lambda name: name.lower() in ("evalution.txt", "evaluation.txt"))
    file = only_copy([p for p in files if p.is_file() and not is_hidden(p.relative_to(root).as_posix())])
    if file is None:
        return
    for number, line in numbered_lines(file):
        where = f"{file.relative_to(root).as_posix()}:{number}"
        match = _LINE.fullmatch(line)
        if match:
            try:
                a, v, d = (parse_rating(match[name], 1, 5) for name in "AVD")
            except ValueError as error:
                yield Dropped(where, f"its attributes cannot be read: {error}")
                continue
            # activation is stored upside down: 1 is very active
            rating = Rating(where, match["word"], None if a is None else 6 - a, v, d)
            yield from add_rating(ratings, _audio_name(match["turn"]), rating, root)
        elif line.strip() and not _RATER.match(line):
            yield Dropped(
                where, "neither a turn (UTD-IMPROV-S01A-F02-R-FF01.avi; A; A:3.3; V:2.3; D:3.0; N:3.6;) nor a rater"
            )


def _partner(parts: list[list[str]], index: int, genders: dict[str, str | None]) -> set[str]:
    """The other speaker of the test speaker's session: F1 and M1."""
    (test,) = parts[index]
    return {s for part in parts for s in part if s != test and s[-1] == test[-1]}


CORPUS = CorpusDescription(
    name="msp_improv",
    title="MSP-IMPROV (Busso et al. 2017)",
    rows=_rows,
    looked_for="turns such as session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav, with labels in Evalution.txt",
    words={"a": "angry", "h": "happy", "n": "neutral", "s": "sad", "o": "other", "x": "no_agreement"},
    protocol="session6",
    rules={
        "session6": Rule(rules.by_session(_SESSIONS)),
        "speaker12": Rule(rules.by_speaker(rules.each_speaker, _partner)),
        "emodarts-no-dev": Rule(
            rules.without_dev(
                rules.by_groups([["1"], ["2"], ["3"], ["5"]]),
                lambda c: c.scenario == "R",
                "not read: the emoDARTS scripts leave it out",
                key=lambda c: c.session,
            ),
            rules.NO_DEV,
            {"source": "intended"},
        ),
    },
    sources=("perceived", "intended"),
    attribute_scale="1 to 5",
    licence="by agreement with the MSP lab of UT Dallas",
    language="English (American)",
    evidence="descriptions",
    releases=read_releases("msp_improv"),
)
