"""Labels: how each corpus's own words become classes. Every mapping and policy is data that can be listed."""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped
from emodarts.errors import EmodartsError

FOUR = ("angry", "happy", "neutral", "sad")
MAPPINGS: dict[str, dict[str, str]] = {
    "demo": {name: name for name in FOUR},
    "emodb": {
        "anger": "angry",
        "boredom": "bored",
        "disgust": "disgusted",
        "fear": "fearful",
        "happiness": "happy",
        "sadness": "sad",
        "neutral": "neutral",
    },
    "ravdess": {
        "neutral": "neutral",
        "calm": "calm",
        "happy": "happy",
        "sad": "sad",
        "angry": "angry",
        "fearful": "fearful",
        "disgust": "disgusted",
        "surprised": "surprised",
    },
    "manifest": {
        **dict.fromkeys(("angry", "anger", "ang"), "angry"),
        **dict.fromkeys(("happy", "happiness", "joy", "hap"), "happy"),
        **dict.fromkeys(("excited", "exc"), "excited"),
        **dict.fromkeys(("neutral", "neu"), "neutral"),
        **dict.fromkeys(("sad", "sadness"), "sad"),
        **dict.fromkeys(("fear", "fearful", "fea"), "fearful"),
        **dict.fromkeys(("disgust", "disgusted", "dis"), "disgusted"),
        **dict.fromkeys(("surprise", "surprised", "sur"), "surprised"),
        **dict.fromkeys(("bored", "boredom"), "bored"),
        "calm": "calm",
    },
}


@dataclass(frozen=True)
class Labels:
    """The class of each labelled utterance, the words left out by policy (with counts), and unknown words as drops."""

    classes: tuple[str, ...]
    by_utterance: dict[str, str]
    left_out: dict[str, int]
    unknown: tuple[Dropped, ...]


def label(utterances: pa.Table, settings: CorpusSettings) -> Labels:
    """Label the utterances (schema UTTERANCES) under the settings' class set and policies.

    Raises EmodartsError where fewer than two classes, or a class that the settings name, have no utterance.
    """
    mapping = MAPPINGS[settings.name]
    wanted = _wanted(settings.class_set)
    found: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    unknown = []
    columns = (utterances[name].to_pylist() for name in ("utterance", "path", settings.source))
    for utterance, path, word in zip(*columns, strict=True):
        name = mapping.get(word.strip().lower()) if word else None
        if word and word.strip() and name is None and settings.name == "manifest" and settings.class_set != "four":
            name = word.strip().lower()
        if name is None:
            unknown.append(Dropped(path, _why_unknown(word, settings)))
            continue
        name = _apply_policies(name, settings, wanted)
        if name is None or (wanted is not None and name not in wanted):
            left_out[word] += 1
        else:
            found[utterance] = name
    classes = tuple(sorted(wanted or set(found.values())))
    _check(classes, found, settings, unknown)
    return Labels(classes, found, dict(sorted(left_out.items())), tuple(unknown))


def _wanted(class_set: str) -> tuple[str, ...] | None:
    if class_set == "four":
        return FOUR
    return None if class_set == "full" else tuple({name.strip() for name in class_set.split(",") if name.strip()})


def _apply_policies(name: str, settings: CorpusSettings, wanted: tuple[str, ...] | None) -> str | None:
    if wanted is not None and name in wanted:  # asked for by name: a class of its own
        return name
    if name == "excited":
        return "happy" if settings.excited == "happy" else None
    if name == "calm" and settings.calm == "neutral":
        return "neutral"
    return name


def _why_unknown(word: str | None, settings: CorpusSettings) -> str:
    if not word or not word.strip():
        return f"there is no {settings.source} label"
    how = ": rename it in the table, or take it as a class with corpus.class_set=full or a list of classes"
    return f"the label '{word}' is not known to {settings.name}" + (how if settings.name == "manifest" else "")


def _check(classes: tuple[str, ...], found: dict[str, str], settings: CorpusSettings, unknown: list[Dropped]) -> None:
    counts = Counter(found.values())
    few = [f"{name} ({counts[name]})" for name in classes if counts[name] < 2]
    if few or len(classes) < 2:
        hint = f"; {len(unknown)} labels were not known, the first: {unknown[0].reason}" if unknown else ""
        what = f"too few utterances of {', '.join(few)}" if few else "fewer than two classes"
        raise EmodartsError(f"{settings.name}: {what}; choose the classes with corpus.class_set='a,b,...'{hint}")
