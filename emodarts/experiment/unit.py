"""One unit of work: a complete search on one fold, training and test of what it found. No Ray, one process."""

from collections.abc import Mapping, Sequence
from functools import partial

from emodarts.corpora.protocols.folds import Fold
from emodarts.experiment.evaluations import final_evaluations, supernet_evaluations
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.fold_settings import SVM, FoldSettings
from emodarts.experiment.stages import adopt_genotype, derive, hand_designed, predict_part, search, train
from emodarts.experiment.training_corpus import CrossCorpusTest
from emodarts.experiment.unit_checkpoints import Folder
from emodarts.experiment.unit_records import unit_records
from emodarts.experiment.unit_spec import TransferredGenotype
from emodarts.features.store.joined import AnyStore
from emodarts.networks.sizes import layer_at
from emodarts.records import OnEpochEnd, UnitRecords, ignore_epoch
from emodarts.training import svm


def run_fold(
    store: AnyStore,
    fold: Fold,
    settings: FoldSettings,
    seed: int = 0,
    device: str = "cpu",
    on_epoch_end: OnEpochEnd = ignore_epoch,
    checkpoints: Folder | None = None,
    tests: bool = True,
    cross_corpus_tests: Sequence[CrossCorpusTest] = (),
    transferred: TransferredGenotype | None = None,
    conditions: Mapping[str, AnyStore] | None = None,
) -> UnitRecords:
    """Search, derive, train, predict: the records of one fold. With a `transferred` genotype nothing is searched.

    The test part is not touched before the final network's epoch is chosen, and never where `tests` is False (for
    decisions on the design, which are taken on dev figures); nor are `cross_corpus_tests`, which are predicted twice,
    with the normalisation of the fold's train part and with their own, and the test part under other `conditions` (name
    -> features of the degraded recordings). `on_epoch_end` gets the record of each epoch.
    `checkpoints` is a folder of this unit's own, on a disk or in any storage: a unit that was stopped goes on from
    there as if it had never stopped (bit for bit on a CPU). It stays until `discard_checkpoints`.
    Raises EmodartsError for a leaking fold, one without dev part and checkpoints of another unit, and
    FloatingPointError or RuntimeError where a loss is not finite.
    """
    data = FoldData.of(store, fold, settings, device)
    if settings.system == SVM:
        layer = layer_at(settings.training.layer, store.channels)
        chosen = slice(None) if layer is None else slice(layer, layer + 1)
        layers = chosen if settings.features.learned_layers else None
        penalty = settings.training.svm_penalty
        machine = svm.fit(data.train, len(fold.classes), penalty, seed, layers, settings.batches)
        final = final_evaluations(data, machine.predict, tests, cross_corpus_tests, conditions)
        return unit_records(data, None, machine, final)
    search_result = None
    if transferred is not None:
        search_result = adopt_genotype(data, transferred)
    elif settings.searches:
        search_result = search(data, seed, on_epoch_end, checkpoints)
    architecture = derive(data, search_result) if search_result else hand_designed(data)
    trained = train(data, architecture, seed, on_epoch_end, checkpoints)
    predict = partial(predict_part, data, trained.network)
    final = final_evaluations(data, predict, tests, cross_corpus_tests, conditions)
    return unit_records(data, search_result, trained, [*supernet_evaluations(data, search_result), *final])
