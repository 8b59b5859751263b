"""The predictions of a unit's networks on dev, on its test sets and on other corpora, as records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from emodarts.corpora.protocols.folds import Fold
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.training_corpus import CrossCorpusTest
from emodarts.features.batches import FoldPart
from emodarts.features.normalisation import Normaliser, Standardiser
from emodarts.features.store.joined import AnyStore
from emodarts.records import LAST, LATE_DEV, Evaluation
from emodarts.search.task import SearchResult

Predict = Callable[[FoldPart], NDArray[np.float32]]  # probabilities (utterances, classes) of a part


def supernet_evaluations(data: FoldData, search_result: SearchResult | None) -> list[Evaluation]:
    """The supernet's own predictions on dev; none where the search trains no supernet."""
    if search_result is None or search_result.dev_probabilities is None:
        return []
    normalisation, probabilities = data.settings.features.normalisation, search_result.dev_probabilities
    epoch_rule = LATE_DEV if data.settings.search.derive_at == "best_dev" else LAST
    return [evaluation(data.fold, data.fold.dev, "supernet", "dev", "dev", normalisation, probabilities, epoch_rule)]


def final_evaluations(
    data: FoldData,
    predict: Predict,
    tests: bool,
    cross_corpus_tests: Sequence[CrossCorpusTest],
    conditions: Mapping[str, AnyStore] | None = None,
) -> list[Evaluation]:
    """The final predictions on dev and, where `tests`, on each test set, on those of other corpora, and on each test
    set under other `conditions` (name -> features of the degraded recordings).
    """
    fold, rule = data.fold, data.settings.features.normalisation
    parts = [("dev", "dev", fold.dev), *(("test", name, ids) for name, ids in fold.tests.items() if tests)]
    own_tests = [evaluation(fold, ids, "final", role, name, rule, predict(data.part(ids))) for role, name, ids in parts]
    own_tests += [e for test in cross_corpus_tests if tests for e in _cross_evaluations(data, predict, test)]
    degraded = (conditions or {}).items() if tests else ()
    return own_tests + [e for name, store in degraded for e in _condition_evaluations(data, predict, name, store)]


def _condition_evaluations(data: FoldData, predict: Predict, condition: str, store: AnyStore) -> list[Evaluation]:
    """Predictions on the test sets as heard under a condition; statistics of speakers are those of what is heard.

    Recordings of which nothing is left under the condition are left out.
    """
    fold, rule, usable = data.fold, data.settings.features.normalisation, set(store.utterances.to_pylist())
    evaluations = []
    for name, utterances in fold.tests.items():
        ids = tuple(utterance for utterance in utterances if utterance in usable)
        if not ids:
            continue
        normaliser = Normaliser(store, rule, {"test": ids}, fold.speakers, data.standardiser)
        part = FoldPart.of(store, normaliser.standardiser(ids), fold, ids)
        predicted = evaluation(fold, ids, "final", "test", name, rule, predict(part))
        evaluations.append(replace(predicted, condition=condition))
    return evaluations


def _cross_evaluations(data: FoldData, predict: Predict, test: CrossCorpusTest) -> list[Evaluation]:
    """Predictions on another corpus, normalised as the fold's other parts are, and by the corpus's own statistics."""
    fold = replace(data.fold, labels=test.labels, speakers=test.speakers)
    rule, ids = data.settings.features.normalisation, test.utterances
    normaliser = Normaliser(test.store, rule, {"cross": ids}, test.speakers, data.standardiser)
    standardisers = {rule: normaliser.standardiser(ids), "test": Standardiser.fit(test.store, ids)}
    parts = {by: FoldPart.of(test.store, standardiser, fold, ids) for by, standardiser in standardisers.items()}
    return [evaluation(fold, ids, "final", "cross", test.name, by, predict(part)) for by, part in parts.items()]


def evaluation(
    fold: Fold,
    utterances: tuple[str, ...],
    stage: str,
    role: str,
    test_set: str,
    normalisation: str,
    probabilities: NDArray[np.float32],
    epoch_rule: str = LATE_DEV,
) -> Evaluation:
    """Predictions `probabilities (utterances, classes)` on utterances of the fold, with their labels and speakers."""
    return Evaluation(
        stage=stage,
        epoch_rule=epoch_rule,
        role=role,
        test_set=test_set,
        normalisation=normalisation,
        utterances=utterances,
        speakers=tuple(fold.speakers.get(u) for u in utterances),
        labels=tuple(fold.labels.get(u) for u in utterances),
        probabilities=probabilities,
    )
