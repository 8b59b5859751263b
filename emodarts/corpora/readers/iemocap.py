"""IEMOCAP (Busso et al. 2008): English dialogs of 10 actors in 5 sessions; 10,039 turns, labels in EmoEvaluation."""

import re
from collections.abc import Iterator
from pathlib import Path

from emodarts.corpora.description import CorpusDescription
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.published_counts import read_releases
from emodarts.corpora.readers.ratings import Rating, add_rating, numbered_lines, parse_rating, rated_turns
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance, files_below, is_hidden

# session, script; the letter before the underscore says who wore the motion-capture markers, not who speaks
_DIALOG = r"Ses0([1-5])[FM]_(?:impro\d\d|(script\d\d_\d))[ab]?"
# dialog, session, script, speaker: Ses01F_impro01_M003 is spoken by the man of session 1
_TURN = re.compile(rf"({_DIALOG})_([FM])\d{{3}}", re.ASCII)
# [start - end], turn, label, [valence, arousal, dominance]
_LINE = re.compile(r"\[[^\]]*\]\s+(\S+)\s+(\S+)\s+\[([^\]]*)\]\s*", re.ASCII)
_RATER = re.compile(r"[AC]-[EFM]\d+:", re.ASCII)
_WORDS = {
    "ang": "angry",
    "hap": "happy",
    "exc": "excited",
    "neu": "neutral",
    "sad": "sad",
    "fru": "frustrated",
    "fea": "fearful",
    "sur": "surprised",
    "dis": "disgusted",
    "oth": "other",
    "xxx": "no_agreement",
}
# (test, dev)
_SESSIONS = [("4", "5"), ("3", "4"), ("2", "3"), ("1", "2"), ("5", "1")]


def _rows(root: Path, settings: CorpusSettings) -> Iterator[Utterance | Dropped]:
    ratings: dict[str, Rating] = {}
    yield from _read_labels(root, ratings)

    def read_name(file: Path, path: str) -> Utterance | str:
        turn = _TURN.fullmatch(file.stem)
        if re.fullmatch(_DIALOG, file.stem):
            return "a whole dialog: its turns lie in sentences/wav"
        if not turn:
            return "the name is not that of an IEMOCAP turn (such as Ses01F_impro01_F000.wav)"
        if file.stem not in ratings:
            return "no line in EmoEvaluation labels it"
        return _utterance(path, file.stem, turn, ratings[file.stem])

    yield from rated_turns(root, ratings, read_name)


def _utterance(path: str, name: str, turn: re.Match[str], rating: Rating) -> Utterance:
    """The row of a turn; the text is the script, whose sentences return in every session; improvised: own words."""
    dialog, session, script, letter = turn.groups()
    return Utterance(
        utterance=f"iemocap/{name}",
        path=path,
        speaker=f"iemocap/Ses0{session}{letter}",
        perceived=rating.word,
        recording=dialog,
        session=session,
        gender="female" if letter == "F" else "male",
        scenario="scripted" if script else "improvised",
        text=script,
        arousal=rating.arousal,
        valence=rating.valence,
        dominance=rating.dominance,
    )


def _read_labels(root: Path, ratings: dict[str, Rating]) -> Iterator[Dropped]:
    """Fill in the ratings by turn; the files of single raters lie in folders below EmoEvaluation and do not count."""
    for file in files_below(root, lambda name: name.endswith(".txt")):
        path = file.relative_to(root).as_posix()
        if file.parent.name != "EmoEvaluation" or is_hidden(path) or not file.is_file():
            continue
        for number, line in numbered_lines(file):
            if line.strip() and not line.startswith("% [") and not _RATER.match(line):
                yield from _read_line(line, f"{path}:{number}", file.stem, root, ratings)


def _read_line(line: str, where: str, dialog: str, root: Path, ratings: dict[str, Rating]) -> Iterator[Dropped]:
    match = _LINE.fullmatch(line)
    turn = match and _TURN.fullmatch(match[1])
    if not match or not turn:
        yield Dropped(where, "not a label line such as [6.29 - 8.23] Ses01F_impro01_F000 neu [2.5, 2.5, 2.5]")
    elif turn[1] != dialog:
        yield Dropped(where, f"names a turn of another dialog than {dialog}")
    elif match[2] not in _WORDS:
        yield Dropped(where, f"the label '{match[2]}' is none of {', '.join(_WORDS)}")
    else:
        try:
            valence, arousal, dominance = (parse_rating(text, 1, 5) for text in match[3].split(","))
        except ValueError:
            yield Dropped(where, f"'[{match[3]}]' is not valence, arousal and dominance")
            return
        yield from add_rating(ratings, match[1], Rating(where, match[2], arousal, valence, dominance), root)


CORPUS = CorpusDescription(
    name="iemocap",
    title="IEMOCAP (Busso et al. 2008)",
    rows=_rows,
    looked_for="turns such as Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav, with labels in "
    "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
    words=_WORDS,
    protocol="session5",
    rules={
        "session5": Rule(rules.by_session(_SESSIONS)),
        "session5-random-dev": Rule(rules.with_random_dev(rules.by_session(_SESSIONS)), rules.SHARED_DEV),
        "speaker10": Rule(rules.by_speaker(rules.each_speaker, rules.session_partner)),
        "emodarts-no-dev": Rule(
            rules.without_dev(
                rules.by_groups([[f"iemocap/Ses0{i}M", f"iemocap/Ses0{i % 5 + 1}F"] for i in range(1, 6)]),
                lambda c: c.scenario == "improvised",
                "not improvised: the emoDARTS scripts leave it out",
            ),
            rules.NO_DEV,
            {"excited": "drop", "class_set": "four"},
        ),
    },
    sources=("perceived",),
    attribute_scale="1 to 5",
    licence="non-commercial research, from USC SAIL",
    language="English (American)",
    evidence="descriptions",
    releases=read_releases("iemocap"),
)
