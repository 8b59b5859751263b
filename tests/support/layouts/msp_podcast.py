"""A small release of MSP-Podcast on disk, its labels in any of the forms of releases 1.6 to 2.0, with junk."""

import json
from dataclasses import dataclass

from tests.support.layouts import Written
from tests.support.layouts.audio import (
    write,
    write_appledouble,
    write_bytes,
    write_cut,
    write_empty,
    write_noise_bytes,
    write_short,
    write_silent,
    write_voice,
)

FORMS = (
    "labels_consensus.csv",
    "labels_concensus.csv",
    "labels_consensus.json",
    "labels_concensus.json list",
    "labels.txt",
    "labels_detailed.csv",
    "labels_detailed.csv EmoDetail",
    "labels_detailed.json",
)
COLUMNS = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")
_CLASSES = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
_WORDS = ("Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral", "Other-confused")
_MAJOR = dict(zip("ASHUFDCNO", _WORDS, strict=True))
# split -> its speakers; speaker 9 stands in both test sets, as some do
SPEAKERS = {"Train": (2, 10, 30, 39, 100, 101), "Development": (7, 70), "Test1": (8, 9), "Test2": (9, 88, 89)}


@dataclass(frozen=True)
class Turn:
    """A turn as the label file says it."""

    name: str
    word: str
    values: tuple[str, str, str]
    speaker: str
    gender: str
    split: str

    @property
    def cells(self):
        return (f"{self.name}.wav", self.word, *self.values, self.speaker, self.gender, self.split)


def write_corpus(
    root, form="labels_consensus.csv", junk=True, takes=2, folders=("Labels", "Audios"), dev="Development"
):
    """Write a release and return the truth: its labels in `form`, the dev split under the name `dev`."""
    written, turns = Written(), []
    labels, audios = folders
    for number, (split, speakers) in enumerate(SPEAKERS.items()):
        for speaker in speakers:
            for take in range(takes):
                for segment, word in enumerate("AHNS"):
                    name = f"MSP-PODCAST_{1000 * number + speaker:04d}_{10 * take + segment:04d}"
                    turns.append(_turn(name, word, str(speaker), dev if split == "Development" else split))
                    write_voice(root / audios / f"{name}.wav", _CLASSES[word], speaker, take)
                    _add(written, turns[-1])
    if junk:
        turns += _add_junk(root, written, audios)
    write_labels(root / labels, form, turns)
    _write_side_files(root, turns)
    if junk:
        written.dropped[f"{labels}/{_place(root / labels, form, turns[-1])}"] = "there is no audio file"
        write_appledouble(root / labels / form.split(" ")[0])
    return written


def _turn(name, word, speaker, split, values=("2.2", "4.0", "2.6")):
    gender = "Unknown" if speaker == "Unknown" else ("Male", "Female")[int(speaker) % 2]
    return Turn(name, word, values, speaker, gender, split)


def _add(written, turn, **values):
    known = turn.speaker != "Unknown"
    written.rows[f"msp_podcast/{turn.name}"] = {
        "speaker": f"msp_podcast/{turn.speaker}" if known else None,
        "gender": {"Male": "male", "Female": "female"}.get(turn.gender),
        "recording": turn.name.split("_")[1],
        "split": "Development" if turn.split == "Validation" else turn.split,
        "perceived": turn.word,
        "arousal": float(turn.values[0]),
        "valence": float(turn.values[1]),
        "dominance": float(turn.values[2]),
        **values,
    }


def _add_junk(root, written, audios):
    """Other classes, unknown speakers, Test3, broken audio, audio without label and (last) a label without audio."""
    turns = []
    for segment, word in enumerate("AHNSUFDCOX"):
        turn = _turn(f"MSP-PODCAST_0002_1{segment:03d}", word, "Unknown" if word in "AHNS" else "30", "Train")
        write(
            root / audios / f"{turn.name}.wav", rate=44100 if word == "H" else 16000, channels=2 if word == "H" else 1
        )
        turns.append(turn)
        _add(written, turn)
    odd = (
        (write_cut, "is cut"),
        (write_empty, "empty"),
        (write_noise_bytes, ""),
        (write_silent, None),
        (write_short, None),
    )
    for segment, (write_odd, part) in enumerate(odd):
        turn = _turn(f"MSP-PODCAST_12345_{segment:04d}", "N", "30", "Train", ("NaN", "2.5", "9.5"))
        turns.append(turn)
        write_odd(root / audios / f"{turn.name}.wav")
        if part is None:  # readable; it is found out when features are made
            _add(written, turn, arousal=None, dominance=None)
        else:
            written.dropped[f"{audios}/{turn.name}.wav"] = part
    for number in range(1, 4):
        name = f"MSP-PODCAST_test3_{number:04d}"
        write(root / audios / f"{name}.wav")
        written.rows[f"msp_podcast/{name}"] = dict.fromkeys(("speaker", "recording", "perceived", "arousal")) | {
            "split": "Test3"
        }
    earlier = "Previous_releases_information/previous_releases_info/v1.10"
    write_bytes(root / earlier / "labels" / "labels_consensus.csv", b"FileName,EmoClass\nMSP-PODCAST_0002_0000.wav,X\n")
    write(root / earlier / "Audios" / "MSP-PODCAST_0002_0000.wav")
    written.dropped[f"{earlier}/Audios/MSP-PODCAST_0002_0000.wav"] = "an earlier release"
    for name, part in (("MSP-PODCAST_0003_0001", "no label"), ("MSP-CONVERSATION_0001", "the name")):
        write(root / audios / f"{name}.wav")
        written.dropped[f"{audios}/{name}.wav"] = part
    write_appledouble(root / audios / "MSP-PODCAST_0002_0000.wav")
    written.dropped[f"{audios}/._MSP-PODCAST_0002_0000.wav"] = "hidden"
    write_bytes(root / "Transcripts" / "MSP-PODCAST_0002_0000.txt", b"Well.\n")
    return [*turns, _turn("MSP-PODCAST_0004_0001", "S", "30", "Train")]


