"""Labels: how each corpus's own words become classes. Every mapping and policy is data that can be listed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from emodarts.corpora.description import CorpusDescription
from emodarts.corpora.readers import corpus_names, describe
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped
from emodarts.errors import EmodartsError

FOUR = ("angry", "happy", "neutral", "sad")
COMMON = "common"  # a class set of several corpora: the classes that all of them have
OTHER, NO_AGREEMENT = "other", "no_agreement"  # a class only where asked for by name; never a class


@dataclass(frozen=True)
class Labels:
    """The class of each labelled utterance; the words left out by policy, with counts; unknown words as drops.

    `unlabelled` maps the ids of utterances without any word to their paths: hidden test labels, or gaps.
    """

    classes: tuple[str, ...]
    by_utterance: dict[str, str]
    left_out: dict[str, int]
    unknown: tuple[Dropped, ...]
    unlabelled: dict[str, str]


def label_utterances(utterances: pa.Table, settings: CorpusSettings) -> Labels:
    """Label the utterances (schema UTTERANCES) under the settings' class set and policies.

    Raises EmodartsError where fewer than two classes, or a class that the settings name, have no utterance.
    """
    description = describe(settings.name)
    source = label_source(settings)
    class_names = _class_names(settings.class_set)
    open_words = description.open_words and settings.class_set.strip().lower() != "four"
    present: Counter[str] = Counter()
    by_utterance: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    unknown: list[Dropped] = []
    unlabelled: dict[str, str] = {}
    scenarios = _scenarios(utterances, settings)
    columns = (utterances[name].to_pylist() for name in ("utterance", "path", source, "scenario"))
    for utterance, path, word, scenario in zip(*columns, strict=True):
        if scenarios is not None and scenario not in scenarios:
            left_out[f"scenario {scenario}"] += 1
            continue
        if not word or not word.strip():
            unlabelled[utterance] = path
            continue
        name = description.words.get(word.strip().lower())
        if name is None and open_words:
            name = word.strip().lower()
        if name is None:
            unknown.append(Dropped(path, _why_unknown(word, description)))
            continue
        present[name] += name != NO_AGREEMENT
        name = _apply_policies(name, settings, class_names)
        if name is None or (class_names is not None and name not in class_names):
            left_out[word] += 1
        else:
            by_utterance[utterance] = name
    classes = tuple(sorted(class_names or set(by_utterance.values())))
    _check(classes, by_utterance, present, settings, unknown, len(unlabelled))
    return Labels(classes, by_utterance, dict(sorted(left_out.items())), tuple(unknown), unlabelled)


def _scenarios(utterances: pa.Table, settings: CorpusSettings) -> set[str] | None:
    if settings.scenario is None:
        return None
    wanted = {name.strip() for name in settings.scenario.split(",") if name.strip()}
    present = set(utterances["scenario"].to_pylist()) - {None}
    if not wanted or wanted - present:
        raise EmodartsError(
            f"corpus.scenario={settings.scenario}: {settings.name} has {', '.join(sorted(present)) or 'none'}; name "
            f"one or several of them, with commas between"
        )
    return wanted


def label_source(settings: CorpusSettings) -> str:
    """`intended` or `perceived`: as set, else the corpus's default. Raises EmodartsError where there are none."""
    sources = describe(settings.name).sources
    if settings.source is not None and settings.source not in sources:
        raise EmodartsError(
            f"corpus.source={settings.source}: {settings.name} has {' and '.join(sources)} labels alone; take "
            f"corpus.source={sources[0]}"
        )
    return settings.source or sources[0]


def common_classes(corpora: Sequence[str]) -> str:
    """The classes that all of these corpora know, as a class set. Raises EmodartsError for fewer than two."""
    descriptions = [describe(corpus) for corpus in corpora]
    classes = {of.name: set(of.words.values()) - {OTHER, NO_AGREEMENT} for of in descriptions}
    common = sorted(set.intersection(*classes.values()))
    if len(common) < 2:
        listed = "; ".join(f"{name}: {', '.join(sorted(names))}" for name, names in classes.items())
        raise EmodartsError(f"corpus.class_set={COMMON}: fewer than two classes are in all corpora ({listed})")
    return ",".join(common)


def label_mappings(corpus: str | None = None) -> list[tuple[str, str, str]]:
    """(corpus, word, class) for every word of a corpus, or of every corpus."""
    corpora = [describe(name) for name in (corpus_names() if corpus is None else (corpus,))]
    return [(description.name, word, to) for description in corpora for word, to in description.words.items()]


def _class_names(class_set: str) -> tuple[str, ...] | None:
    """The classes asked for, in the lower case that classes have; None: all."""
    named = class_set.strip().lower()
    if named == "four":
        return FOUR
    return None if named == "full" else tuple({name.strip() for name in named.split(",") if name.strip()})


def _apply_policies(name: str, settings: CorpusSettings, class_names: tuple[str, ...] | None) -> str | None:
    if name == NO_AGREEMENT:
        return None
    if class_names is not None and name in class_names:  # asked for by name: a class of its own
        return name
    if name == "excited":
        return "happy" if settings.excited == "happy" else None
    if name == "calm" and settings.calm == "neutral":
        return "neutral"
    return None if name == OTHER else name


def _why_unknown(word: str, description: CorpusDescription) -> str:
    hint = ": rename it in the table, or take it as a class with corpus.class_set=full or a list of classes"
    return f"the label '{word}' is not known to {description.name}" + (hint if description.open_words else "")


def _check(
    classes: tuple[str, ...],
    by_utterance: dict[str, str],
    present: Counter[str],
    settings: CorpusSettings,
    unknown: list[Dropped],
    unlabelled: int,
) -> None:
    counts = Counter(by_utterance.values())
    few = [f"{name} ({counts[name]})" for name in classes if counts[name] < 2]
    if few or len(classes) < 2:
        known = ", ".join(f"{name} ({count})" for name, count in present.most_common(12) if count)
        hint = f"; there are {known}{', ...' if len(present) > 12 else ''}" if known else ""
        hint += f"; {len(unknown)} labels were not known, the first: {unknown[0].reason}" if unknown else ""
        hint += f"; {unlabelled} utterances have no {label_source(settings)} label" if unlabelled else ""
        what = f"too few utterances of {', '.join(few)}" if few else "fewer than two classes"
        raise EmodartsError(f"{settings.name}: {what}; choose the classes with corpus.class_set='a,b,...'{hint}")
