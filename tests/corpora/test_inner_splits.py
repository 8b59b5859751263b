"""Inner splits of a fold: whole speakers, all classes, nobody of the tests, and the same each time."""

from collections import Counter
from dataclasses import replace

import pytest

from emodarts.corpora.protocols.folds import Fold, check_fold
from emodarts.corpora.protocols.inner_splits import make_inner_folds
from emodarts.corpora.protocols.rules import SHARED_RECORDING, UNKNOWN_NEAR_TEST
from emodarts.errors import EmodartsError

CLASSES = ("angry", "sad")


def make_fold(speakers, unknown=0, index=0, rare=()):
    """`speakers`: utterances of each class by the speaker's name; the last one tests, the one before is dev.

    Those of `rare` have no sad utterances. Ids are `x/<speaker>-<class>-<number>`.
    """
    labels, owners = {}, {}
    for speaker, takes in speakers.items():
        for name in CLASSES[: 1 if speaker in rare else 2]:
            for take in range(takes):
                utterance = f"{speaker}-{name}-{take}"
                labels[utterance], owners[utterance] = name, speaker
    for number in range(unknown):
        labels[f"x/nobody-{number}"], owners[f"x/nobody-{number}"] = CLASSES[number % 2], None
    *train, dev, test = speakers
    of = {role: tuple(sorted(u for u, s in owners.items() if s in who)) for role, who in
          {"train": (*train, None), "dev": (dev,), "test": (test,)}.items()}  # fmt: skip
    groups = {u: s or f"x/unknown/{u}" for u, s in owners.items()}
    fold = Fold(
        "x/speaker9", index, of["train"], of["dev"], {"x/test": of["test"]}, labels, CLASSES, owners, groups, "h"
    )
    check_fold(fold)
    return fold


def speakers_of(fold, utterances):
    return {fold.speakers[u] for u in utterances}


SIZES = {f"x/s{n}": 2 + n % 4 for n in range(9)}


@pytest.mark.parametrize("splits", [2, 3, 5, 8])
def test_each_speaker_is_dev_once_and_nobody_of_the_tests_is_there(splits):
    fold = make_fold(SIZES)
    inner = make_inner_folds(fold, splits)
    assert len(inner) == splits == len({f.hash for f in inner} - {fold.hash})
    pool = {*fold.train, *fold.dev}
    counts = Counter(u for f in inner for u in f.dev)
    assert counts == dict.fromkeys(pool, 1)
    for f in inner:
        check_fold(f)
        assert {*f.train} | {*f.dev} == pool
        assert f.tests == fold.tests
        assert not speakers_of(fold, f.train) & speakers_of(fold, f.dev)
        assert not speakers_of(fold, fold.test_ids) & speakers_of(fold, (*f.train, *f.dev))
        assert {fold.labels[u] for u in f.dev} == {*CLASSES}
    sizes = sorted(len(f.dev) for f in inner)
    assert sizes[-1] - sizes[0] <= 2 * max(SIZES.values())


def test_splits_depend_on_names_and_seed_alone():
    fold = make_fold(SIZES)
    shuffled = replace(fold, train=fold.dev[::-1] + fold.train[::-1][:-3], dev=fold.train[:3])
    assert [f.dev for f in make_inner_folds(fold, 3)] == [f.dev for f in make_inner_folds(shuffled, 3)]
    others = {tuple(f.dev for f in make_inner_folds(fold, 3, seed)) for seed in range(5)}
    assert len(others) > 1
    assert [f.dev for f in make_inner_folds(replace(fold, index=1), 3)] != [f.dev for f in make_inner_folds(fold, 3)]
    relabelled = replace(fold, labels={u: fold.labels[u] if u not in fold.test_ids else "sad" for u in fold.labels})
    assert [f.dev for f in make_inner_folds(relabelled, 3)] == [f.dev for f in make_inner_folds(fold, 3)]


def test_unknown_speakers_only_train_and_not_beside_a_recording_of_dev():
    fold = make_fold(SIZES, unknown=4)
    first = make_inner_folds(fold, 3)[0].dev[0]
    inner = make_inner_folds(fold, 3, recordings={"x/nobody-0": "talk", first: "talk", "x/nobody-1": "other"})
    assert not any(fold.speakers[u] is None for f in inner for u in f.dev)
    assert [sum(fold.speakers[u] is None for u in f.train) for f in inner] == [3, 4, 4]
    assert inner[0].left_out == {"x/nobody-0": UNKNOWN_NEAR_TEST}


def test_where_protocols_part_recordings_splits_do_too():
    fold = make_fold(SIZES)
    inner = make_inner_folds(fold, 3)
    dev, train = inner[0].dev[0], inner[0].train[0]
    recordings = {dev: "talk", train: "talk"}
    assert make_inner_folds(fold, 3, recordings=recordings) == inner
    parted = make_inner_folds(fold, 3, recordings=recordings, parted=["x"])
    assert train not in parted[0].train
    assert parted[0].left_out == {train: SHARED_RECORDING}
    assert parted[0].dev == inner[0].dev, "dev stays whole"


def test_each_split_has_speakers_of_each_joined_corpus():
    sizes = {**{f"x/s{n}": 3 for n in range(4)}, **{f"y/s{n}": 7 for n in range(7)}}
    inner = make_inner_folds(make_fold(sizes), 3)
    for f in inner:
        assert {u.partition("/")[0] for u in f.dev} == {"x", "y"}
        assert {u.partition("/")[0] for u in f.train} == {"x", "y"}


def test_too_few_speakers_or_classes_are_told_with_what_to_do():
    with pytest.raises(EmodartsError, match=r"sweep.inner=9: fold 0 .* has 8 known speakers .* to 8 or less"):
        make_inner_folds(make_fold(SIZES), 9)
    rare = [name for name in SIZES if name not in ("x/s0", "x/s8")]
    with pytest.raises(EmodartsError, match=r"too few speakers have sad .*smaller sweep.inner, or .*class_set='angry'"):
        make_inner_folds(make_fold(SIZES, rare=rare), 2)


def test_a_class_of_few_speakers_is_dealt_until_every_part_has_it():
    """Three of eight speakers are sad: one in three draws or so has one of them in each part."""
    rare = ["x/s1", "x/s3", "x/s4", "x/s5", "x/s6"]
    for seed in range(10):
        inner = make_inner_folds(make_fold(SIZES, rare=rare), 3, seed)
        assert all({f.labels[u] for u in f.dev} == {*CLASSES} for f in inner)
