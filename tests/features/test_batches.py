"""Batches of a fold's parts: what is drawn, what is padded, and what may never be augmented."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emodarts.errors import EmodartsError
from emodarts.features import batches as batches_module
from emodarts.features import normalisation, resident
from emodarts.features.batches import (
    FoldPart,
    class_weights,
    draw_rates,
    evaluation_batches,
    training_batches,
    utterance_weights,
)
from emodarts.features.normalisation import Standardiser
from emodarts.features.resident import ResidentFrames, keep_on_device
from emodarts.features.settings import BatchSettings, Variant
from emodarts.features.store.store import Store

BINS, CHANNELS = 6, 2
PLAIN = BatchSettings(bucket_size=0)


class Frames:
    """A store in memory: 40 utterances of 3 to 60 frames; variant v has v frames more, and values around 10 v."""

    bins, channels = BINS, CHANNELS
    variants = (Variant(), Variant(0.9), Variant(1.0, 10.0))

    def __init__(self, count=40):
        rng = np.random.default_rng(0)
        sizes = rng.integers(3, 60, count)
        self.ids = [f"u{i:02d}" for i in range(count)]
        self.data = [
            [(10 * v + rng.normal(0, 1, (n + v, BINS * CHANNELS))).astype(np.float16) for v in range(3)] for n in sizes
        ]
        self.reads = []

    def positions(self, utterances):
        return np.array([self.ids.index(u) for u in utterances], np.int64)

    def lengths(self, positions, variant=0):
        return np.array([len(self.data[p][variant]) for p in positions], np.int32)

    def read(self, position, variant=0):
        self.reads.append((position, variant))
        frames = self.data[position][variant]
        frames.flags.writeable = False
        return frames


FOLD = SimpleNamespace(classes=("angry", "sad"), labels={f"u{i:02d}": ("angry", "sad")[i % 2] for i in range(39)})


@pytest.fixture
def store():
    return Frames()


@pytest.fixture
def part(store):
    ids = list(reversed(store.ids))
    return FoldPart.of(store, Standardiser.fit(store, ids), FOLD, ids)


def train(part, seed=0, settings=PLAIN, size=8, crop=25):
    return list(training_batches(part, size, crop, np.random.default_rng(seed), settings=settings))


def standardised(part, position, variant=0):
    """`(channels, bins, time)` of an utterance of the part, by another way."""
    frames = part.store.data[part.rows[position]][variant].astype(np.float32)
    frames = (frames - part.standardiser.mean.numpy()) / part.standardiser.deviation.numpy()
    return frames.reshape(-1, CHANNELS, BINS).transpose(1, 2, 0)


def rows_of(batches):
    """(position, length, inputs, label) of each utterance, padding checked to be exactly zero and cut off."""
    for batch in batches:
        assert batch.inputs.dtype == torch.float32
        assert batch.inputs.shape[1:3] == (CHANNELS, BINS)
        assert batch.inputs.shape[3] == batch.lengths.max()
        for row, n, p, label in zip(
            batch.inputs.numpy(),
            batch.lengths.tolist(),
            batch.positions.tolist(),
            batch.labels.tolist(),
            strict=True,
        ):
            assert not row[:, :, n:].any()
            yield p, n, row[:, :, :n], label


def variant_of(row):
    """The variant that a row of training inputs was cut from (their values lie 10 apart)."""
    return round(float(np.median(row)) / 10)


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one, other, strict=True)
        for name in ("inputs", "lengths", "labels", "positions")
    )


def test_evaluation_takes_each_utterance_once_whole_and_as_recorded(store, part):
    store.reads.clear()
    found = list(rows_of(evaluation_batches(part, 7)))
    assert sorted(p for p, *_ in found) == list(range(40))
    assert {variant for _, variant in store.reads} == {0}
    lengths = [n for _, n, _, _ in found]
    assert lengths == sorted(lengths)
    for position, _, row, label in found:
        assert np.array_equal(row, standardised(part, position))  # to the bit, so the same in any batch
        assert label == (-1 if part.utterances[position] == "u39" else int(part.utterances[position][1:]) % 2)


@pytest.mark.parametrize("bucket", [0, 1, 2, 3, 100])
@pytest.mark.parametrize("size", [2, 7, 8, 100])
def test_training_takes_each_utterance_once_in_batches_of_nearly_one_size(part, size, bucket, monkeypatch):
    monkeypatch.setattr(batches_module, "_WINDOWS", 1)
    drawn = train(part, settings=BatchSettings(bucket_size=bucket), size=size)
    assert sorted(p for p, *_ in rows_of(drawn)) == list(range(40))
    sizes = [len(batch.labels) for batch in drawn]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_all_chance_comes_from_the_given_generator(part):
    settings = BatchSettings(bucket_size=3, time_masks=2, frequency_masks=1, frequency_mask_bins=2)
    first = train(part, 1, settings)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    assert same(first, train(part, 1, settings))
    assert not same(first, train(part, 2, settings))


def test_training_draws_every_variant_and_cuts_within_it(part):
    seen = set()
    starts = set()
    for seed in range(5):
        for position, n, row, _ in rows_of(train(part, seed)):
            variant = variant_of(row)
            whole = standardised(part, position, variant)
            assert n == min(25, whole.shape[2])
            places = [s for s in range(whole.shape[2] - n + 1) if np.array_equal(whole[:, :, s : s + n], row)]
            assert len(places) == 1
            seen.add(variant)
            starts.add(places[0] / max(1, whole.shape[2] - n))
    assert seen == {0, 1, 2}
    assert {0.0, 1.0} <= starts  # the first and the last cut too
    assert len(starts) > 20


@pytest.mark.parametrize(("crop", "start"), [("start", lambda spare: 0), ("centre", lambda spare: spare // 2)])
def test_fixed_crops(part, crop, start):
    for position, n, row, _ in rows_of(train(part, settings=BatchSettings(crop=crop))):
        whole = standardised(part, position, variant_of(row))
        first = start(whole.shape[2] - n)
        assert np.array_equal(row, whole[:, :, first : first + n])


def test_repeated_utterances_fill_the_crop_whatever_their_batch(part):
    for position, n, row, _ in rows_of(train(part, settings=BatchSettings(pad="repeat"))):
        assert n == 25
        whole = standardised(part, position, variant_of(row))
        if whole.shape[2] < 25:
            assert np.array_equal(row, whole[:, :, np.arange(25) % whole.shape[2]])


def test_buckets_hold_similar_lengths_and_stay_shuffled(part, monkeypatch):
    monkeypatch.setattr(batches_module, "_WINDOWS", 1)

    def padding(drawn):
        return sum(b.inputs.shape[3] * len(b.lengths) - int(b.lengths.sum()) for b in drawn)

    loose, bucketed = train(part, size=4, crop=60), train(part, settings=BatchSettings(bucket_size=5), size=4, crop=60)
    assert padding(bucketed) < 0.5 * padding(loose)
    one_window = train(part, settings=BatchSettings(bucket_size=100), size=4, crop=60)
    longest = [int(batch.lengths.max()) for batch in one_window]
    assert longest != sorted(longest)
    composition = [{frozenset(b.positions.tolist()) for b in train(part, seed, BatchSettings(5), 4)} for seed in (0, 1)]
    assert len(composition[0] & composition[1]) <= 1


def test_buckets_are_for_long_epochs(part):
    def lengths(count, bucket):
        drawn = batches_module._batches_of(np.arange(count) % 97, 4, bucket, np.random.default_rng(0))
        return [np.arange(count)[chosen] % 97 for chosen in drawn]

    assert same(train(part, settings=BatchSettings(bucket_size=8)), train(part, settings=BatchSettings(bucket_size=0)))
    small, large = (np.mean([np.ptp(x) for x in lengths(count, 8)]) for count in (4 * 63, 4 * 256))
    assert small > 40
    assert large < 15


def hidden(part, settings):
    """Pairs of an utterance's true frames `(channels, bins, time)` without and with masks, over many seeds."""
    for seed in range(20):
        # The masks of the first batch are drawn after everything else of it.
        plain, masked = train(part, seed)[0], train(part, seed, settings)[0]
        assert torch.equal(plain.lengths, masked.lengths)
        for (_, _, before, _), (_, _, after, _) in zip(rows_of([plain]), rows_of([masked]), strict=True):
            yield before, after


