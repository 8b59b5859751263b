"""The published protocol on one fold without dev part, for comparison alone: no figure that could choose anything."""

from emodarts.corpora.protocols.folds import Fold
from emodarts.errors import EmodartsError
from emodarts.experiment.evaluations import evaluation
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.fold_settings import SVM, FoldSettings
from emodarts.experiment.stages import derive, hand_designed, search, training_task
from emodarts.experiment.unit_checkpoints import Folder, training_checkpoints
from emodarts.experiment.unit_records import unit_records
from emodarts.features.store.joined import AnyStore
from emodarts.records import BEST_TEST, LAST, OnEpochEnd, UnitRecords, ignore_epoch
from emodarts.training import published_protocol


def run_published_protocol(
    store: AnyStore,
    fold: Fold,
    settings: FoldSettings,
    seed: int = 0,
    device: str = "cpu",
    on_epoch_end: OnEpochEnd = ignore_epoch,
    checkpoints: Folder | None = None,
) -> UnitRecords:
    """Search and train to the last epoch each: rows of epoch rule `last`.

    Beside them stand rows of rule `best_test`, the published habit: the epoch of the training with the best UAR on
    test, found by looking there after each one. Arguments as in `run_fold`. Raises EmodartsError for a fold with a dev
    part, and what `check_runnable_without_dev` refuses.
    """
    check_runnable_without_dev(settings)
    if fold.dev:
        raise EmodartsError(f"{fold.protocol} fold {fold.index} has a dev part: run_fold chooses the epoch by it")
    data = FoldData.of(store, fold, settings, device, needs_dev=False)
    search_result = search(data, seed, on_epoch_end, checkpoints) if settings.searches else None
    architecture = derive(data, search_result) if search_result else hand_designed(data)
    trained, predictions = published_protocol.train(
        architecture.build,
        training_task(data, seed),
        {name: data.part(ids) for name, ids in fold.tests.items()},
        on_epoch_end,
        training_checkpoints(checkpoints, data, architecture.genotype, seed),
    )
    evaluations = [
        evaluation(fold, fold.tests[name], "final", "test", name, settings.features.normalisation, probabilities, rule)
        for name, predicted in predictions.items()
        for rule, probabilities in ((LAST, predicted.last), (BEST_TEST, predicted.best))
    ]
    return unit_records(data, search_result, trained, evaluations)


def check_runnable_without_dev(settings: FoldSettings) -> None:
    """Raise EmodartsError for what cannot be run without dev part: no epochs to choose among, or a choice by dev."""
    method = settings.search.method
    if settings.system == SVM:
        raise EmodartsError("system=svm has no epochs that the published protocol could choose among")
    if settings.searches and method in ("random_search", "evolution", "spos", "sampler"):
        raise EmodartsError(f"search.method={method} chooses by dev, and the published protocol has no dev part")
    if settings.searches and settings.search.proposals > 1:
        raise EmodartsError(
            f"search.proposals={settings.search.proposals} chooses by dev, and the published protocol has no dev part"
        )
