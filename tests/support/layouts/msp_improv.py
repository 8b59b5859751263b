"""A small MSP-IMPROV on disk: 6 sessions, 12 speakers, all four scenarios, and the junk of real copies."""

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

_CLASSES = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}


def line(turn, word="N", activation="3.333333", valence="2.333333", dominance="3.000000"):
    """The line of a turn and its raters', one of whom occurs twice, as in Evalution.txt; with the turn's number."""
    return (
        f"UTD-IMPROV-{turn}.avi; {word}; A:{activation}; V:{valence}; D:{dominance} ; N:3.666667;\n"
        "rater_1; Angry; Angry,Disgusted; A:3.000000; V:2.000000; D:3.000000; N:4.000000;\n"
        "A2ZY-7; Neutral; ; A:4.000000; V:2.000000; D:NaN; N:NaN;\n"
        "rater_1; Other; Fianc\xe9e, I think; A:3.000000; V:3.000000; D:3.000000; N:4.000000;\n\n"
    )


def write_corpus(root, junk=True, takes=1, labels="Evalution.txt", folders="nested"):
    """Write it and return the truth; each speaker says each class in a target turn and in an improvised one.

    `labels` is the path of the label file; `folders` is nested (Audio/session1/S01A/R), all_sessions or flat.
    """
    written, text = Written(), ""
    for turn, word in _turns(takes):
        dialog, scenario = turn[:8], turn[9]
        activation, valence = 1 + int(turn[7]) * 0.5, 1.25
        text += line(turn, word, f"{activation:.6f}", f"{valence:.6f}")
        path = _audio(root, turn, folders)
        write_voice(path, _CLASSES[word], turn[11] + turn[7], turn, rate=48000 if scenario == "R" else 16000)
        _add(written, turn, word, arousal=6 - activation, valence=valence, recording=dialog)
    if junk:
        text = _add_junk(root, written, text, labels, folders)
    write_bytes(root / labels, text.encode("latin-1"))
    return written


def _turns(takes):
    """(turn, perceived); the target actor is the woman in every dialog, whoever speaks."""
    for session in range(1, 7):
        for letter, listener in (("F", "M"), ("M", "F")):
            for take in range(takes):
                for number, word in enumerate("AHNS"):
                    read = "T" if session == 4 else "R"  # session 4 has no read turns
                    yield f"S{number + 1:02d}{word}-F0{session}-{read}-{letter}{listener}{take + 1:02d}", word
                    intended = "AHNS"[(number + 1) % 4]
                    yield f"S{number + 5:02d}{intended}-F0{session}-S-{letter}{listener}{take + 1:02d}", word


def _audio(root, turn, folders):
    session, prompt, scenario = f"session{turn[7]}", turn[:4], turn[9]
    place = {
        "nested": f"Audio/{session}/{prompt}/{scenario}",
        "all_sessions": f"all_sessions/{session}/{prompt}/{scenario}",
        "flat": "Audio",
    }[folders]
    return root / place / f"MSP-IMPROV-{turn}.wav"


def _add(written, turn, word, **values):
    sentence, scenario = turn[1:3], turn[9]
    written.rows[f"msp_improv/MSP-IMPROV-{turn}"] = {
        "speaker": f"msp_improv/{turn[11]}{turn[7]}",
        "gender": {"F": "female", "M": "male"}[turn[11]],
        "session": turn[7],
        "scenario": scenario,
        "text": sentence if scenario in "RT" else None,
        "intended": turn[3],
        "perceived": word,
        **values,
    }


def _add_junk(root, written, text, labels, folders):
    """Other labels, broken audio, labels or audio alone; the text of the label file with theirs."""
    for number, (word, values) in enumerate(
        (("O", ("NaN", "2.000000", "NaN")), ("X", ("6.500000", "0.5", "inf")), ("H", ("1.000000", "5.000000", "")))
    ):
        turn = f"S09H-M02-P-MF{number + 1:02d}"
        text += line(turn, word, *values)
        write(_audio(root, turn, folders))
        known = {"arousal": 5.0, "valence": 5.0, "dominance": None} if word == "H" else {"arousal": None}
        _add(written, turn, word, **known)
    odd = (
        (write_cut, "is cut"),
        (write_empty, "empty"),
        (write_noise_bytes, ""),
        (write_silent, None),
        (write_short, None),
    )
    for number, (write_odd, part) in enumerate(odd):
        turn = f"S10N-F03-S-FM{number + 1:02d}"
        text += line(turn)
        path = _audio(root, turn, folders)
        write_odd(path)
        if part is None:  # readable; it is found out when features are made
            _add(written, turn, "N", arousal=6 - 3.333333)
        else:
            written.dropped[path.relative_to(root).as_posix()] = part
    stereo = _audio(root, "S11S-F05-T-FM123", folders)
    write(stereo, channels=2, rate=44100)
    _add(written, "S11S-F05-T-FM123", "S", channels=2, sample_rate=44100)
    text += line("S11S-F05-T-FM123", "S")
    for broken, part in (
        (line("S12A-F01-S-FM01"), "there is no audio file"),
        (line("S21A-F01-S-FM01"), "neither a turn"),
    ):
        written.dropped[f"{labels}:{text.count(chr(10)) + 1}"] = part
        text += broken
    unlabelled, other = _audio(root, "S13A-F01-S-FM01", folders), stereo.with_name("MSP-IMPROV-S01X-F01-S-FM01.wav")
    for path, part in ((unlabelled, "no line"), (other, "the name")):
        write(path)
        written.dropped[path.relative_to(root).as_posix()] = part
    write_appledouble(stereo)
    written.dropped[stereo.with_name(f"._{stereo.name}").relative_to(root).as_posix()] = "hidden"
    write_appledouble(root / labels)
    write_bytes(root / "Video" / "session1" / "UTD-IMPROV-S01A-F01-S-FM01.avi", b"RIFF")
    write_bytes(root / "Human_transcriptions" / "MSP-IMPROV-S01A-F01-S-FM01.txt", b"How can I not?\n")
    return text
