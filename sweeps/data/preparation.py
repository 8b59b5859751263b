"""What comes before a sweep: corpora are read, labelled, divided and extracted, and what was found is said."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emodarts import corpora
from emodarts.corpora import labels as labelling
from emodarts.corpora.protocols import folds as protocols
from emodarts.corpora.protocols.folds import Fold
from emodarts.corpora.protocols.rules import NO_DEV
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Corpus
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import CrossCorpusTest, subsample_name
from emodarts.experiment.unit import choose_device
from emodarts.features.store import store as features
from emodarts.results import reader
from emodarts.storage import Storage
from sweeps.data.sweep_data import SweepData, TestCorpus, TrainingCorpus
from sweeps.settings import Settings


def prepare(settings: Settings, console: Console, needs_dev: bool = True) -> SweepData:
    """Read, check the protocol, extract features, and make the folds of what could be decoded."""
    read = [_read(about, console) for about in settings.training_corpora]
    _check_protocol(settings, read, needs_dev)  # before hours of extraction
    trained = tuple(_extracted(settings, one, console) for one in read)
    made = protocols.of_corpora({one.corpus.name: one.folds for one in trained})
    folds = _chosen(settings, made)
    for fold in folds.values():
        for system in settings.systems.values():
            subsample_name(fold, system)  # refuses one that is too small
    # Whatever order they are named in: the hash of the recordings goes by this one.
    others = tuple(_foreign(settings, name, made[0].classes, console) for name in sorted(settings.extra_tests))
    return SweepData(trained, folds, made, others)


@dataclass(frozen=True)
class _Read:
    """A corpus before its features are there: its folds are those of all that could be labelled."""

    settings: CorpusSettings
    corpus: Corpus
    folds: tuple[Fold, ...]


def _read(about: CorpusSettings, console: Console) -> _Read:
    corpus = corpora.read(about, lambda text: _say(console, text))
    return _Read(
        about, corpus, protocols.make_folds(about, corpus.utterances, labelling.label(corpus.utterances, about))
    )


def _check_protocol(settings: Settings, read: Sequence[_Read], needs_dev: bool) -> None:
    """Raise EmodartsError for a missing dev part that is needed, corpora that do not join, tests on what trains."""
    made = protocols.of_corpora({one.corpus.name: one.folds for one in read})
    if needs_dev and made[0].protocol_caveat == NO_DEV:
        others = protocols.protocols_of(read[0].corpus.name)
        raise EmodartsError(
            f"{made[0].protocol} has no dev part, so a sweep could choose nothing without its test speakers: it is "
            f"there for comparison with published figures (published_protocol=true runs it beside a clean one); take "
            f"{', '.join(others)}"
        )
    for name in settings.extra_tests:
        protocols.refuse_trained(made, name)


def _extracted(settings: Settings, read: _Read, console: Console) -> TrainingCorpus:
    """The corpus with its features, and the folds of what could be decoded."""
    corpus, about, folds = read.corpus, read.settings, read.folds
    store = _features(settings, corpus, console)
    utterances = corpus.utterances.filter(pc.is_in(corpus.utterances["utterance"], store.utterances))
    labels = labelling.label(utterances, about)
    if len(store.utterances) < corpus.utterances.num_rows:
        folds = protocols.make_folds(about, utterances, labels)
    return TrainingCorpus(about, corpus, labels, folds, store)


def _foreign(settings: Settings, name: str, classes: tuple[str, ...], console: Console) -> TestCorpus:
    """Another corpus as a test set: the classes of the sweep, the policies of its corpus, the same features."""
    class_set = settings.corpus.class_set
    about = replace(
        settings.corpus.for_corpus(name, settings.roots.get(name)),
        class_set=",".join(classes) if class_set.strip().lower() == "full" else class_set,
    )
    corpus = corpora.read(about, lambda text: _say(console, text))
    store = _features(settings, corpus, console)
    utterances = corpus.utterances.filter(pc.is_in(corpus.utterances["utterance"], store.utterances))
    labels = labelling.label(utterances, about)
    speakers = dict(zip(*(utterances[column].to_pylist() for column in ("utterance", "speaker")), strict=True))
    ids = tuple(sorted(labels.by_utterance))
    return TestCorpus(
        corpus, labels, CrossCorpusTest(f"{name}/all", store, ids, labels.by_utterance, {u: speakers[u] for u in ids})
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


def print_data_summary(console: Console, name: str, storage: Storage, data: SweepData, audit: list[str]) -> None:
    """Say what was read, labelled, left out, dropped and warned of, and where the results go."""
    first = next(iter(data.folds.values()))
    lines = [f"sweep {name} -> {storage.path(name)}", *_lines_of_trained(data)]
    if first.protocol_caveat:
        lines.append(f"  {data.protocol}: {first.protocol_caveat}; every row says so")
    for reason, count in Counter(first.left_out.values()).most_common():
        lines.append(f"  {count} utterances in no part of fold {first.index}: {reason}")
    for one in data.trained:
        whose = f"{one.corpus.name}: " if len(data.trained) > 1 else ""
        lines += [f"  dropped {whose}{row['path']}: {row['reason']}" for row in one.dropped[:5]]
        if len(one.dropped) > 5:
            lines.append(f"  and {len(one.dropped) - 5} more: see the corpora table")
    for other in data.foreign:
        test, speakers = other.test, len({s for s in other.test.speakers.values() if s})
        lines.append(
            f"{test.name}: {len(test.utterances)} utterances of {speakers} speakers, tested on by every network; "
            f"{sum(other.labels.left_out.values())} of other classes left out, {len(other.dropped)} dropped"
        )
    for line in [*lines, *audit]:
        _say(console, line)


def _lines_of_trained(data: SweepData) -> list[str]:
    """What the networks learn from: a line a corpus, and one of how they are joined."""
    joined = f"{data.protocol}, {len(data.folds)} folds"
    lines = []
    for one in data.trained:
        labels, protocol = one.labels, joined if len(data.trained) == 1 else one.folds[0].protocol
        lines.append(
            f"{one.corpus.name}: {len(labels.by_utterance)} utterances of {', '.join(labels.classes)}; "
            f"{sum(labels.left_out.values())} of other classes left out, {len(one.dropped)} dropped; {protocol}"
        )
    if len(data.trained) > 1:
        lines.append(f"{joined}: trained on together, all standardised by the statistics of the joined train part")
    return lines


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
