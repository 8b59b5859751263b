"""MSP-Podcast (Lotfian & Busso 2019), releases 1.6 to 2.0: natural English from podcasts, one flat folder of turns."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from emodarts.corpora.description import CorpusDescription
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.rules import Rule
from emodarts.corpora.published_counts import read_releases
from emodarts.corpora.readers.msp_podcast_labels import FORMS, NAME, SPLITS, Read
from emodarts.corpora.readers.ratings import Rating, add_rating, numbered_lines, only_copy, rated_turns
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped, Utterance, is_hidden
from emodarts.errors import EmodartsError

_NAME = re.compile(NAME, re.ASCII)
_TEST3 = re.compile(r"MSP-PODCAST_test3_\d{4}", re.ASCII)
_PARTITION = re.compile(rf"(?P<value>{'|'.join(SPLITS)})\s*;\s*(?P<name>\S+)\.wav\s*;?\s*", re.ASCII)
_GENDER = re.compile(r"Speaker_(?P<name>\d+)\s*;\s*(?P<value>Male|Female|Unknown)\s*;?\s*", re.ASCII)
_SPEAKER = re.compile(r"(?P<name>\S+)\.wav\s*;\s*(?P<value>\d+|Unknown)\s*;?\s*", re.ASCII)


def _rows(root: Path, settings: CorpusSettings) -> Iterator[Utterance | Dropped]:
    ratings: dict[str, Rating] = {}
    yield from _read_labels(root, ratings)

    def read_name(file: Path, path: str) -> Utterance | str:
        name = file.stem
        if path.lower().startswith("previous_release") or "/previous_release" in path.lower():
            return "belongs to an earlier release"
        if _TEST3.fullmatch(name):  # its labels, speakers and podcasts are not public
            return Utterance(utterance=f"msp_podcast/{name}", path=path, speaker=None, split="Test3")
        if not _NAME.fullmatch(name):
            return "the name is not that of an MSP-Podcast turn (such as MSP-PODCAST_0001_0008.wav)"
        if name not in ratings:
            return "no label names it"
        return _utterance(path, name, ratings[name])

    yield from rated_turns(root, ratings, read_name)


def _utterance(path: str, name: str, rating: Rating) -> Utterance:
    return Utterance(
        utterance=f"msp_podcast/{name}",
        path=path,
        speaker=f"msp_podcast/{rating.speaker}" if rating.speaker else None,
        perceived=rating.word,
        recording=name.split("_")[1],
        gender={"Female": "female", "Male": "male"}.get(rating.gender or ""),
        split=rating.split,
        arousal=rating.arousal,
        valence=rating.valence,
        dominance=rating.dominance,
    )


def _read_labels(root: Path, ratings: dict[str, Rating]) -> Iterator[Dropped]:
    """Fill in the ratings by turn, from the best label file of the release."""
    release = _release(root)
    file, read, complete = _label_file(release)
    speakers: dict[str, tuple[str, str]] = {}
    genders: dict[str, tuple[str, str]] = {}
    splits: dict[str, tuple[str, str]] = {}
    if not complete:
        yield from _read_pairs(release, root, "Speaker_ids.txt", {_GENDER: genders, _SPEAKER: speakers})
        yield from _read_pairs(release, root, "Partitions?.txt", {_PARTITION: splits})
    for labelled in read(file, file.relative_to(root).as_posix()):
        if isinstance(labelled, Dropped):
            yield labelled
            continue
        name, rating = labelled
        if not complete:
            speaker = _known(speakers, name)
            gender = _known(genders, speaker or "")
            rating = replace(rating, speaker=speaker, gender=gender, split=SPLITS.get(splits.get(name, ("",))[0]))
        yield from add_rating(ratings, name, rating, root)


def _release(root: Path) -> Path:
    """The folder of the release: the root, or the one folder below it that holds labels, as an archive unpacks."""
    inside = [root, *sorted(p for p in root.iterdir() if p.is_dir() and p.name.upper().startswith("MSP-PODCAST"))]
    holding = [folder for folder in inside if _label_folders(folder)]
    if not holding:
        raise EmodartsError(f"{root}: there is no folder Labels (nor labels, label); is it a release of MSP-Podcast?")
    if len(holding) > 1:
        raise EmodartsError(
            f"{root} holds several releases ({', '.join(p.name for p in holding)}): set corpus.root to one"
        )
    return holding[0]


def _label_folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name.lower() in ("labels", "label") and p.is_dir())


def _label_file(release: Path) -> tuple[Path, Read, bool]:
    files = [p for folder in _label_folders(release) for p in folder.iterdir() if p.is_file() and not is_hidden(p.name)]
    for pattern, (read, complete) in FORMS.items():
        if file := only_copy([p for p in files if re.fullmatch(pattern, p.name.lower())]):
            return file, read, complete
    raise EmodartsError(
        f"{release}: its labels are in none of labels_consensus.csv, labels_consensus.json, labels.txt, "
        "labels_detailed.csv, labels_detailed.json"
    )


def _read_pairs(
    release: Path, root: Path, name: str, kinds: dict[re.Pattern[str], dict[str, tuple[str, str]]]
) -> Iterator[Dropped]:
    """Fill in (value, where) by name from the `a; b` lines of a file beside the labels. Raises EmodartsError."""
    file = only_copy([p for p in release.iterdir() if p.is_file() and re.fullmatch(name, p.name, re.IGNORECASE)])
    if file is None:
        yield Dropped(name.replace("?", ""), "the file is missing, and the label file does not say what stands there")
        return
    for number, line in numbered_lines(file):
        where = f"{file.relative_to(root).as_posix()}:{number}"
        match, pairs = next(((m, kinds[kind]) for kind in kinds if (m := kind.fullmatch(line))), (None, {}))
        if match is None:
            if line.strip():
                yield Dropped(where, "not a line of two values with a semicolon between")
            continue
        first = pairs.setdefault(match["name"], (match["value"], where))
        if first[0] != match["value"]:
            raise EmodartsError(
                f"{root}: {first[1]} and {where} say different things of {match['name']} "
                f"({first[0]}; {match['value']}); correct or remove one of them"
            )


def _known(pairs: dict[str, tuple[str, str]], name: str) -> str | None:
    value = pairs.get(name, ("Unknown",))[0]
    return None if value == "Unknown" else value


CORPUS = CorpusDescription(
    name="msp_podcast",
    title="MSP-Podcast (Lotfian & Busso 2019)",
    rows=_rows,
    looked_for="turns such as Audios/MSP-PODCAST_0001_0008.wav, with labels in Labels/labels_consensus.csv",
    words={
        "a": "angry",
        "s": "sad",
        "h": "happy",
        "u": "surprised",
        "f": "fearful",
        "d": "disgusted",
        "c": "contemptuous",
        "n": "neutral",
        "o": "other",
        "x": "no_agreement",
    },
    protocol="official",
    rules={
        "official": Rule(
            rules.official("Train", ["Development"], {"Test1": "test1", "Test2": "test2", "Test3": "test3"}),
            keeps_train=True,
        ),
        "speaker5": Rule(rules.by_speaker(rules.balanced(5)), parts_recordings=True),
        "emodarts-no-dev": Rule(
            rules.without_dev(
                rules.in_string_order(5),
                lambda c: c.split in ("Train", "Test1", "Test2") and c.speaker is not None,
                "not in Train, Test1 or Test2, or of an unknown speaker: the emoDARTS scripts leave it out",
            ),
            rules.NO_DEV,
        ),
    },
    sources=("perceived",),
    attribute_scale="1 to 7",
    licence="by agreement with the MSP lab of UT Dallas",
    language="English",
    evidence="descriptions",
    releases=read_releases("msp_podcast"),
)