def one_interval(places):
    return len(places) == 0 or places[-1] - places[0] + 1 == len(places)


def test_time_masks_hide_whole_frames_for_a_while(part):
    widths = []
    for before, after in hidden(
        part, BatchSettings(bucket_size=0, time_masks=1, time_mask_frames=4, time_mask_fraction=0.3)
    ):
        frames = np.flatnonzero((before != after).any((0, 1)))
        assert one_interval(frames)
        assert not after[:, :, frames].any()  # zero is the train part's mean
        assert np.array_equal(np.delete(after, frames, 2), np.delete(before, frames, 2))
        assert len(frames) <= min(4, int(0.3 * before.shape[2]))
        widths.append(len(frames))
    assert set(widths) == {0, 1, 2, 3, 4}


def test_band_masks_hide_neighbouring_bands_of_all_channels(part):
    widths = []
    for before, after in hidden(part, BatchSettings(bucket_size=0, frequency_masks=1, frequency_mask_bins=3)):
        bands = np.flatnonzero((before != after).any((0, 2)))
        assert one_interval(bands)
        assert not after[:, bands].any()
        assert np.array_equal(np.delete(after, bands, 1), np.delete(before, bands, 1))
        widths.append(len(bands))
    assert set(widths) == {0, 1, 2, 3}


