"""A small TESS on disk: two women, folders or flat, the set twice as in a well-known copy, and odd names."""

import shutil

from tests.support.layouts import Written
from tests.support.layouts.audio import write, write_appledouble, write_bytes, write_cut, write_voice

_CLASSES = {"angry": "angry", "happy": "happy", "neutral": "neutral", "sad": "sad"}
_WORDS = ("back", "bar", "base", "bath", "bean", "beg")
# the folders' own spelling of emotions
_FOLDERS = {"OAF": {"fear": "Fear", "ps": "Pleasant_surprise", "sad": "Sad"}, "YAF": {"ps": "pleasant_surprised"}}
_FEW = ("disgust", "fear", "ps")  # two words of these are enough
ABOVE = "TESS Toronto emotional speech set data"


def write_corpus(root, flat=False, junk=True, twice=True):
    """Write it and return the truth."""
    written = Written()
    for speaker in ("OAF", "YAF"):
        for emotion in (*_CLASSES, *_FEW):
            for take, word in enumerate(_WORDS[:2] if emotion in _FEW else _WORDS):
                name = f"{speaker}_{word}_{emotion}"
                folder = "" if flat else f"{ABOVE}/{speaker}_{_FOLDERS[speaker].get(emotion, emotion)}/"
                write_voice(root / f"{folder}{name}.wav", _CLASSES.get(emotion), speaker, take, rate=24414, seconds=0.3)
                _add(written, name, f"{folder}{name}.wav")
    if twice and not flat:  # the whole set again, one level deeper
        for row in list(written.rows.values()):
            again = f"{ABOVE}/{row['path']}"
            (root / again).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / row["path"], root / again)
            written.dropped[again] = f"a copy of {row['path']}"
        other = f"{ABOVE}/{ABOVE}/OAF_angry/OAF_back_angry.wav"
        write(root / other, rate=24414, seconds=0.3, f0=99)
        written.dropped[other] = f"has the name of {ABOVE}/OAF_angry/OAF_back_angry.wav, but differing content"
    if junk:
        _write_junk(root, "" if flat else f"{ABOVE}/OAF_neutral/", written)
    return written


def _add(written, name, path):
    speaker, word, emotion = name.split("_")
    written.rows[f"tess/{name}"] = {
        "path": path,
        "speaker": f"tess/{speaker}",
        "gender": "female",
        "text": word,
        "intended": emotion,
    }


def _write_junk(root, folder, written):
    for name, told, more in (
        ("OA_bite_neutral", "OAF_bite_neutral", {}),  # misspelt so in the release
        ("OAF_food_fear", "OAF_food_fear", {"rate": 96000}),  # the one file at 96 kHz
        ("yaf_germ_Angry", "YAF_germ_angry", {"channels": 2}),
        ("YAF_gin_pleasant_surprised", "YAF_gin_ps", {}),
    ):
        write(root / f"{folder}{name}.wav", **{"rate": 24414, "seconds": 0.3, **more})
        _add(written, told, f"{folder}{name}.wav")
    strange = [
        "OA_back_neutral",
        "MAF_back_angry",
        "OAF_back_bored",
        "OAF_angry",
        "OAF_back_angry (1)",
        "OAF_b4ck_angry",
    ]
    for name in strange:
        write(root / f"{folder}{name}.wav", seconds=0.3)
        written.dropped[f"{folder}{name}.wav"] = "the name is not that of a TESS recording"
    write_cut(root / f"{folder}OAF_cut_sad.wav")
    write_bytes(root / f"{folder}YAF_neat_fear.wav", b"RIFF")
    write_appledouble(root / f"{folder}OAF_back_neutral.wav")
    written.dropped |= {
        f"{folder}OAF_cut_sad.wav": "the file is cut",
        f"{folder}YAF_neat_fear.wav": "cannot be read",
        f"{folder}._OAF_back_neutral.wav": "hidden",
    }
