"""One unit of work: what may and what may not change its result."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from emodarts import corpora
from emodarts.corpora import labels as labelling
from emodarts.corpora import protocols
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.experiment import run_fold
from emodarts.features import store as features
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
    fold = protocols.make("demo", copy.utterances, labelling.label(copy.utterances, settings))[0]
    records = run_fold(noisy, fold, tiny, seed=3)
    assert dev_side(records) == dev_side(undisturbed)
    before, after = undisturbed.evaluations[-1], records.evaluations[-1]
    assert before.role == after.role == "test"
    assert not np.array_equal(before.probabilities, after.probabilities)


def test_the_search_does_not_even_read_the_test_part(demo, demo_store, tiny, monkeypatch):
    fold = demo[2][0]
    read = []
    original = features.Store.frames
    monkeypatch.setattr(features.Store, "frames", lambda self, u, s=1.0: read.append(u) or original(self, u, s))
    seen = []

    def after_each_epoch(record):
        seen.append(set(read) & set(fold.tests["demo/test"]))

    run_fold(demo_store, fold, tiny, progress=after_each_epoch)
    assert len(seen) == 4
    assert all(not s for s in seen)
    assert set(read) & set(fold.tests["demo/test"])  # read at the very end


def test_a_leaking_fold_is_refused(demo, demo_store, tiny):
    fold = demo[2][0]
    leaked = replace(fold, dev=(*fold.dev, fold.tests["demo/test"][0]))
    with pytest.raises(EmodartsError, match="stands in dev and in test"):
        run_fold(demo_store, leaked, tiny)


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