def test_masks_lie_within_the_utterance():
    lengths = np.full(5000, 4)
    masks = batches_module._masks(1, lengths, lengths, 9, np.random.default_rng(0))
    assert not masks[:, 4:].any()
    widths = np.bincount(masks.sum(1), minlength=5) / 5000
    np.testing.assert_allclose(widths, 0.2, atol=0.03)  # each width as often: none is cut off at the end


def test_several_masks_and_masks_wider_than_the_utterance(part):
    settings = BatchSettings(
        bucket_size=0, time_masks=3, time_mask_frames=1000, time_mask_fraction=1.0, frequency_masks=3
    )
    shares = [float((after == 0).mean()) for _, after in hidden(part, settings)]
    assert 0.5 < np.mean(shares) < 1
    assert max(shares) == 1


def test_evaluation_and_training_of_the_demo_corpus(demo, demo_store, monkeypatch):
    """On a real store: dev and test are read as recorded, train in all its variants."""
    fold = demo[2][0]
    standardiser = Standardiser.fit(demo_store, fold.train)
    reads = []
    original = Store.read
    monkeypatch.setattr(Store, "read", lambda self, p, v=0: reads.append((p, v)) or original(self, p, v))
    for ids in (fold.dev, *fold.tests.values()):
        rows = list(evaluation_batches(FoldPart.of(demo_store, standardiser, fold, ids), 16))
        assert sum(len(batch.labels) for batch in rows) == len(ids)
    assert {variant for _, variant in reads} == {0}
    reads.clear()
    drawn = list(
        training_batches(FoldPart.of(demo_store, standardiser, fold, fold.train), 16, 40, np.random.default_rng(0))
    )
    assert {variant for _, variant in reads} == {0, 1, 2}
    assert sorted(p for p, _ in reads) == sorted(demo_store.positions(fold.train).tolist())
    assert all(batch.inputs.shape[3] <= 40 for batch in drawn)


@pytest.mark.parametrize(
    "settings",
    [PLAIN, BatchSettings(pad="repeat"), BatchSettings(bucket_size=2, crop="centre", time_masks=1, frequency_masks=1)],
)
def test_features_kept_on_the_device_give_the_same_batches(store, part, settings, monkeypatch):
    monkeypatch.setattr(resident, "_CHUNK", 1000)
    ids = part.utterances
    kept = ResidentFrames.of(store, store.positions(ids[:25]), store.positions(ids[25:]), "cpu")
    for chosen, batches in (
        (ids[:25], lambda p: train(p, 3, settings)),
        (ids, lambda p: list(evaluation_batches(p, 7))),
    ):
        mapped = FoldPart.of(store, part.standardiser, FOLD, chosen)
        resided = FoldPart.of(store, part.standardiser, FOLD, chosen, kept)
        expected = batches(mapped)
        store.reads.clear()
        assert same(batches(resided), expected)
        assert store.reads == []
    train_rows, other_rows = (np.searchsorted(kept.rows, store.positions(x)) for x in (ids[:25], ids[25:]))
    assert (kept.first[train_rows] >= 0).all()
    assert (kept.first[other_rows, 1:] == -1).all()


def test_features_are_kept_where_they_fit(store, monkeypatch):
    train_rows, dev_rows = np.arange(10), np.arange(10, 14)
    frames = sum(len(x) for i in range(10) for x in store.data[i]) + sum(len(store.data[i][0]) for i in range(10, 14))
    size = frames * BINS * CHANNELS * 2
    monkeypatch.setattr(ResidentFrames, "of", lambda *arguments: "kept")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * size, 100 * size))
    assert keep_on_device(store, train_rows, dev_rows, "cuda", 0.25) == "kept"
    assert keep_on_device(store, train_rows, dev_rows, "cuda", 0.24) is None
    assert keep_on_device(store, train_rows, dev_rows, "cuda", 0.0) is None
    assert keep_on_device(store, train_rows, dev_rows, "cpu", 0.9) is None


