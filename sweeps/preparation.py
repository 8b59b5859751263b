"""What comes before a sweep: the corpus is read, labelled, divided and extracted, and what was found is said."""

from collections import Counter
from dataclasses import replace

import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emodarts import corpora
from emodarts.corpora import labels as labelling
from emodarts.corpora import protocols
from emodarts.corpora.protocols import Fold
from emodarts.corpora.rules import NO_DEV
from emodarts.corpora.table import Corpus
from emodarts.errors import EmodartsError
from emodarts.experiment import ForeignTest, choose_device, subsample_name
from emodarts.features import store as features
from emodarts.results import reader
from emodarts.results.storage import Storage
from sweeps.data import Foreign, SweepData
from sweeps.settings import Settings


def prepare(settings: Settings, console: Console, needs_dev: bool = True) -> SweepData:
    """Read, check the protocol, extract features, and make the folds of what could be decoded."""
    corpus = corpora.read(settings.corpus, lambda text: _say(console, text))
    found = labelling.label(corpus.utterances, settings.corpus)
    made = protocols.make(settings.corpus, corpus.utterances, found)  # before hours of extraction
    if needs_dev and made[0].weakness == NO_DEV:
        raise EmodartsError(
            f"{made[0].protocol} has no dev part, so a sweep could choose nothing without its test speakers: it is "
            f"there for comparison with published figures (published=true runs it beside a clean one); take one of "
            f"{', '.join(protocols.protocols_of(corpus.name))}"
        )
    store = _features(settings, corpus, console)
    utterances = corpus.utterances.filter(pc.is_in(corpus.utterances["utterance"], store.utterances))
    labels = labelling.label(utterances, settings.corpus)
    if len(store.utterances) < corpus.utterances.num_rows:
        made = protocols.make(settings.corpus, utterances, labels)
    folds = _chosen(settings, made)
    for fold in folds.values():
        for system in settings.systems.values():
            subsample_name(fold, system)  # refuses one that is too small
    others = tuple(_foreign(settings, name, labels.classes, console) for name in settings.extra_tests)
    return SweepData(corpus, labels, folds, made, store, others)


def _foreign(settings: Settings, name: str, classes: tuple[str, ...], console: Console) -> Foreign:
    """Another corpus as a test set: the classes of the sweep, the policies of its corpus, the same features."""
    if name == settings.corpus.name:
        raise EmodartsError(f"extra_tests={name}: the sweep trains on it, so that its speakers are no test")
    class_set = settings.corpus.class_set
    about = replace(
        settings.corpus,
        name=name,
        root=settings.roots.get(name),
        class_set=",".join(classes) if class_set.strip().lower() == "full" else class_set,
        protocol=None,
        source=None,
        scenario=None,
        table=None,
        columns={},
    )
    corpus = corpora.read(about, lambda text: _say(console, text))
    store = _features(settings, corpus, console)
    utterances = corpus.utterances.filter(pc.is_in(corpus.utterances["utterance"], store.utterances))
    labels = labelling.label(utterances, about)
    speakers = dict(zip(*(utterances[column].to_pylist() for column in ("utterance", "speaker")), strict=True))
    ids = tuple(sorted(labels.by_utterance))
    return Foreign(
        corpus, labels, ForeignTest(f"{name}/all", store, ids, labels.by_utterance, {u: speakers[u] for u in ids})
    )


def _features(settings: Settings, corpus: Corpus, console: Console) -> features.Store:
    columns = (TextColumn("features"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("features", total=corpus.utterances.num_rows)
        return features.build(
            corpus.utterances,
            corpus.root,
            settings.features,
            corpora.cache_folder() / "features",
            choose_device(settings.resources.device),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            say=lambda text: _say(console, text),
        )


def _chosen(settings: Settings, made: tuple[Fold, ...]) -> dict[int, Fold]:
    wanted = range(len(made)) if settings.sweep.folds is None else settings.sweep.folds
    for index in wanted:
        if not 0 <= index < len(made):
            raise EmodartsError(f"sweep.folds={list(wanted)}: {made[0].protocol} has folds 0 to {len(made) - 1}")
    return {index: made[index] for index in sorted(set(wanted))}


def check_data(known: reader.Results, data: SweepData) -> None:
    """Refuse to go on where the data are no longer those that the finished units saw."""
    for commit in known.commits:
        fold = data.folds.get(commit.key.fold)
        if fold is not None and fold.protocol == commit.key.protocol and fold.hash != commit.key.fold_hash:
            raise EmodartsError(
                f"sweep '{commit.key.sweep}': fold {fold.index} of {fold.protocol} was {commit.key.fold_hash}, now "
                f"{fold.hash}: files of the corpus have come or gone since; restore them or take another sweep.name"
            )


def say_data(console: Console, name: str, storage: Storage, data: SweepData, audit: list[str]) -> None:
    """Say what was read, labelled, left out, dropped and warned of, and where the results go."""
    left_out, dropped = sum(data.labels.left_out.values()), data.dropped
    first = next(iter(data.folds.values()))
    lines = [
        f"sweep {name} -> {storage.path(name)}",
        f"{data.corpus.name}: {len(data.labels.by_utterance)} utterances of {', '.join(data.labels.classes)}; "
        f"{left_out} of other classes left out, {len(dropped)} dropped; {data.protocol}, {len(data.folds)} folds",
    ]
    if first.weakness:
        lines.append(f"  {data.protocol}: {first.weakness}; every row says so")
    for reason, count in Counter(first.left_out.values()).most_common():
        lines.append(f"  {count} utterances in no part of fold {first.index}: {reason}")
    lines += [f"  dropped {row['path']}: {row['reason']}" for row in dropped[:5]]
    if len(dropped) > 5:
        lines.append(f"  and {len(dropped) - 5} more: see the corpora table")
    for other in data.foreign:
        test, speakers = other.test, len({s for s in other.test.speakers.values() if s})
        lines.append(
            f"{test.name}: {len(test.utterances)} utterances of {speakers} speakers, tested on by every network; "
            f"{sum(other.labels.left_out.values())} of other classes left out, {len(other.dropped)} dropped"
        )
    for line in [*lines, *audit]:
        _say(console, line)


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
