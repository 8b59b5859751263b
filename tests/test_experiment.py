"""One unit of work: what may and what may not change its result."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from emodarts import corpora
from emodarts.corpora import labels as labelling
from emodarts.corpora import protocols, rules
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.experiment import run_fold
from emodarts.features import store as features
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.search.loop import split_train_part


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
def undisturbed(demo, demo_store, tiny):
    return run_fold(demo_store, demo[2][0], tiny, seed=3)


def test_same_seed_same_bits_and_another_seed_differs(demo, demo_store, tiny, undisturbed):
    again = run_fold(demo_store, demo[2][0], tiny, seed=3)
    assert dev_side(again) == dev_side(undisturbed)
    assert again.evaluations[-1].probabilities.tobytes() == undisturbed.evaluations[-1].probabilities.tobytes()
    assert dev_side(run_fold(demo_store, demo[2][0], tiny, seed=4)) != dev_side(undisturbed)


def test_permuted_test_labels_change_nothing_on_the_dev_side(demo, demo_store, tiny, undisturbed):
    fold = demo[2][0]
    test = fold.tests["demo/test"]
    shuffled = np.random.default_rng(0).permutation([fold.labels[u] for u in test]).tolist()
    assert shuffled != [fold.labels[u] for u in test]
    permuted = replace(fold, labels={**fold.labels, **dict(zip(test, shuffled, strict=True))})
    records = run_fold(demo_store, permuted, tiny, seed=3)
    assert dev_side(records) == dev_side(undisturbed)
    assert records.evaluations[-1].labels != undisturbed.evaluations[-1].labels


def test_noise_as_test_audio_changes_nothing_on_the_dev_side(demo, tiny, undisturbed, tmp_path):
    _, _, folds = demo
    settings = CorpusSettings(name="demo", root=str(tmp_path / "demo"))
    copy = corpora.read(settings)
    paths = dict(zip(copy.utterances["utterance"].to_pylist(), copy.utterances["path"].to_pylist(), strict=True))
    rng = np.random.default_rng(0)
    for utterance in folds[0].tests["demo/test"]:
        soundfile.write(copy.root / paths[utterance], rng.normal(0, 0.1, 12000), 16000, subtype="PCM_16")
    copy = corpora.read(settings)
    noisy = features.build(copy.utterances, copy.root, tiny.features, tmp_path / "cache")
    fold = protocols.make(settings, copy.utterances, labelling.label(copy.utterances, settings))[0]
    records = run_fold(noisy, fold, tiny, seed=3)
    assert dev_side(records) == dev_side(undisturbed)
    before, after = undisturbed.evaluations[-1], records.evaluations[-1]
    assert before.role == after.role == "test"
    assert not np.array_equal(before.probabilities, after.probabilities)


def test_the_search_does_not_even_read_the_test_part(demo, demo_store, tiny, monkeypatch):
    fold = demo[2][0]
    read, seen = set(), []
    original = features.Store.read
    monkeypatch.setattr(features.Store, "read", lambda self, p, v=0: read.add((p, v)) or original(self, p, v))
    test = {(p, 0) for p in demo_store.positions(fold.tests["demo/test"]).tolist()}
    dev = set(demo_store.positions(fold.dev).tolist())

    def after_each_epoch(record):
        seen.append(read & test)

    run_fold(demo_store, fold, tiny, progress=after_each_epoch)
    assert len(seen) == 4
    assert all(not s for s in seen)
    assert read & test == test  # read at the very end
    train = set(demo_store.positions(fold.train).tolist())
    assert {p for p, v in read if v != 0} <= train  # copies at other speeds only train
    assert dev <= {p for p, v in read if v == 0}


def test_a_leaking_fold_is_refused(demo, demo_store, tiny):
    fold = demo[2][0]
    leaked = replace(fold, dev=(*fold.dev, fold.tests["demo/test"][0]))
    with pytest.raises(EmodartsError, match="stands in dev and in test"):
        run_fold(demo_store, leaked, tiny)


def test_a_fold_without_dev_is_refused(demo, demo_store, tiny):
    fold = demo[2][0]
    without = replace(fold, protocol="demo/all-no-dev", dev=(), weakness=rules.NO_DEV)
    protocols.check(without)
    with pytest.raises(EmodartsError, match=r"demo/all-no-dev fold 0 has no dev part.* choose a protocol with dev"):
        run_fold(demo_store, without, tiny)


def test_several_test_sets_one_without_public_labels(demo, demo_store, tiny, undisturbed):
    fold = demo[2][0]
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


@pytest.mark.parametrize(
    "batches",
    [BatchSettings(pad="repeat"), BatchSettings(time_masks=2), BatchSettings(band_masks=2)],
)
def test_how_batches_are_drawn_changes_the_training(demo, demo_store, tiny, undisturbed, batches):
    records = run_fold(demo_store, demo[2][0], replace(tiny, batches=batches), seed=3)
    assert records.epochs[0].train_loss != undisturbed.epochs[0].train_loss


def test_crops_are_seconds_at_any_hop(demo, demo_store, tiny, monkeypatch):
    """`crop_seconds` becomes frames by the features' own rate; a pre-trained encoder has no hop."""
    from emodarts.training import train as module

    crops = []
    original = module.training_batches
    monkeypatch.setattr(module, "training_batches", lambda *a: crops.append(a[2]) or original(*a))
    training = replace(tiny.training, epochs=1, crop_seconds=0.5)
    for features_settings in (FeatureSettings(hop_ms=10.0), FeatureSettings(kind="pretrained")):
        run_fold(demo_store, demo[2][0], replace(tiny, features=features_settings, training=training))
    assert crops == [50, 25]


def test_halves_share_no_speaker_and_lose_nobody(demo):
    fold = demo[2][0]
    weight, alpha = split_train_part(fold, seed=1)
    assert sorted((*weight, *alpha)) == sorted(fold.train)
    assert not {fold.groups[u] for u in weight} & {fold.groups[u] for u in alpha}


def test_second_order_runs_and_differs(demo, demo_store, tiny, undisturbed):
    unrolled = replace(tiny, search=replace(tiny.search, unrolled=True))
    records = run_fold(demo_store, demo[2][0], unrolled, seed=3)
    assert records.epochs[0].alpha_loss != undisturbed.epochs[0].alpha_loss


def test_a_diverging_training_says_so(demo, demo_store, tiny, monkeypatch):
    from emodarts.training import train

    class NanLoss:
        @staticmethod
        def cross_entropy(logits, *rest, **options):
            return (logits * float("nan")).sum()

    monkeypatch.setattr(train, "F", NanLoss)
    with pytest.raises(RuntimeError, match="non-finite"):
        run_fold(demo_store, demo[2][0], tiny)
