"""One unit of work: what may and what may not change its result."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import soundfile

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.folds import check_fold, make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.experiment import stages, unit
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.fold_settings import FoldSettings, subsample_name
from emodarts.experiment.stages import Architecture, derive, hand_designed, predict, search, train
from emodarts.experiment.train_parts import split_train_part
from emodarts.experiment.training_corpus import CrossCorpusTest
from emodarts.experiment.unit import run_fold
from emodarts.experiment.unit_spec import TransferredGenotype
from emodarts.features.conditions import degrade_corpus
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.features.store.building import build_store
from emodarts.features.store.store import Store
from emodarts.networks.genotype import CellGenotype, Edge, Genotype
from emodarts.networks.network import DiscreteNetwork
from emodarts.records import UnitKey
from emodarts.results.writer import SweepWriter
from emodarts.storage import Storage


def dev_side(records):
    """Everything a search, an epoch choice or an optimiser could have seen: all but the test predictions and times."""
    evaluations = [e for e in records.evaluations if e.role == "dev"]
    epochs = [replace(e, seconds=0.0) for e in records.epochs]
    return (
        [g.genotype_json for g in records.genotypes],
        [g.derived_at for g in records.genotypes],
        epochs,
        [(e.stage, e.probabilities.tobytes()) for e in evaluations],
    )


@pytest.fixture(scope="module")
def undisturbed(fold, demo_store, tiny):
    return run_fold(demo_store, fold, tiny, seed=3)


@pytest.mark.slow
def test_same_seed_same_bits_and_another_seed_differs(fold, demo_store, tiny, undisturbed):
    again = run_fold(demo_store, fold, tiny, seed=3)
    assert dev_side(again) == dev_side(undisturbed)
    assert again.evaluations[-1].probabilities.tobytes() == undisturbed.evaluations[-1].probabilities.tobytes()
    assert dev_side(run_fold(demo_store, fold, tiny, seed=4)) != dev_side(undisturbed)


@pytest.mark.slow
def test_permuted_test_labels_change_nothing_on_the_dev_side(fold, demo_store, tiny, undisturbed):
    test = fold.tests["demo/test"]
    shuffled = np.random.default_rng(0).permutation([fold.labels[u] for u in test]).tolist()
    assert shuffled != [fold.labels[u] for u in test]
    permuted = replace(fold, labels={**fold.labels, **dict(zip(test, shuffled, strict=True))})
    records = run_fold(demo_store, permuted, tiny, seed=3)
    assert dev_side(records) == dev_side(undisturbed)
    assert records.evaluations[-1].labels != undisturbed.evaluations[-1].labels


@pytest.mark.slow
def test_noise_as_test_audio_changes_nothing_on_the_dev_side(demo, fold, tiny, undisturbed, tmp_path):
    corpus, _, folds = demo
    settings = CorpusSettings(name="demo", root=str(tmp_path / "demo"))
    shutil.copytree(corpus.root, settings.root)
    paths = dict(zip(corpus.utterances["utterance"].to_pylist(), corpus.utterances["path"].to_pylist(), strict=True))
    rng = np.random.default_rng(0)
    for utterance in fold.tests["demo/test"]:
        soundfile.write(tmp_path / "demo" / paths[utterance], rng.normal(0, 0.1, 12000), 16000, subtype="PCM_16")
    copy = corpora.read(settings)
    assert make_folds(settings, copy.utterances, label_utterances(copy.utterances, settings)) == folds
    utterances = copy.utterances.filter(pc.is_in(copy.utterances["utterance"], pa.array(list(fold.roles))))
    noisy = build_store(utterances, copy.root, tiny.features, tmp_path / "cache")
    records = run_fold(noisy, fold, tiny, seed=3)
    assert dev_side(records) == dev_side(undisturbed)
    before, after = undisturbed.evaluations[-1], records.evaluations[-1]
    assert before.role == after.role == "test"
    assert not np.array_equal(before.probabilities, after.probabilities)


WITHOUT_SUPERNET = {
    "hand-designed": {"system": "cnn_lstm_attention"},
    "svm": {"system": "svm"},
    "random architecture": {"method": "random_architecture"},
    "fixed": {"method": "fixed"},
    "random search": {"method": "random_search", "candidates": 2, "candidate_epochs": 1},
    "evolution": {"method": "evolution", "candidates": 3, "candidate_epochs": 1, "population": 2, "tournament": 1},
}
WITH_SUPERNET = {
    "supernet": {},
    "frozen": {"method": "frozen"},
    "perturbation": {
        "optimisation": "bilevel",
        "selection": "perturbation",
        "perturbation_steps": 1,
        "perturbation_batches": 1,
    },
    "eigenvalue": {"optimisation": "bilevel", "stop": "eigenvalue", "stop_window": 1},
}


def chosen(settings, changes):
    """The settings with another system, or another search."""
    if "system" in changes:
        return replace(settings, **changes)
    return replace(settings, search=replace(settings.search, **changes))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*WITH_SUPERNET, *WITHOUT_SUPERNET])
def test_the_test_part_is_not_even_read_before_the_last_epoch(fold, demo_store, tiny, monkeypatch, name):
    settings = chosen(tiny, {**WITH_SUPERNET, **WITHOUT_SUPERNET}[name])
    read, seen = set(), []
    original = Store.read
    monkeypatch.setattr(Store, "read", lambda self, p, v=0: read.add((p, v)) or original(self, p, v))
    test = {(p, 0) for p in demo_store.positions(fold.tests["demo/test"]).tolist()}
    dev = set(demo_store.positions(fold.dev).tolist())

    def after_each_epoch(record):
        seen.append(read & test)

    fit = unit.svm.fit
    monkeypatch.setattr(unit.svm, "fit", lambda *given: (fit(*given), after_each_epoch(None))[0])
    records = run_fold(demo_store, fold, settings, on_epoch_end=after_each_epoch)
    assert len(seen) == (1 if name == "svm" else len(records.epochs)) >= 1
    assert not any(seen)
    assert read & test == test  # read at the very end
    train = set(demo_store.positions(fold.train).tolist())
    assert {p for p, v in read if v != 0} <= train  # copies at other speeds only train
    assert dev <= {p for p, v in read if v == 0}


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT_SUPERNET)
def test_units_without_a_supernet(fold, demo_store, tiny, tmp_path, name):
    """No supernet rows; permuted test labels change nothing on the dev side; and the tables take their records."""
    settings = chosen(tiny, WITHOUT_SUPERNET[name])
    records = run_fold(demo_store, fold, settings, seed=3)
    test = fold.tests["demo/test"]
    shuffled = np.random.default_rng(0).permutation([fold.labels[u] for u in test]).tolist()
    permuted = replace(fold, labels={**fold.labels, **dict(zip(test, shuffled, strict=True))})
    assert dev_side(run_fold(demo_store, permuted, settings, seed=3)) == dev_side(records)
    assert [(e.stage, e.role) for e in records.evaluations] == [("final", "dev"), ("final", "test")]
    assert len(records.genotypes) == settings.searches
    assert sum(e.phase == "search" for e in records.epochs) == (settings.search.candidates or 0)
    assert records.parameters > 0
    assert records.macs > 0
    key = UnitKey("s", "a", "fold0", 0, 0, ("demo",), fold.protocol, 0, fold.hash, fold.classes)
    SweepWriter(Storage.open(str(tmp_path)), "s").commit(key, records, "first")


@pytest.mark.slow
def test_the_parts_by_themselves_give_what_the_whole_gives(fold, demo_store, tiny, undisturbed):
    data = FoldData.of(demo_store, fold, tiny)
    heard = []
    found = search(data, seed=3, on_epoch_end=heard.append)
    trained = train(data, derive(data, found), seed=3, on_epoch_end=heard.append)
    for evaluation in undisturbed.evaluations[1:]:
        assert predict(data, trained.network, evaluation.utterances).tobytes() == evaluation.probabilities.tobytes()
    assert [replace(e, seconds=0.0) for e in heard] == [replace(e, seconds=0.0) for e in undisturbed.epochs]
    assert found.dev_probabilities.tobytes() == undisturbed.evaluations[0].probabilities.tobytes()


@pytest.mark.slow
def test_an_architecture_of_ones_own_is_trained_without_a_search(fold, demo_store, tiny):
    """A genotype from anywhere, as JSON for example, and sizes: the way to look at one network in a debugger."""
    data = FoldData.of(demo_store, fold, tiny)
    found = search(data)
    own = Architecture(replace(derive(data, found).shape, channels=6), found.genotype)
    assert isinstance(own.build(), DiscreteNetwork)
    assert train(data, own).network.shape.channels == 6


def test_a_hand_designed_network_has_the_sizes_of_the_training(fold, demo_store, tiny):
    settings = replace(tiny, system="cnn_lstm_attention", training=replace(tiny.training, channels=6, dropout=0.1))
    architecture = hand_designed(FoldData.of(demo_store, fold, settings))
    assert architecture.genotype is None
    assert (architecture.shape.channels, architecture.shape.dropout) == (6, 0.1)
    assert architecture.shape.classes == len(fold.classes)


def test_an_unknown_system_is_refused():
    with pytest.raises(EmodartsError, match="system=resnet is unknown: emodarts, cnn, lstm"):
        FoldSettings(system="resnet")


def test_only_a_search_sees_a_part_of_train(fold, tiny):
    settings = replace(tiny, search=replace(tiny.search, subsample=20))
    assert subsample_name(fold, settings).startswith("20@0:")
    assert subsample_name(fold, replace(settings, system="cnn_lstm_attention")) is None
    assert subsample_name(fold, tiny) is None


def test_a_leaking_fold_is_refused(fold, demo_store, tiny):
    leaked = replace(fold, dev=(*fold.dev, fold.tests["demo/test"][0]))
    with pytest.raises(EmodartsError, match="stands in dev and in test"):
        run_fold(demo_store, leaked, tiny)


def test_a_fold_without_dev_is_refused(fold, demo_store, tiny):
    without = replace(fold, protocol="demo/all-no-dev", dev=(), protocol_caveat=rules.NO_DEV)
    check_fold(without)
    with pytest.raises(EmodartsError, match=r"demo/all-no-dev fold 0 has no dev part.* choose a protocol with dev"):
        run_fold(demo_store, without, tiny)


@pytest.mark.slow
def test_several_test_sets_one_without_public_labels(fold, demo_store, tiny, undisturbed):
    test = fold.tests["demo/test"]
    hidden = test[::3]
    tests = {"demo/test1": tuple(u for u in test if u not in hidden), "demo/test2": hidden}
    labels = {u: label for u, label in fold.labels.items() if u not in hidden}
    records = run_fold(demo_store, replace(fold, tests=tests, labels=labels), tiny, seed=3)
    assert dev_side(records) == dev_side(undisturbed)
    first, second = records.evaluations[2:]
    assert [(e.role, e.test_set, e.utterances) for e in (first, second)] == [("test", *x) for x in tests.items()]
    assert None not in first.labels
    assert set(second.labels) == {None}
    whole = dict(zip(test, undisturbed.evaluations[2].probabilities, strict=True))
    for evaluation in (first, second):
        for utterance, probabilities in zip(evaluation.utterances, evaluation.probabilities, strict=True):
            np.testing.assert_allclose(probabilities, whole[utterance], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "batches",
    [BatchSettings(pad="repeat"), BatchSettings(time_masks=2), BatchSettings(frequency_masks=2)],
)
def test_how_batches_are_drawn_changes_the_training(fold, demo_store, tiny, undisturbed, batches):
    records = run_fold(demo_store, fold, replace(tiny, batches=batches), seed=3)
    assert records.epochs[0].train_loss != undisturbed.epochs[0].train_loss


@pytest.mark.slow
def test_crops_are_seconds_at_any_hop(fold, demo_store, tiny, monkeypatch):
    """`crop_seconds` becomes frames by the features' own rate; a pre-trained encoder has no hop."""
    from emodarts.training import train as module

    crops = []
    original = module.training_batches
    monkeypatch.setattr(module, "training_batches", lambda *a: crops.append(a[2]) or original(*a))
    training = replace(tiny.training, epochs=1, crop_seconds=0.5)
    for features_settings in (FeatureSettings(hop_ms=10.0), FeatureSettings(kind="pretrained")):
        run_fold(demo_store, fold, replace(tiny, features=features_settings, training=training))
    assert crops == [50, 25]


