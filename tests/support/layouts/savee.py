"""A small SAVEE on disk: four men in folders, as released, or flat, as in a well-known copy."""

import shutil

from tests.support.layouts import Written
from tests.support.layouts.audio import write_appledouble, write_empty, write_voice

_CLASSES = {"a": "angry", "h": "happy", "n": "neutral", "sa": "sad"}
_WORDS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}


def write_corpus(root, flat=False, junk=True):
    """Write it and return the truth."""
    written = Written()
    for speaker in ("DC", "JE", "JK", "KL"):
        for code, word in _WORDS.items():
            for take, sentence in enumerate(("01", "15", "30") if code == "n" else ("01", "15")):
                path = f"{speaker}_{code}{sentence}.wav" if flat else f"AudioData/{speaker}/{code}{sentence}.wav"
                write_voice(root / path, _CLASSES.get(code), speaker, take, rate=44100, seconds=0.3)
                written.rows[f"savee/{speaker}_{code}{sentence}"] = {
                    "path": path,
                    "speaker": f"savee/{speaker}",
                    "gender": "male",
                    "text": f"{code}{sentence}",
                    "intended": word,
                }
    if junk:
        _write_junk(root, flat, written)
    return written


def _write_junk(root, flat, written):
    folder, front = ("", "DC_") if flat else ("AudioData/DC/", "")
    for name in ("a00", "a16", "n31", "s01", "sa1", "su001", "A01", "x01"):
        write_voice(root / f"{folder}{front}{name}.wav", None, "DC", seconds=0.3)
        written.dropped[f"{folder}{front}{name}.wav"] = "the name is not that of a SAVEE recording"
    for name in ("XX_a01.wav", "Info.wav"):
        write_voice(root / name, None, "DC", seconds=0.3)
        written.dropped[name] = "the name is not that of a SAVEE recording"
    write_voice(root / "Annotation" / "a02.wav", None, "DC", seconds=0.3)
    kept = f"{folder}{front}a01.wav"
    (root / "flat").mkdir()
    shutil.copy(root / kept, root / "flat" / "DC_a01.wav")
    write_empty(root / f"{folder}{front}d02.wav")
    write_appledouble(root / kept)
    first, second = ("DC_a01.wav", "flat/DC_a01.wav") if flat else ("flat/DC_a01.wav", kept)
    written.rows["savee/DC_a01"]["path"] = first
    written.dropped |= {
        second: f"a copy of {first}",
        "Annotation/a02.wav": "the speaker is unknown",
        f"{folder}{front}d02.wav": "the file is empty",
        f"{folder}._{front}a01.wav": "hidden",
    }
