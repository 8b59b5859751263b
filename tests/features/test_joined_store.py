"""Several feature stores as one: what it reads is what they hold, and training on it is training on one store."""

import pickle
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import join_folds, make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from emodarts.experiment.fold_data import FoldData
from emodarts.experiment.fold_settings import FoldSettings
from emodarts.experiment.unit import run_fold
from emodarts.features.batches import FoldPart, training_batches
from emodarts.features.normalisation import Standardiser
from emodarts.features.resident import ResidentFrames
from emodarts.features.settings import FeatureSettings
from emodarts.features.store.building import build_store
from emodarts.features.store.joined import JoinedStore, join_stores
from emodarts.search.settings import SearchSettings
from emodarts.training.settings import TrainingSettings
from tests.support.layouts import savee, tess

FEATURES = FeatureSettings(n_mels=32)
LAYOUTS = {"savee": savee, "tess": tess}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two small corpora below one folder, with their folds."""
    root = tmp_path_factory.mktemp("corpora")
    found = {}
    for name, layout in LAYOUTS.items():
        layout.write_corpus(root / name, junk=False)
        settings = CorpusSettings(name=name, root=str(root / name))
        corpus = corpora.read(settings)
        labels = label_utterances(corpus.utterances, settings)
        found[name] = corpus, make_folds(settings, corpus.utterances, labels)
    return root, found


@pytest.fixture(scope="module")
def stores(parts, cache):
    return [build_store(corpus.utterances, corpus.root, FEATURES, cache) for corpus, _ in parts[1].values()]


@pytest.fixture(scope="module")
def whole(parts, cache):
    """One store of all recordings of both corpora."""
    root, found = parts
    tables = []
    for name, (corpus, _) in found.items():
        rows = corpus.utterances.replace_schema_metadata(None)
        paths = pa.array([f"{name}/{path}" for path in rows["path"].to_pylist()])
        tables.append(rows.set_column(rows.schema.get_field_index("path"), rows.schema.field("path"), paths))
    return build_store(pa.concat_tables(tables), root, FEATURES, cache)


@pytest.fixture(scope="module")
def fold(parts):
    return join_folds({name: folds for name, (_, folds) in parts[1].items()})[1]


def test_it_holds_what_its_stores_hold(stores):
    joined = JoinedStore(tuple(stores))
    assert joined.utterances.to_pylist() == [u for store in stores for u in store.utterances.to_pylist()]
    assert (joined.bins, joined.channels, joined.variants) == (32, stores[0].channels, stores[0].variants)
    assert len(joined.variants) > 1
    assert joined.measures().to_pylist() == [row for store in stores for row in store.measures().to_pylist()]
    position = 0
    for store in stores:
        for own in range(len(store.utterances)):
            for variant in range(len(store.variants)):
                assert joined.lengths([position], variant) == store.lengths([own], variant)
                np.testing.assert_array_equal(joined.read(position, variant), store.read(own, variant))
            position += 1


def test_positions_in_any_order_and_what_is_not_there(stores):
    joined = JoinedStore(tuple(stores))
    ids = joined.utterances.to_pylist()
    order = np.random.default_rng(0).permutation(len(ids))
    positions = joined.positions([ids[i] for i in order])
    assert positions.dtype == np.int64
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_array_equal(joined.lengths(order), [len(joined.read(i)) for i in order.tolist()])
    assert joined.positions([]).tolist() == []
    with pytest.raises(EmodartsError, match=r"no features of savee/no \(2 utterances have none\)"):
        joined.positions([ids[0], "savee/no", "other/no"])


def test_frames_are_views_of_the_memory_maps_here_and_in_another_process(stores):
    joined = JoinedStore(tuple(stores))
    sent = pickle.dumps(joined)
    assert len(sent) < 2000
    for store in (joined, pickle.loads(sent)):
        for position in (0, len(store.utterances) - 1):
            assert not store.read(position).flags.owndata
            assert not store.read(position).flags.writeable
        np.testing.assert_array_equal(store.read(position), joined.read(position))


def test_one_store_is_itself_and_others_must_be_alike(stores, parts, cache):
    assert join_stores(stores[:1]) is stores[0]
    corpus = parts[1]["savee"][0]
    other = build_store(corpus.utterances, corpus.root, FeatureSettings(n_mels=16), cache)
    with pytest.raises(EmodartsError, match="hold different features and cannot be joined"):
        join_stores([stores[1], other])
    with pytest.raises(EmodartsError, match="no feature stores"):
        JoinedStore(())


def test_standardised_by_the_train_part_of_both(stores, whole, fold):
    joined = JoinedStore(tuple(stores))
    mine, one = (FoldData.of(store, fold, _settings()).standardiser for store in (joined, whole))
    assert torch.equal(mine.mean, one.mean)
    assert torch.equal(mine.deviation, one.deviation)
    frames = np.concatenate([joined.read(p) for p in joined.positions(fold.train).tolist()]).astype(np.float64)
    np.testing.assert_allclose(mine.mean, frames.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mine.deviation, frames.std(0), rtol=1e-4)


def test_kept_on_a_device_it_is_the_same(stores, fold):
    """As on a GPU, whose memory then holds both corpora."""
    joined = JoinedStore(tuple(stores))
    resident = ResidentFrames.of(joined, joined.positions(fold.train), joined.positions(fold.dev), "cpu")
    part = FoldPart.of(joined, Standardiser.fit(joined, fold.train), fold, fold.train)
    for mapped, kept in zip(
        *(training_batches(p, 8, 20, np.random.default_rng(3)) for p in (part, replace(part, resident=resident))),
        strict=True,
    ):
        assert torch.equal(mapped.inputs, kept.inputs)
        assert torch.equal(mapped.labels, kept.labels)


def test_a_unit_predicts_what_it_predicts_from_one_store_of_all(stores, whole, fold):
    units = [run_fold(store, fold, _settings(), seed=4) for store in (JoinedStore(tuple(stores)), whole)]
    tests = [e.test_set for e in units[0].evaluations if e.role == "test"]
    assert tests == ["savee/test", "tess/test"]
    for mine, one in zip(*(unit.evaluations for unit in units), strict=True):
        assert (mine.stage, mine.test_set, mine.utterances) == (one.stage, one.test_set, one.utterances)
        np.testing.assert_array_equal(mine.probabilities, one.probabilities)


def _settings():
    search = SearchSettings(
        epochs=1, cells=2, nodes=1, channels=4, sequence_width=8, stem_channels=4, sequence_operations=["none", "rnn_1"]
    )
    return FoldSettings(FEATURES, search, TrainingSettings(epochs=2, channels=4, sequence_width=8))