def test_halves_share_no_speaker_and_lose_nobody(fold):
    weight, alpha = split_train_part(fold, seed=1)
    assert sorted((*weight, *alpha)) == sorted(fold.train)
    assert not {fold.groups[u] for u in weight} & {fold.groups[u] for u in alpha}


@pytest.mark.slow
@pytest.mark.parametrize("optimisation", ["bilevel", "single"])
def test_a_search_learns_from_train_alone_in_halves_or_whole(fold, demo_store, tiny, monkeypatch, optimisation):
    tasks = []
    run_search = stages.run_search
    monkeypatch.setattr(stages, "run_search", lambda task, *rest: tasks.append(task) or run_search(task, *rest))
    run_fold(demo_store, fold, replace(tiny, search=replace(tiny.search, optimisation=optimisation)), seed=3)
    (task,) = tasks
    weight, alpha = set(task.weight_part.utterances), set(task.alpha_part.utterances)
    assert weight | alpha == set(fold.train)
    assert (weight & alpha) == (set(fold.train) if optimisation == "single" else set())


@pytest.mark.slow
def test_second_order_runs_and_differs(fold, demo_store, tiny):
    orders = [
        replace(tiny, search=replace(tiny.search, optimisation="bilevel", unrolled=order)) for order in (False, True)
    ]
    first, second = (run_fold(demo_store, fold, settings, seed=3).epochs[0] for settings in orders)
    assert second.alpha_loss != first.alpha_loss


