"""What names of recordings say, taken apart by position and lists, not by the readers' patterns; and mutations."""

import random


def two_digits(last):
    return [f"{number:02d}" for number in range(1, last + 1)]


def emodb(stem, folder):
    women, men = ["08", "09", "13", "14", "16"], ["03", "10", "11", "12", "15"]
    words = {
        "W": "anger",
        "L": "boredom",
        "E": "disgust",
        "A": "fear",
        "F": "happiness",
        "T": "sadness",
        "N": "neutral",
    }
    speaker, text, word, version = stem[:2], stem[2:5], stem[5:6], stem[6:]
    texts = ["a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10"]
    if speaker in women + men and text in texts and word in words and version in list("abcdef"):
        return stem, speaker, "female" if speaker in women else "male", text, words[word]
    return None


def ravdess(stem, folder):
    words = dict(
        zip(two_digits(8), ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"], strict=True)
    )
    parts = stem.split("-")
    lists = (["03"], ["01"], list(words), ["01", "02"], ["01", "02"], ["01", "02"], two_digits(24))
    if len(parts) != 7 or any(part not in known for part, known in zip(parts, lists, strict=True)):
        return None
    if parts[2:4] == ["01", "02"]:  # neutral is never strong
        return None
    return stem, parts[6], "male" if int(parts[6]) % 2 else "female", parts[4], words[parts[2]]


def crema_d(stem, folder):
    stem = "1040_ITH_SAD_XX" if stem == "1040_ITH_SAD_X" else stem
    parts = stem.split("_")
    sentences = ["DFA", "IEO", "IOM", "ITH", "ITS", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI", "WSI"]
    lists = ([str(a) for a in range(1001, 1092)], sentences, ["ANG", "DIS", "FEA", "HAP", "NEU", "SAD"])
    lists = (*lists, ["LO", "MD", "HI", "XX"])
    if len(parts) != 4 or any(part not in known for part, known in zip(parts, lists, strict=True)):
        return None
    return stem, parts[0], None, parts[1], parts[2]


def tess(stem, folder):
    if not all(ord(letter) < 128 for letter in stem):
        return None
    parts = stem.lower().split("_")
    if parts == ["oa", "bite", "neutral"]:
        parts[0] = "oaf"
    speaker, word, emotion = parts[0], "".join(parts[1:2]), "_".join(parts[2:])
    emotion = "ps" if emotion in ("pleasant_surprise", "pleasant_surprised") else emotion
    known = ["angry", "disgust", "fear", "happy", "neutral", "ps", "sad"]
    letters = set("abcdefghijklmnopqrstuvwxyz")
    if speaker not in ("oaf", "yaf") or not word or set(word) - letters or emotion not in known:
        return None
    return f"{speaker.upper()}_{word}_{emotion}", speaker.upper(), "female", word, emotion


def savee(stem, folder):
    words = {"d": "disgust", "f": "fear", "h": "happiness", "n": "neutral", "sa": "sadness", "su": "surprise"}
    words["a"] = "anger"
    speaker, code = (stem[:2], stem[3:]) if stem[2:3] == "_" else (folder, stem)
    word, sentence = words.get(code[:-2]), code[-2:]
    if speaker not in ("DC", "JE", "JK", "KL") or word is None or len(code) < 3:
        return None
    if sentence not in two_digits(30 if word == "neutral" else 15):
        return None
    return f"{speaker}_{code}", speaker, "male", code, word


TWENTIES = ["03-01-06-01-02-02-20", "03-01-03-02-01-01-23"]
# corpus -> (its truth, names of the published kind)
GRAMMARS = {
    "emodb": (emodb, ["03a01Wa", "08b10Nf", "16a07Td", "10b03Lc"]),
    "ravdess": (ravdess, ["03-01-05-02-01-02-24", "03-01-01-01-02-01-01", "03-01-08-01-01-01-10", *TWENTIES]),
    "crema_d": (crema_d, ["1001_IEO_ANG_HI", "1091_WSI_NEU_XX", "1040_ITH_SAD_X", "1009_TAI_FEA_XX"]),
    "tess": (tess, ["OAF_back_angry", "YAF_witch_ps", "OA_bite_neutral", "OAF_gin_pleasant_surprise"]),
    "savee": (savee, ["DC_a01", "JE_n30", "KL_sa15", "JK_su09", "d07", "n16", "sa02"]),
}


def mutate(name, pool, rng):
    """One to three small changes: letters, digits, cases, parts, blanks, and look-alikes of other scripts."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.randrange(len(name)) if name else 0
        digit = rng.choice("00112233456789")
        kind = rng.randrange(11)
        if kind == 0:
            name = name[:at] + name[at + 1 :]
        elif kind == 1:
            name = name[:at] + rng.choice("abcfgwsuXN0123456789_- ") + name[at:]
        elif kind in (2, 3):  # another digit where a digit is, so that many stay within the grammar
            places = [n for n, letter in enumerate(name) if letter.isdigit()]
            if places:
                at = rng.choice(places)
                name = name[:at] + digit + name[at + 1 :]
        elif kind == 4:
            other = rng.choice(pool)
            name = name[:at] + other[at:]  # the end of another name
        elif kind == 5:
            name = name[:at] + name[at : at + 1].swapcase() + name[at + 1 :]
        elif kind == 6 and at + 1 < len(name):
            name = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
        elif kind == 7:
            name = rng.choice(["._", " ", "x", "0", ""]) + name + rng.choice(["", " ", " (1)", ".1", "_", "\n", "a"])
        elif kind == 8:
            look_alikes = str.maketrans({"a": "\u0430", "0": "\u0660", "1": "\uff11", "s": "\u017f", "A": "\u0391"})
            name = name[:at] + name[at : at + 1].translate(look_alikes) + name[at + 1 :]
        elif kind == 9:
            name = rng.choice([name.upper(), name.lower(), name])
        elif kind == 10:
            name = name[:at] + rng.choice(["sa", "su", "s", "n", "XX", "LO", "_", "-", "01"]) + name[at + 2 :]
    return name.replace("/", "")[:80]


def mutated_names(corpus, count):
    """`count` (folder, file name) of a corpus: first some as published, then mutated ones, and endings of all kinds."""
    valid = GRAMMARS[corpus][1]
    rng = random.Random(f"names of {corpus}")
    for number in range(count):
        stem = mutate(rng.choice(valid), valid, rng) if number >= len(valid) else valid[number]
        suffix = rng.choice(["wav"] * 8 + ["WAV", "flac", "mp4", "wav.bak", "txt"])
        folder = rng.choice(["DC", "KL", "JE", "Actor_07", "OAF_angry", "xx"])
        yield folder, f"{stem}.{suffix}"
