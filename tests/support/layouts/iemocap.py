"""A small IEMOCAP on disk: 5 sessions, 10 speakers, improvised and scripted dialogs, and the junk of real copies."""

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

_CLASSES = {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad"}
NEWLINE = "\n"
HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
# session -> (improvised dialog, scripted dialog); odd names as in the release, and both letters in front
_DIALOGS = {
    1: ("Ses01F_impro01", "Ses01M_script01_1"),
    2: ("Ses02M_impro02", "Ses02F_script03_2"),
    3: ("Ses03M_impro05a", "Ses03F_script03_2"),
    4: ("Ses04F_impro08", "Ses04M_script02_2"),
    5: ("Ses05F_impro03", "Ses05M_script01_1b"),
}


def line(turn, word="neu", values="2.5000, 2.5000, 2.5000", start=6.2901):
    """A label line and its raters', as in an EmoEvaluation file."""
    return (
        f"[{start:.4f} - {start + 2.0666:.4f}]\t{turn}\t{word}\t[{values}]\n"
        "C-E2:\tNeutral;\t()\nC-E4:\tNeutral; Sadness;\t(a remark, with [brackets])\nC-F1:\tNeutral;\t(curious)\n"
        "A-E3:\tval 3; act 2; dom  2;\t()\nA-E4:\tval 2; act 3; dom  ;\t()\nA-M1:\tval 2; act 3; dom  1;\t()\n\n"
    )


def write_corpus(root, junk=True, takes=1, above="IEMOCAP_full_release"):
    """Write it below root/above and return the truth; `takes` turns a speaker, dialog and class."""
    base, written = root / above, Written()
    for session, dialogs in _DIALOGS.items():
        for dialog, words in zip(dialogs, (("ang", "hap", "neu", "sad"), ("ang", "exc", "neu", "sad")), strict=True):
            text = HEADER
            for letter in "FM":
                for number, word in enumerate(words * takes):
                    turn, valence = f"{dialog}_{letter}{number:03d}", 1 + number % 5
                    text += line(turn, word, f"{valence}.0000, 2.3333, 4.5000", start=number * 3.0)
                    write_voice(_audio(base, turn), _CLASSES[word], f"{session}{letter}", number)
                    _add(written, turn, word, valence=float(valence), arousal=2.3333, dominance=4.5)
            if junk:
                text = _add_junk(base, root, written, dialog, text)
            write_bytes(_labels(base, dialog), text.encode("latin-1"))
    if junk:
        _change_line_ends(base)
    return written


def _audio(base, turn):
    return base / f"Session{turn[4]}" / "sentences" / "wav" / turn.rsplit("_", 1)[0] / f"{turn}.wav"


def _labels(base, dialog):
    return base / f"Session{dialog[4]}" / "dialog" / "EmoEvaluation" / f"{dialog}.txt"


def _add(written, turn, word, **values):
    dialog, letter, scripted = turn.rsplit("_", 1)[0], turn[-4], "script" in turn
    written.rows[f"iemocap/{turn}"] = {
        "speaker": f"iemocap/Ses0{turn[4]}{letter}",
        "gender": {"F": "female", "M": "male"}[letter],
        "session": turn[4],
        "recording": dialog,
        "scenario": "scripted" if scripted else "improvised",
        "text": dialog[7:].rstrip("ab") if scripted else None,
        "perceived": word,
        "intended": None,
        "start": None,
        **values,
    }


def _add_junk(base, root, written, dialog, text):
    """Further turns of a dialog, and files beside it; the text of its label file with theirs."""
    session = base / f"Session{dialog[4]}"
    for number, word in enumerate(("fru", "xxx", "oth", "dis", "fea", "sur"), start=100):
        turn = f"{dialog}_F{number}"
        text += line(turn, word, "NaN, 2.5000, 9.0000")
        write(_audio(base, turn))
        _add(written, turn, word, valence=None, arousal=2.5, dominance=None)
    write(session / "dialog" / "wav" / f"{dialog}.wav", channels=2)
    _drop(written, root, session / "dialog" / "wav" / f"{dialog}.wav", "a whole dialog")
    write_appledouble(_labels(base, dialog))
    for rater in ("Categorical", "Attribute", "Self-evaluation"):
        write_bytes(_labels(base, dialog).parent / rater / f"{dialog}_e2.txt", b"Ses01F_impro01_F000 :Anger; ()\r\n")
    write_bytes(session / "dialog" / "transcriptions" / f"{dialog}.txt", f"{dialog}_FXX0 [1-2]: Yes.\n".encode())
    return _add_odd_turns(base, root, written, dialog, text) if dialog == "Ses01F_impro01" else text


def _add_odd_turns(base, root, written, dialog, text):
    """Audio that is broken or of other kinds, labels without audio, audio without labels."""
    odd = (
        (write_cut, "is cut"),
        (write_empty, "empty"),
        (write_noise_bytes, ""),
        (write_silent, None),
        (write_short, None),
    )
    for number, (write_odd, part) in enumerate(odd, start=200):
        turn = f"{dialog}_M{number}"
        text += line(turn)
        write_odd(_audio(base, turn))
        if part is None:  # readable; it is found out when features are made
            _add(written, turn, "neu", valence=2.5)
        else:
            _drop(written, root, _audio(base, turn), part)
    write(_audio(base, f"{dialog}_M300"), channels=2, rate=44100)
    _add(written, f"{dialog}_M300", "sad", sample_rate=44100, channels=2)
    text += line(f"{dialog}_M300", "sad") + "C-E2:\tOther;\t(fianc\xe9e)\n\n"
    place = _labels(base, dialog).relative_to(root).as_posix()
    for turn, part in ((f"{dialog}_M999", "there is no audio file"), (f"{dialog}_FXX0", "not a label line")):
        written.dropped[f"{place}:{text.count(NEWLINE) + 1}"] = part
        text += line(turn)
    folder = _audio(base, f"{dialog}_F000").parent
    for name, part in ((f"{dialog}_FXX0", "the name"), (f"{dialog}_F998", "no line"), ("noise", "the name")):
        write(folder / f"{name}.wav")
        _drop(written, root, folder / f"{name}.wav", part)
    write_appledouble(folder / f"{dialog}_F000.wav")
    _drop(written, root, folder / f"._{dialog}_F000.wav", "hidden")
    return text


def _drop(written, root, path, part):
    written.dropped[path.relative_to(root).as_posix()] = part


def _change_line_ends(base):
    """One file with CRLF, one with a byte order mark."""
    crlf, marked = _labels(base, "Ses02M_impro02"), _labels(base, "Ses03M_impro05a")
    crlf.write_bytes(crlf.read_bytes().replace(b"\n", b"\r\n"))
    marked.write_bytes(b"\xef\xbb\xbf" + marked.read_bytes())
