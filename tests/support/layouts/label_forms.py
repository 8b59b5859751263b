"""A small label file of each kind, and what is true of it."""

import re
from dataclasses import dataclass, field

from tests.support.layouts import iemocap, msp_improv, msp_podcast


@dataclass(frozen=True)
class Row:
    """What is compared of an utterance."""

    speaker: str | None
    word: str
    arousal: float | None
    valence: float | None
    dominance: float | None
    gender: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Form:
    """A kind of label file: its lines, and for each turn where its line is and what is true of it."""

    corpus: str
    path: str  # of the file below the root
    lines: tuple[str, ...]
    at: dict[str, int]
    truth: dict[str, Row]
    pattern: re.Pattern[str]  # of a turn's line, its fields as groups
    words: str  # the known ones
    other: str  # a name like those in the file, of a turn without audio
    highest: int  # of the attributes' scale, from 1
    neighbours: dict[str, str] = field(default_factory=dict)  # further files
    inverted: bool = False  # activation


def make_iemocap():
    turns = {"F000": ("ang", 2.5, 3.25, 4.75), "M000": ("sad", 1.5, 2.25, 3.125), "F001": ("exc", 4.25, 3.75, 1.125)}
    lines, at, truth = iemocap.HEADER.split("\n")[:2], {}, {}
    for turn, (word, *values) in turns.items():
        name = f"Ses01M_impro01_{turn}"
        at[name] = len(lines)
        lines += iemocap.line(name, word, ", ".join(f"{value:.4f}" for value in values)).split("\n")[:-1]
        valence, arousal, dominance = values
        gender = {"F": "female", "M": "male"}[turn[0]]
        truth[name] = Row(f"iemocap/Ses01{turn[0]}", word, arousal, valence, dominance, gender)
    number = "[0-9.]+"
    return Form(
        "iemocap",
        "Session1/dialog/EmoEvaluation/Ses01M_impro01.txt",
        tuple(lines),
        at,
        truth,
        re.compile(
            rf"(?P<time>\[[^\]]+\])\t(?P<name>\S+)\t(?P<word>\w+)\t"
            rf"\[(?P<valence>{number}), (?P<arousal>{number}), (?P<dominance>{number})\]"
        ),
        "ang hap exc neu sad fru fea sur dis oth xxx",
        "Ses01M_impro01_F009",
        5,
    )


def make_improv():
    turns = {
        "S01A-F02-R-FF01": ("A", 3.333333, 2.25, 3.125),
        "S05H-F01-S-MF01": ("N", 1.5, 2.75, 4.25),
        "S20S-M06-P-FM101": ("X", 2.125, 4.5, 1.75),
    }
    lines, at, truth = [], {}, {}
    for turn, (word, *values) in turns.items():
        at[f"MSP-IMPROV-{turn}"] = len(lines)
        lines += msp_improv.line(turn, word, *(f"{value:.6f}" for value in values)).split("\n")[:-1]
        activation, valence, dominance = values
        speaker, gender = f"msp_improv/{turn[11]}{turn[7]}", {"F": "female", "M": "male"}[turn[11]]
        truth[f"MSP-IMPROV-{turn}"] = Row(speaker, word, 6 - activation, valence, dominance, gender)
    return Form(
        "msp_improv",
        "Evalution.txt",
        tuple(lines),
        at,
        truth,
        re.compile(
            r"(?P<name>\S+); (?P<word>\w); "
            r"A:(?P<arousal>[^;]+); V:(?P<valence>[^;]+); D:(?P<dominance>[^;]+) ; N:[^;]+;"
        ),
        "A H N S O X",
        "UTD-IMPROV-S09A-F02-R-FF01.avi",
        5,
        inverted=True,
    )


PODCAST = (
    msp_podcast.Turn("MSP-PODCAST_0001_0008", "N", ("2.25", "4.5", "2.625"), "30", "Male", "Test1"),
    msp_podcast.Turn("MSP-PODCAST_0001_0019", "H", ("6.125", "5.25", "3.75"), "9", "Female", "Train"),
    msp_podcast.Turn("MSP-PODCAST_12345_0119", "X", ("3.5", "1.25", "4.125"), "Unknown", "Unknown", "Development"),
)


def make_podcast(form):
    truth = {
        turn.name: Row(
            None if turn.speaker == "Unknown" else f"msp_podcast/{turn.speaker}",
            turn.word,
            *map(float, turn.values),
            {"Male": "male", "Female": "female"}.get(turn.gender),
            turn.split,
        )
        for turn in PODCAST
    }
    lines, neighbours = [",".join(msp_podcast.COLUMNS)], {}
    attributes = r"(?P<arousal>[^,;]+){0}(?P<valence>[^,;]+){1}(?P<dominance>[^,;]+)"
    if form == "labels_consensus.csv":
        lines += [",".join(turn.cells) for turn in PODCAST]
        more = r"(?P<speaker>\w+),(?P<gender>\w+),(?P<split>\w+)"
        pattern = rf"(?P<name>[^,]+),(?P<word>\w),{attributes.format(',', ',')},{more}"
    else:
        lines = []
        for turn in PODCAST:
            lines += [
                msp_podcast.line(turn).strip(),
                "WORKER01; Other-confused; Concerned,Tired; A:3.0; V:3.0; D:4.0;",
                "",
            ]
        pattern = rf"(?P<name>[^;]+); (?P<word>\w); A:{attributes.format('; V:', '; D:')};"
        neighbours["Partitions.txt"] = "".join(f"{turn.split}; {turn.name}.wav\n" for turn in PODCAST)
        neighbours["Speaker_ids.txt"] = "".join(
            [f"Speaker_{turn.speaker}; {turn.gender}\n" for turn in PODCAST[:2]]
            + [f"{turn.name}.wav;{turn.speaker}\n" for turn in PODCAST]
        )
    at = {turn.name: next(i for i, line in enumerate(lines) if turn.name in line) for turn in PODCAST}
    return Form(
        "msp_podcast",
        f"Labels/{form}",
        tuple(lines),
        at,
        truth,
        re.compile(pattern),
        "A S H U F D C N O X",
        "MSP-PODCAST_0009_0008.wav",
        7,
        neighbours,
    )


FORMS = {
    "iemocap": make_iemocap(),
    "msp_improv": make_improv(),
    "msp_podcast csv": make_podcast("labels_consensus.csv"),
    "msp_podcast txt": make_podcast("labels.txt"),
}
