"""What comes before a sweep: corpora are read, labelled, divided into folds and extracted, and a summary is printed."""

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from emodarts import corpora
from emodarts.console import print_line, print_logs, progress_bar
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import Fold, check_not_trained_on, folds_of_corpora, make_folds, protocol_names
from emodarts.corpora.protocols.rules import NO_DEV
from emodarts.corpora.settings import CorpusSettings, short_name
from emodarts.corpora.table import Corpus
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_settings import subsample_name
from emodarts.experiment.training_corpus import CrossCorpusTest, TrainingCorpus, extract_features
from emodarts.features.condition_names import conditions_of
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.building import Progress
from emodarts.features.store.plan import ExtractionPlan
from emodarts.features.store.store import Store
from emodarts.results.reader import Results
from emodarts.storage import Storage
from sweeps.data.sweep_data import SweepData, TestCorpus
from sweeps.settings import Settings

_SHOWN_DROPPED = 5  # files of a corpus that the summary names


def prepare(settings: Settings, console: Console, needs_dev: bool = True) -> SweepData:
    """Read, check the protocol, extract features, and make the folds of what could be decoded. Raises EmodartsError."""
    with print_logs(console):
        read = [(own, corpora.read(own)) for own in settings.training_corpora]
        _check_protocol(settings, read, needs_dev)  # before hours of extraction
        trained = tuple(
            TrainingCorpus.of(own, corpus, *_extract_features(settings, corpus, console)) for own, corpus in read
        )
        all_folds = folds_of_corpora({t.corpus.name: t.folds for t in trained})
        folds = _selected_folds(settings, all_folds)
        for fold in folds.values():
            for system in settings.systems.values():
                subsample_name(fold, system)  # refuses one that is too small
        # Sorted: the hash of the recordings depends on the order.
        others = tuple(
            _test_corpus(settings, name, all_folds[0].classes, console)
            for name in sorted(settings.extra_tests, key=short_name)
        )
        names = conditions_of(settings.robustness)
        conditions = {name: tuple(_degraded_store(settings, t, name, console) for t in trained) for name in names}
        return SweepData(trained, folds, all_folds, others, conditions)


def _check_protocol(settings: Settings, read: Sequence[tuple[CorpusSettings, Corpus]], needs_dev: bool) -> None:
    """Raise EmodartsError for a missing dev part that is needed, corpora that do not join, tests on what trains.

    By the folds of all that could be labelled, decoded or not.
    """
    planned = {c.name: make_folds(own, c.utterances, label_utterances(c.utterances, own)) for own, c in read}
    folds = folds_of_corpora(planned)
    if needs_dev and folds[0].protocol_caveat == NO_DEV:
        others = protocol_names(next(iter(planned)))
        raise EmodartsError(
            f"{folds[0].protocol} has no dev part, so a sweep could choose nothing without its test speakers: it is "
            f"there for comparison with published figures (published_protocol=true runs it beside a clean one); take "
            f"one of {', '.join(others)}"
        )
    for name in settings.extra_tests:
        check_not_trained_on(folds, short_name(name))


def _test_corpus(settings: Settings, name: str, classes: tuple[str, ...], console: Console) -> TestCorpus:
    """Another corpus as a test set: the classes of the sweep, the policies of its corpus, the same features."""
    class_set = settings.corpus.class_set
    own = replace(
        settings.corpus.for_corpus(name, settings.roots.get(short_name(name))),
        class_set=",".join(classes) if class_set.strip().lower() == "full" else class_set,
    )
    corpus = corpora.read(own)
    store, utterances = _extract_features(settings, corpus, console)
    labels = label_utterances(utterances, own)
    speakers = dict(zip(*(utterances[column].to_pylist() for column in ("utterance", "speaker")), strict=True))
    ids = tuple(sorted(labels.by_utterance))
    test = CrossCorpusTest(f"{corpus.name}/all", store, ids, labels.by_utterance, {u: speakers[u] for u in ids})
    return TestCorpus(corpus, labels, test)


def _extract_features(settings: Settings, corpus: Corpus, console: Console) -> tuple[Store, pa.Table]:
    with progress_bar(console, "features", corpus.utterances.num_rows) as progress:
        return _extract(settings, corpus, settings.features, console, progress)


def _extract(
    settings: Settings, corpus: Corpus, features: FeatureSettings, console: Console, progress: Progress
) -> tuple[Store, pa.Table]:
    """In this process and others beside it; an encoder's features on nodes with a GPU, where there is Ray and one."""

    def on_nodes(plan: ExtractionPlan, folder: Path, missing: Sequence[int]) -> Generator[int, None, None] | None:
        if not plan.settings.is_encoder:
            return None
        from sweeps.data.node_extraction import extract_on_nodes  # Ray and torch, which take seconds

        return extract_on_nodes(settings, console, plan, folder, missing)

    return extract_features(corpus, features, settings.resources.device, progress, on_nodes)