def test_statistics_are_exact_in_any_order_and_of_the_recordings_alone(store, monkeypatch):
    whole = Standardiser.fit(store, store.ids)
    frames = np.concatenate([copies[0] for copies in store.data]).astype(np.float64)
    assert np.array_equal(whole.mean.numpy(), frames.mean(0).astype(np.float32))
    torch.testing.assert_close(whole.deviation, torch.tensor(frames.std(0)).float(), atol=0, rtol=1e-6)
    again = Standardiser.fit(store, store.ids[::-1])
    assert torch.equal(again.mean, whole.mean)
    assert torch.equal(again.deviation, whole.deviation)
    monkeypatch.setattr(normalisation, "_CHUNK", 7 * BINS * CHANNELS)  # chunks end within utterances
    chunked = Standardiser.fit(store, store.ids)
    torch.testing.assert_close(chunked.mean, whole.mean, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(chunked.deviation, whole.deviation, atol=0, rtol=1e-6)


def test_constant_bands_do_not_divide_by_zero(store, part):
    for copies in store.data:
        for frames in copies:
            frames.flags.writeable = True
            frames[:, 0] = 3
    constant = FoldPart.of(store, Standardiser.fit(store, store.ids), FOLD, store.ids)
    assert all(torch.isfinite(batch.inputs).all() for batch in evaluation_batches(constant, 8))


def test_class_weights_have_mean_one(part):
    labelled = FoldPart.of(part.store, part.standardiser, FOLD, (*part.utterances[1:11], "u00", "u02"))
    weights = class_weights(labelled, 3)
    assert weights[0] * 7 == weights[1] * 5
    assert float(weights[labelled.labels].mean()) == pytest.approx(1)


@pytest.mark.parametrize(
    "changes",
    [
        {"bucket_size": -1},
        {"crop": "end"},
        {"pad": "mirror"},
        {"time_mask_fraction": 0.0},
        {"device_memory_fraction": 1.0},
    ],
)
def test_settings_out_of_range(changes):
    with pytest.raises(EmodartsError, match=f"batches.{next(iter(changes))}=.* is out of range: "):
        BatchSettings(**changes)


# Several corpora in one part


@pytest.fixture
def joined(part):
    """A part of two corpora: 4 utterances of one, the rest of another, three classes."""
    utterances = tuple(f"{'small' if n < 4 else 'large'}/{n}" for n in range(len(part.utterances)))
    return replace(part, utterances=utterances, labels=np.arange(len(utterances)) % 3)


def draws(part, sampling, epochs=60):
    rng, counts = np.random.default_rng(0), np.zeros(len(part.utterances))
    settings = BatchSettings(sampling=sampling)
    for _ in range(epochs):
        positions = np.concatenate([b.positions.numpy() for b in training_batches(part, 4, 5, rng, settings=settings)])
        assert len(positions) == len(part.utterances)
        np.add.at(counts, positions, 1)
    return counts / epochs


def test_each_utterance_once_is_the_default_and_draws_what_it_did(joined):
    plain = list(training_batches(joined, 4, 5, np.random.default_rng(1)))
    named = list(training_batches(joined, 4, 5, np.random.default_rng(1), settings=BatchSettings(sampling="utterance")))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(plain, named, strict=True))
    assert (draws(joined, "utterance", 3) == 1).all()


@pytest.mark.parametrize(("sampling", "power"), [("corpus", 0.0), ("square_root", 0.5)])
def test_an_epoch_has_the_shares_of_corpora_that_the_setting_says(joined, sampling, power):
    n = len(joined.utterances)
    shares = np.array([4.0**power, (n - 4.0) ** power])
    shares /= shares.sum()
    counts = draws(joined, sampling)
    assert counts[:4].sum() == pytest.approx(shares[0] * n, abs=0.5)
    assert counts.sum() == pytest.approx(n)
    np.testing.assert_allclose(counts, draw_rates(joined, sampling), rtol=0.35)
    assert counts[:4].max() - counts[:4].min() < 0.5  # each before any comes again


def test_one_corpus_alone_is_drawn_as_it_was(part):
    settings = BatchSettings(sampling="corpus")
    plain = list(training_batches(part, 4, 5, np.random.default_rng(1)))
    same = list(training_batches(part, 4, 5, np.random.default_rng(1), settings=settings))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(plain, same, strict=True))


@pytest.mark.parametrize("sampling", ["utterance", "corpus", "square_root"])
def test_classes_of_corpora_weigh_the_same_over_what_is_drawn(joined, sampling):
    rates = draw_rates(joined, sampling)
    assert rates.sum() == pytest.approx(len(rates))
    corpora = np.array([u.split("/")[0] for u in joined.utterances])
    weights = rates * utterance_weights(joined, BatchSettings(sampling=sampling, loss_weights="class_and_corpus"))
    cells = [weights[(corpora == c) & (joined.labels == k)].sum() for c in ("large", "small") for k in range(3)]
    np.testing.assert_allclose(cells, len(rates) / 6)
    weights = rates * utterance_weights(joined, BatchSettings(sampling=sampling))
    np.testing.assert_allclose([weights[joined.labels == k].sum() for k in range(3)], len(rates) / 3)
    by_class = class_weights(joined, 3, rates).numpy()[joined.labels]
    np.testing.assert_allclose((rates * by_class).sum(), len(rates), rtol=1e-6)
