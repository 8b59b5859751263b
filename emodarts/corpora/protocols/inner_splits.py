"""Inner splits: the speakers of a fold's train and dev parts, divided once more, so that more of them may choose.

Each speaker is in the dev part of one split, and trains in the others. Nobody of the fold's tests is in any.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from emodarts.corpora.protocols.folds import Fold, check_fold, fold_hash
from emodarts.corpora.protocols.rules import SHARED_RECORDING, UNKNOWN_NEAR_TEST
from emodarts.errors import EmodartsError
from emodarts.seeds import derive_seed

_DRAWS = 100  # of a division that has every class in every part


def make_inner_folds(
    fold: Fold,
    splits: int,
    seed: int = 0,
    recordings: Mapping[str, str | None] | None = None,
    parted: Collection[str] = (),
) -> tuple[Fold, ...]:
    """The fold's train and dev utterances as so many folds, with its tests, labels and protocol, each with its hash.

    Speakers are dealt, corpus by corpus, to parts of nearly equal numbers of utterances; each part is dev once, and the
    others train. Utterances of unknown speakers only train, and not where dev has the same recording; known speakers'
    neither, in the `parted` corpora, whose protocols keep a recording of several speakers in one role. `recordings`: of
    the utterances. Depends on ids, speakers, labels and the seed alone. Raises EmodartsError for fewer speakers than
    splits, and where no draw has every class in every part.
    """
    pool = sorted((*fold.train, *fold.dev))
    sizes = Counter(speaker for u in pool if (speaker := fold.speakers.get(u)) is not None)
    where = f"sweep.inner={splits}: fold {fold.index} of {fold.protocol}"
    if len(sizes) < splits:
        raise EmodartsError(
            f"{where} has {len(sizes)} known speakers in train and dev, and each split needs one: set sweep.inner to "
            f"{len(sizes)} or less"
        )
    missing: set[str] = set()
    for draw in range(_DRAWS):
        part_of = _deal(sizes, splits, derive_seed(seed, "inner splits", fold.index, draw))
        parts: list[list[str]] = [[] for _ in range(splits)]
        for utterance in pool:
            if (speaker := fold.speakers.get(utterance)) is not None:
                parts[part_of[speaker]].append(utterance)
        missing = {name for part in parts for name in {*fold.classes} - {fold.labels[u] for u in part}}
        if not missing:
            return tuple(_inner_fold(fold, pool, part, recordings or {}, parted) for part in parts)
    rest = ",".join(name for name in fold.classes if name not in missing)
    raise EmodartsError(
        f"{where}: too few speakers have {', '.join(sorted(missing))} for every part to have all classes: set a "
        f"smaller sweep.inner, or corpus.class_set='{rest}'"
    )


def _deal(sizes: Mapping[str, int], splits: int, seed: int) -> dict[str, int]:
    """The part of each speaker: in a random order, larger ones first, to the part with the least of their corpus."""
    shuffled: list[str] = np.random.default_rng(seed).permutation(sorted(sizes)).tolist()
    loads: Counter[tuple[str, int]] = Counter()  # by corpus, and of all ("")
    part_of = {}
    for speaker in sorted(shuffled, key=lambda name: -sizes[name]):
        corpus = speaker.partition("/")[0]
        part = min(range(splits), key=lambda part: (loads[corpus, part], loads["", part], part))
        part_of[speaker] = part
        loads[corpus, part] += sizes[speaker]
        loads["", part] += sizes[speaker]
    return part_of


def _inner_fold(
    fold: Fold, pool: list[str], dev: list[str], recordings: Mapping[str, str | None], parted: Collection[str]
) -> Fold:
    in_dev, near = set(dev), {recordings.get(u) for u in dev} - {None}
    train, left_out = [], dict(fold.left_out)
    for utterance in (u for u in pool if u not in in_dev):
        is_unknown = fold.speakers.get(utterance) is None
        if recordings.get(utterance) in near and (is_unknown or utterance.partition("/")[0] in parted):
            left_out[utterance] = UNKNOWN_NEAR_TEST if is_unknown else SHARED_RECORDING
        else:
            train.append(utterance)
    inner = replace(fold, train=tuple(train), dev=tuple(dev), left_out=left_out)
    check_fold(inner)
    return replace(inner, hash=fold_hash(inner.train, inner.dev, inner.tests, inner.labels, inner.classes))
