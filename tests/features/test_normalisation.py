"""Whose statistics standardise an utterance: the train part's, its speaker's in its role, or its own."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emodarts.errors import EmodartsError
from emodarts.features.batches import FoldPart, evaluation_batches, training_batches
from emodarts.features.normalisation import GroupStandardiser, Normaliser, Standardiser, enrolled_recordings
from emodarts.features.resident import ResidentFrames
from emodarts.features.settings import BatchSettings, FeatureSettings, Variant, enrolment_size

BINS = 4
RULES = ("train", "speaker", "utterance", "speaker@2")


class Frames:
    """A store in memory: speaker s has 6 utterances around s, of 12 to 40 frames; copies are 2 frames longer."""

    bins, channels = BINS, 1
    variants = (Variant(), Variant(0.9))

    def __init__(self, speakers="abcd"):
        rng = np.random.default_rng(0)
        self.ids = [f"{speaker}{number}" for speaker in speakers for number in range(6)]
        self.frames = [
            [rng.normal(ord(u[0]) - 97, 1 + ord(u[0]) - 97, (size + 2 * v, BINS)).astype(np.float16) for v in range(2)]
            for u, size in zip(self.ids, rng.integers(12, 40, len(self.ids)), strict=True)
        ]

    def positions(self, utterances):
        return np.array([self.ids.index(u) for u in utterances], np.int64)

    def lengths(self, positions, variant=0):
        return np.array([len(self.frames[p][variant]) for p in positions], np.int32)

    def read(self, position, variant=0):
        return self.frames[position][variant]

    def of(self, utterances):
        """Their frames as recorded, one after the other."""
        return np.concatenate([self.frames[p][0] for p in self.positions(utterances)]).astype(np.float64)


@pytest.fixture
def store():
    return Frames()


ROLES = {role: [f"{s}{n}" for s in speakers for n in range(6)] for role, speakers in (("train", "ab"), ("dev", "cd"))}
SPEAKERS = {u: u[0] for ids in ROLES.values() for u in ids}


def normaliser(store, rule, speakers=SPEAKERS, roles=ROLES):
    return Normaliser(store, rule, roles, speakers, Standardiser.fit(store, roles["train"]))


def statistics(store, rule, utterance, **options):
    standardiser = normaliser(store, rule, **options).standardiser([*ROLES["dev"][::-1], *ROLES["train"]])
    return [x.reshape(-1).numpy() for x in standardiser.statistics(store.positions([utterance]))]


def assert_statistics_of(store, given, utterances):
    frames = store.of(utterances)
    assert np.array_equal(given[0], frames.mean(0).astype(np.float32))
    np.testing.assert_allclose(given[1], frames.std(0), rtol=1e-6)


def test_each_rule_takes_its_own_recordings(store):
    assert_statistics_of(store, statistics(store, "train", "c1"), ROLES["train"])
    assert_statistics_of(store, statistics(store, "speaker", "c1"), [f"c{n}" for n in range(6)])
    assert_statistics_of(store, statistics(store, "speaker", "a1"), [f"a{n}" for n in range(6)])
    assert_statistics_of(store, statistics(store, "utterance", "c1"), ["c1"])


def test_speaker_at_k_draws_recordings_by_name_and_training_speakers_have_all(store):
    drawn = enrolled_recordings([f"c{n}" for n in range(6)], "c", 2)
    assert drawn == enrolled_recordings([f"c{n}" for n in reversed(range(6))], "c", 2)
    assert len(set(drawn)) == 2
    assert_statistics_of(store, statistics(store, "speaker@2", "c5"), drawn)
    assert_statistics_of(store, statistics(store, "speaker@2", "a1"), [f"a{n}" for n in range(6)])
    assert_statistics_of(store, statistics(store, "speaker@50", "c5"), [f"c{n}" for n in range(6)])
    draws = {tuple(enrolled_recordings([f"c{n}" for n in range(6)], name, 2)) for name in "abcdefgh"}
    assert len(draws) > 1


def test_a_speaker_who_is_in_two_roles_has_statistics_in_each(store):
    roles = {"train": ROLES["train"], "dev": [*ROLES["dev"], "b5"]}
    roles["train"] = [u for u in roles["train"] if u != "b5"]
    assert_statistics_of(store, statistics(store, "speaker", "b5", roles=roles), ["b5"])
    assert_statistics_of(store, statistics(store, "speaker", "b1", roles=roles), [f"b{n}" for n in range(5)])


@pytest.mark.parametrize("rule", ["speaker", "speaker@2"])
def test_unknown_speakers_have_the_train_parts(store, rule):
    unknown = {**SPEAKERS, "c1": None, "b0": None}
    assert_statistics_of(store, statistics(store, rule, "c1", speakers=unknown), ROLES["train"])
    assert_statistics_of(store, statistics(store, rule, "b0", speakers=unknown), ROLES["train"])
    assert_statistics_of(
        store, statistics(store, "speaker", "c2", speakers=unknown), [f"c{n}" for n in (0, 2, 3, 4, 5)]
    )


def test_few_frames_and_values_that_stand_still(store):
    train = Standardiser.fit(store, ROLES["train"])
    c1, c2, c3 = store.positions(["c1", "c2", "c3"])
    store.frames[c1][0] = store.frames[c1][0][:9]
    store.frames[c2][0] = store.frames[c2][0][:1]
    store.frames[c3][0][:, 0] = 3
    mean, deviation = statistics(store, "utterance", "c1")
    assert np.array_equal(mean, store.of(["c1"]).mean(0).astype(np.float32))
    assert np.array_equal(deviation, train.deviation.numpy())
    assert_statistics_of(store, statistics(store, "utterance", "c2"), ROLES["train"])
    deviation = statistics(store, "utterance", "c3")[1]
    assert deviation[0] == pytest.approx(0.1 * float(train.deviation[0]))
    np.testing.assert_allclose(deviation[1:], store.of(["c3"]).std(0)[1:], rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_batches_from_the_map_and_on_the_device_are_alike(store, rule):
    fold = SimpleNamespace(classes=("a",), labels=dict.fromkeys(store.ids, "a"))
    by_rule, settings = normaliser(store, rule), BatchSettings(pad="repeat")
    resident = ResidentFrames.of(store, store.positions(ROLES["train"]), store.positions(ROLES["dev"]), "cpu")
    for ids in ROLES.values():
        standardiser = by_rule.standardiser(ids)
        mapped, kept = (FoldPart.of(store, standardiser, fold, ids, x) for x in (None, resident))
        batches = [(evaluation_batches(part, 5) for part in (mapped, kept))]
        if ids is ROLES["train"]:
            rngs = [np.random.default_rng(1) for _ in range(2)]
            drawn = zip((mapped, kept), rngs, strict=True)
            batches.append(training_batches(part, 5, 30, rng, settings=settings) for part, rng in drawn)
        for one, other in batches:
            for a, b in zip(one, other, strict=True):
                assert torch.equal(a.inputs, b.inputs)


def test_a_copy_is_standardised_by_the_recordings_statistics(store):
    fold = SimpleNamespace(classes=("a",), labels=dict.fromkeys(store.ids, "a"))
    part = FoldPart.of(store, normaliser(store, "utterance").standardiser(["a1"]), fold, ["a1"])
    for seed in range(20):
        (batch,) = training_batches(part, 1, 100, np.random.default_rng(seed))
        variant = int(batch.lengths[0] != len(store.of(["a1"])))
        frames, recording = store.read(1, variant).astype(np.float64), store.of(["a1"])
        expected = (frames - recording.mean(0)) / recording.std(0)
        np.testing.assert_allclose(batch.inputs[0, 0].T.numpy(), expected, atol=1e-5)


def test_train_alone_is_one_mean_and_deviation(store):
    by_train = normaliser(store, "train")
    assert by_train.standardiser(ROLES["dev"]) is by_train.train
    assert isinstance(normaliser(store, "speaker").standardiser(ROLES["dev"]), GroupStandardiser)


def test_the_setting_is_checked_and_no_part_of_the_stores_key():
    assert [enrolment_size(rule) for rule in RULES] == [None, None, None, 2]
    for wrong in ("test", "speaker@", "speaker@0", "speaker@-1", "speaker@2.5", "Speaker", "speaker@two", "speaker@2 "):
        with pytest.raises(EmodartsError, match=r"features.normalisation=.*train \| speaker \| utterance \| speaker@k"):
            FeatureSettings(normalisation=wrong)
    assert FeatureSettings(normalisation="speaker@5").content == FeatureSettings().content
    functionals = FeatureSettings(kind="egemaps", normalisation="speaker")
    for wrong in ("utterance", "speaker@1"):
        with pytest.raises(EmodartsError, match=r"leaves nothing of features.kind=egemaps, .* one frame a recording"):
            replace(functionals, normalisation=wrong)