def write_labels(folder, form, turns):
    """The label file of these turns in one of FORMS."""
    name = form.split(" ")[0]
    if name == "labels.txt":
        text = "".join(f"{line(turn)}{_raters(turn)}\n" for turn in turns)
    elif name == "labels_detailed.json":
        text = json.dumps(
            {f"{turn.name}.wav": {worker: _vote(*v) for worker, *v in _votes(turn)[:-1]} for turn in turns}, indent=1
        )
    elif form.endswith("EmoDetail"):
        text = "FileName,EmoDetail\n" + "".join(
            f'{turn.name}.wav,"{_rater(*vote)}"\n' for turn in turns for vote in _votes(turn)
        )
    elif name == "labels_detailed.csv":
        text = "FileName,Workers,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom\n" + "".join(
            f'{turn.name}.wav,{worker},{major},"{major},Tired",{",".join(values)}\n'
            for turn in turns
            for worker, major, values in _votes(turn)
        )
    elif form.endswith("list"):
        text = json.dumps([dict(zip(COLUMNS, turn.cells, strict=True)) for turn in turns])
    elif form.endswith(".json"):
        text = json.dumps(
            {turn.cells[0]: dict(zip(COLUMNS[1:], turn.cells[1:], strict=True)) for turn in turns}, indent=1
        )
    else:
        text = "\n".join(",".join(cells) for cells in (COLUMNS, *(turn.cells for turn in turns))) + "\n"
    write_bytes(folder / name, text.encode())


def line(turn):
    """A turn's own line in labels.txt."""
    a, v, d = turn.values
    return f"{turn.name}.wav; {turn.word}; A:{a}; V:{v}; D:{d};\n"


def _votes(turn):
    """(worker, major emotion, values) whose consensus and means are those of the turn; one worker votes twice."""
    majors = [_MAJOR["A"], _MAJOR["S"]] if turn.word == "X" else [_MAJOR[turn.word], _MAJOR[turn.word], _MAJOR["U"]]
    votes = [(f"WORKER0000000{number}", major, turn.values) for number, major in enumerate(majors, start=1)]
    return [*votes, ("WORKER00000001", _MAJOR["F"], ("7.0", "7.0", "7.0"))]


def _vote(major, values):
    return {"EmoClass_Major": major, "EmoClass_Second": f"{major},Tired"} | dict(
        zip(("EmoAct", "EmoVal", "EmoDom"), map(float, values), strict=True)
    )


def _rater(worker, major, values):
    a, v, d = values
    return f"{worker}; {major}; {major},Tired; A:{a}; V:{v}; D:{d};"


def _raters(turn):
    return "".join(f"{_rater(*vote)}\n" for vote in _votes(turn))


def _write_side_files(root, turns):
    genders = {turn.speaker: turn.gender for turn in turns if turn.speaker != "Unknown"}
    lines = [f"Speaker_{speaker}; {gender}\n" for speaker, gender in genders.items()]
    lines += ["\n", *(f"{turn.name}.wav;{turn.speaker}\n" for turn in turns)]
    write_bytes(root / "Speaker_ids.txt", "".join(lines).encode())
    splits = [f"{turn.split}; {turn.name}.wav\n" for turn in turns]
    splits += [f"Test3; MSP-PODCAST_test3_{number:04d}.wav\n" for number in range(1, 4)]
    write_bytes(root / "Partitions.txt", "".join(splits).encode())


def _place(folder, form, turn):
    """Where the label file says something of a turn first."""
    name = form.split(" ")[0]
    if name.endswith(".json"):
        return f"{name}:{turn.name}.wav"
    lines = (folder / name).read_text().split("\n")
    return f"{name}:{next(i for i, text in enumerate(lines, start=1) if turn.name in text)}"