def test_a_diverging_training_says_so(fold, demo_store, tiny, monkeypatch):
    from emodarts.training import losses

    class NanLoss:
        @staticmethod
        def cross_entropy(logits, *rest, **options):
            return (logits * float("nan")).sum()

    monkeypatch.setattr(losses, "F", NanLoss)
    with pytest.raises(RuntimeError, match="non-finite"):
        run_fold(demo_store, fold, tiny)


def test_another_corpus_is_predicted_under_both_normalisations_and_changes_nothing_else(fold, demo_store, tiny):
    """The other corpus: the fold's own test utterances, under a class each that they do not have."""
    ids = fold.tests["demo/test"]
    other = CrossCorpusTest("other/all", demo_store, ids, dict.fromkeys(ids, fold.classes[0]), fold.speakers)
    for system in ("linear_probe", "svm"):
        settings = replace(tiny, system=system)
        alone, both = (run_fold(demo_store, fold, settings, 3, cross_corpus_tests=f) for f in ((), (other,)))
        assert dev_side(alone) == dev_side(both)
        assert len(alone.evaluations) == 2
        test, by_train, by_test = both.evaluations[1:]
        assert [(e.role, e.test_set, e.normalisation) for e in (by_train, by_test)] == [
            ("cross", "other/all", "train"),
            ("cross", "other/all", "test"),
        ]
        assert by_train.probabilities.tobytes() == test.probabilities.tobytes()
        assert not np.allclose(by_test.probabilities, test.probabilities, atol=1e-4)
        assert set(by_train.labels) == {fold.classes[0]}
    assert len(run_fold(demo_store, fold, settings, 3, tests=False, cross_corpus_tests=(other,)).evaluations) == 1


