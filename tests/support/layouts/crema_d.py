"""A small CREMA-D on disk: actors of all five groups, the tables beside the audio, and the junk of real copies."""

import shutil

import soundfile

from tests.support.layouts import Written
from tests.support.layouts.audio import (
    write_appledouble,
    write_bytes,
    write_cut,
    write_empty,
    write_silent,
    write_voice,
)

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 84532\n"
_CLASSES = {"ANG": "angry", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
# actor -> sex as the release writes it; the first and the last of some groups
ACTORS = {
    "1001": "Male",
    "1018": "Female",
    "1019": "Male",
    "1036": "Male",
    "1037": "Female",
    "1054": "Female",
    "1055": "Female",
    "1072": "Female",
    "1073": "Female",
    "1091": "Female",
}
# what the crowd heard for the clips of 1001; the others are heard as intended
VOTES = {"1001_IEO_ANG_HI": "D", "1001_TIE_ANG_XX": "A:N", "1001_IEO_HAP_HI": "F:H:N"}


def write_corpus(root, junk=True, votes=True, demographics=True):
    """Write it and return the truth."""
    written, audio = Written(), root / "AudioWAV"
    for actor in ACTORS:
        for word, label in _CLASSES.items():
            for sentence, level in (("IEO", "XX" if word == "NEU" else "HI"), ("TIE", "XX")):
                name = f"{actor}_{sentence}_{word}_{level}"
                write_voice(audio / f"{name}.wav", label, actor, sentence == "IEO")
                _add(written, name, f"AudioWAV/{name}.wav", votes, demographics)
    if junk:
        _write_junk(root, written, votes, demographics)
    if votes:
        lines = ['"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"']
        names = [*(u.split("/")[1] for u in written.rows), "1044_ITH_FEA_XX"]  # tables know clips that a copy lacks
        lines += [f'"{n}","{name}","{_vote(name)}","60.1","N","50","N","64.78"' for n, name in enumerate(names, 1)]
        write_bytes(root / "processedResults" / "summaryTable.csv", "\r\n".join(lines).encode())
    if demographics:
        lines = ['"ActorID","Age","Sex","Race","Ethnicity"']
        lines += [f'{actor},30,"{sex}","Caucasian","Not Hispanic"' for actor, sex in _demographics().items()]
        write_bytes(root / "VideoDemographics.csv", ("\n".join(lines) + "\n").encode())
    return written


def _demographics():
    return {**ACTORS, "1040": "Male", "1076": "Female"}


def _vote(name):
    return VOTES.get(name, name.split("_")[2][0])


def _add(written, name, path, votes, demographics):
    actor, sentence, word, level = name.split("_")
    written.rows[f"crema_d/{name}"] = {
        "path": path,
        "speaker": f"crema_d/{actor}",
        "gender": _demographics()[actor].lower() if demographics else None,
        "text": sentence,
        "intended": word,
        "scenario": level,
        "perceived": _vote(name) if votes else None,
    }


def _write_junk(root, written, votes, demographics):
    audio = root / "AudioWAV"
    write_voice(audio / "1040_ITH_SAD_X.wav", "sad", "1040")  # misspelt so in the release, not in its tables
    _add(written, "1040_ITH_SAD_XX", "AudioWAV/1040_ITH_SAD_X.wav", votes, demographics)
    write_silent(audio / "1076_MTI_SAD_XX.wav")  # a row: that it is silent is found when it is decoded
    _add(written, "1076_MTI_SAD_XX", "AudioWAV/1076_MTI_SAD_XX.wav", votes, demographics)
    first = audio / "1001_IEO_ANG_HI.wav"
    sound, rate = soundfile.read(first)
    (root / "AudioMP3").mkdir()
    soundfile.write(root / "AudioMP3" / "1001_IEO_ANG_HI.mp3", sound, rate, format="MP3")
    (root / "copy").mkdir()
    shutil.copy(first, root / "copy" / first.name)
    shutil.copy(audio / "1001_TIE_ANG_XX.wav", root / "copy" / "1001_TIE_HAP_XX.wav")
    write_bytes(root / "unfetched" / "1001_TIE_SAD_XX.wav", LFS_POINTER)
    write_appledouble(first)
    write_bytes(audio / "1001_TAI_ANG_XX.wav", LFS_POINTER)
    write_cut(audio / "1001_TAI_HAP_XX.wav")
    write_empty(audio / "1001_TAI_SAD_XX.wav")
    strange = ["1000_IEO_ANG_HI", "1092_IEO_ANG_HI", "1001_ieo_ang_hi", "1001_IEO_SUR_HI", "1001_IEO_ANG_HI (1)"]
    for name in strange:
        write_voice(audio / f"{name}.wav", "angry", "1001")
        written.dropped[f"AudioWAV/{name}.wav"] = "the name is not that of a CREMA-D recording"
    written.dropped |= {
        "AudioMP3/1001_IEO_ANG_HI.mp3": "has the name of AudioWAV/1001_IEO_ANG_HI.wav, but differing content",
        "copy/1001_IEO_ANG_HI.wav": "a copy of AudioWAV/1001_IEO_ANG_HI.wav",
        "copy/1001_TIE_HAP_XX.wav": "has the name of AudioWAV/1001_TIE_HAP_XX.wav, but differing content",
        "unfetched/1001_TIE_SAD_XX.wav": "a git-LFS pointer, fetch it with git lfs pull",
        "AudioWAV/._1001_IEO_ANG_HI.wav": "hidden",
        "AudioWAV/1001_TAI_ANG_XX.wav": "a git-LFS pointer, fetch it with git lfs pull",
        "AudioWAV/1001_TAI_HAP_XX.wav": "the file is cut",
        "AudioWAV/1001_TAI_SAD_XX.wav": "the file is empty",
    }
