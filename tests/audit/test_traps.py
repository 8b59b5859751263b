"""Traps told where they bite: by the audit, with the copy's own figure, and counts that differ as its end."""

import json
import shutil
from types import SimpleNamespace

import pytest

from emodarts import cli
from emodarts.audit import cues as cue_room
from emodarts.audit.traps import guess_class
from tests.support.files import write_tone
from tests.support.layouts import audio, savee, tess


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr(cue_room, "TREES", 3)


def audited(capsys, tmp_path, *arguments):
    """The code, the findings by subject, and what stands on stderr."""
    code = cli.main(["audit", *map(str, arguments), "--json", str(tmp_path / "audit.json")])
    findings = json.loads((tmp_path / "audit.json").read_text())["findings"]
    return code, {finding["subject"]: finding for finding in findings}, " ".join(capsys.readouterr().err.split())


def rows(*triples):
    """Audit data of (speaker, text, class)."""
    speakers, texts, classes = map(list, zip(*triples, strict=True))
    return SimpleNamespace(columns={"speaker": speakers, "text": texts}, classes=classes)


def test_a_class_by_its_speaker_counts_the_other_recordings_alone():
    told = rows(*((f"s{n}", "t", label) for n, label in enumerate(["angry", "sad"] * 4) for _ in range(2)))
    assert guess_class(told, "speaker") == (1.0, 0.5)
    single = rows(*((f"s{n}", "t", label) for n, label in enumerate(["angry", "sad"] * 4)))
    assert guess_class(single, "speaker") == (0.0, 0.5)  # nobody has another recording
    balanced = rows(*((f"s{n}", "t", label) for n in range(4) for label in ("angry", "sad") * 5))
    assert guess_class(balanced, "speaker")[0] <= 0.5
    assert guess_class(rows((None, None, "angry"), ("s", None, None)), "text") == (0.0, 0.0)


def test_a_class_by_its_text_counts_other_speakers_alone():
    own = rows(*((f"s{n}", f"{label}{text}", label) for n in range(3) for label in ("angry", "sad") for text in "ab"))
    assert guess_class(own, "text") == (1.0, 0.5)
    alone = rows(*(("s", f"{label}{text}", label) for label in ("angry", "sad") for text in "aab"))
    assert guess_class(alone, "text") == (0.0, 0.5)


def test_savee_says_that_sentences_go_with_emotions_and_that_it_is_not_whole(tmp_path, capsys):
    savee.write_corpus(tmp_path / "savee", junk=False)
    code, findings, errors = audited(capsys, tmp_path, "savee", "--root", tmp_path / "savee")
    finding = findings["sentences go with emotions"]
    assert finding["severity"] == "warning"
    assert "in this copy: UAR 1.00 from what other speakers make of the text alone (chance .25)" in finding["fact"]
    assert code == 1
    assert "savee: nearest is the release (60 of 480 utterances)" in errors
    assert "by a list of its files, without a copy: either the copy is not complete" in errors


def test_tess_counts_its_speakers(tmp_path, capsys):
    tess.write_corpus(tmp_path / "tess", junk=False, twice=False)
    _, findings, _ = audited(capsys, tmp_path, "tess", "--root", tmp_path / "tess")
    assert findings["two speakers"]["fact"].endswith("in this copy: 2 known speakers")


def test_urdu_and_ased_say_what_tells_the_emotion(tmp_path, capsys):
    for number, (speaker, letter, folder) in enumerate(
        (speaker, letter, folder)
        for letter, folder in (("A", "Angry"), ("H", "Happy"), ("N", "Neutral"), ("S", "Sad"))
        for speaker in range(3)
        for _ in range(2)
    ):
        name = f"S{'MF'[number % 2]}{number // 2 + 1}_F{number}_{letter}{speaker}"
        write_tone(tmp_path / "urdu" / folder / f"{name.replace('SF', 'SM')}.wav", seconds=0.3)
    _, findings, _ = audited(capsys, tmp_path, "urdu", "--root", tmp_path / "urdu")
    assert (
        "UAR 1.00 from other recordings of the same speaker alone" in findings["the speaker tells the emotion"]["fact"]
    )
    for speaker in range(1, 11):
        for length, code in enumerate(("n1", "h3", "s4", "a5")):
            for sentence in ("01", "02"):
                path = tmp_path / "ased" / f"{code}-{sentence}-01-01-{speaker:02d}.wav"
                write_tone(path, seconds=0.3 + 0.2 * length)
    _, findings, _ = audited(capsys, tmp_path, "ased", "--root", tmp_path / "ased")
    assert "UAR 1.00 from the duration alone (chance .25)" in findings["duration tells the emotion"]["fact"]


def test_a_recording_under_two_names_is_named(tmp_path, capsys):
    for actor in range(1, 13):
        for emotion in ("01", "03", "04", "05"):
            for take in "12":
                audio.write(tmp_path / "ravdess" / f"03-01-{emotion}-01-01-0{take}-{actor:02d}.wav", seconds=0.3)
    folder = tmp_path / "ravdess"
    shutil.copy(folder / "03-01-03-01-01-01-07.wav", folder / "03-01-03-01-01-02-07.wav")
    code, findings, _ = audited(capsys, tmp_path, "ravdess", "--root", folder)
    fact = findings["one recording under two names"]["fact"]
    assert "in this copy: ravdess/03-01-03-01-01-01-07 = ravdess/03-01-03-01-01-02-07" in fact
    assert code == 0  # read by the recordings: an incomplete copy is a warning