def cell(nodes: int) -> CellGenotype:
    return tuple((Edge("skip_connect", n), Edge("skip_connect", n + 1)) for n in range(nodes))


def test_a_genotype_that_does_not_fit_the_settings(fold, demo_store, tiny):
    given = TransferredGenotype(Genotype(cell(2), cell(2), cell(1)), 4)
    with pytest.raises(EmodartsError, match="a genotype of 2 nodes a cell and 1 a sequence cell does not fit"):
        run_fold(demo_store, fold, tiny, transferred=given)
    with pytest.raises(EmodartsError, match="system=cnn is not searched"):
        run_fold(demo_store, fold, replace(tiny, system="cnn"), transferred=given)


@pytest.mark.slow
def test_other_conditions_have_rows_of_their_own_and_change_no_other(
    demo, fold, demo_store, tiny, undisturbed, tmp_path
):
    corpus, _, _ = demo
    tested = corpus.utterances.filter(pc.is_in(corpus.utterances["utterance"], pa.array(fold.test_ids)))
    table, root = degrade_corpus(tested, corpus.root, "noise0", tmp_path)
    store = build_store(table, root, replace(tiny.features, speeds=[1.0]), tmp_path)
    records = run_fold(demo_store, fold, tiny, seed=3, conditions={"noise0": store})
    assert dev_side(records) == dev_side(undisturbed)
    *others, noisy = records.evaluations
    assert [e.probabilities.tobytes() for e in others] == [e.probabilities.tobytes() for e in undisturbed.evaluations]
    assert all(e.condition is None for e in others)
    clean = others[-1]
    assert (noisy.condition, noisy.role, noisy.test_set) == ("noise0", "test", clean.test_set)
    assert (noisy.utterances, noisy.labels) == (clean.utterances, clean.labels)
    assert not np.allclose(noisy.probabilities, clean.probabilities)
    without = run_fold(demo_store, fold, tiny, seed=3, conditions={"noise0": store}, tests=False)
    assert {e.role for e in without.evaluations} == {"dev"}