def _degraded_store(settings: Settings, trained: TrainingCorpus, condition: str, console: Console) -> Store:
    """The features of what a corpus tests, as heard under a condition, without copies to train on."""
    from emodarts.features.conditions import degrade_corpus  # scipy.signal is not wanted otherwise

    tested = {utterance for fold in trained.folds for utterance in fold.test_ids}
    rows = trained.corpus.utterances
    rows = rows.filter(pc.is_in(rows["utterance"], pa.array(sorted(tested), pa.string())))
    with progress_bar(console, condition, rows.num_rows) as progress:
        table, root = degrade_corpus(
            rows, trained.corpus.root, condition, corpora.cache_folder() / "conditions", progress
        )
    degraded = replace(trained.corpus, root=root, utterances=table)
    features = replace(settings.features, speeds=[1.0], noise_snr_db=[])
    return _extract(settings, degraded, features, console, lambda done, total: None)[0]


def _selected_folds(settings: Settings, folds: tuple[Fold, ...]) -> dict[int, Fold]:
    """The folds that `sweep.folds` names, by number. Raises EmodartsError for a number that the protocol has not."""
    numbers = range(len(folds)) if settings.sweep.folds is None else settings.sweep.folds
    if not all(0 <= number < len(folds) for number in numbers):
        raise EmodartsError(f"sweep.folds={list(numbers)}: {folds[0].protocol} has folds 0 to {len(folds) - 1}")
    return {number: folds[number] for number in sorted(set(numbers))}


def check_data(results: Results, data: SweepData) -> None:
    """Raise EmodartsError where a fold is no longer that of the units that have ended: the sweep cannot go on."""
    for commit in results.commits:
        fold, inner = data.folds.get(commit.key.fold), commit.key.inner
        if inner is not None:  # another sweep.inner is refused as another setting
            fold = dict(enumerate(data.inner_folds.get(commit.key.fold, ()))).get(inner)
        if fold is not None and fold.protocol == commit.key.protocol and fold.hash != commit.key.fold_hash:
            raise EmodartsError(
                f"sweep '{commit.key.sweep}': fold {fold.index} of {fold.protocol} was {commit.key.fold_hash}, now "
                f"{fold.hash}: files of the corpus have come or gone since; restore them or take another sweep.name"
            )


def print_data_summary(console: Console, name: str, storage: Storage, data: SweepData, audit: list[str]) -> None:
    """Print what was read, labelled, left out, dropped and warned of, and where the results go."""
    first = next(iter(data.folds.values()))
    lines = [f"sweep {name} -> {storage.path(name)}", *_lines_of_training(data)]
    if first.protocol_caveat:
        lines.append(f"  {data.protocol}: {first.protocol_caveat}; every row says so")
    for reason, count in Counter(first.left_out.values()).most_common():
        lines.append(f"  {count} utterances in no part of fold {first.index}: {reason}")
    for trained in data.trained:
        owner = f"{trained.corpus.name}: " if len(data.trained) > 1 else ""
        lines += [f"  dropped {owner}{row['path']}: {row['reason']}" for row in trained.dropped[:_SHOWN_DROPPED]]
        if len(trained.dropped) > _SHOWN_DROPPED:
            lines.append(f"  and {len(trained.dropped) - _SHOWN_DROPPED} more: see the corpora table")
    for other in data.foreign:
        test, speakers = other.test, len({s for s in other.test.speakers.values() if s})
        lines.append(
            f"{test.name}: {len(test.utterances)} utterances of {speakers} speakers, tested on by every network; "
            f"{sum(other.labels.left_out.values())} of other classes left out, {len(other.dropped)} dropped"
        )
    for line in [*lines, *audit]:
        print_line(console, line)


def _lines_of_training(data: SweepData) -> list[str]:
    """What the networks learn from: a line a corpus, and one on how they are joined."""
    joined = f"{data.protocol}, {len(data.folds)} folds"
    lines = []
    for trained in data.trained:
        labels, protocol = trained.labels, joined if len(data.trained) == 1 else trained.folds[0].protocol
        lines.append(
            f"{trained.corpus.name}: {len(labels.by_utterance)} utterances of {', '.join(labels.classes)}; "
            f"{sum(labels.left_out.values())} of other classes left out, {len(trained.dropped)} dropped; {protocol}"
        )
    if len(data.trained) > 1:
        lines.append(f"{joined}: trained on together, all standardised by the statistics of the joined train part")
    return lines
