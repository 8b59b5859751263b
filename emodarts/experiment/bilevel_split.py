"""The two halves of a fold's train part: one trains the weights of a supernet, the other its alphas."""

from collections import Counter

import numpy as np

from emodarts.corpora.protocols.folds import Fold
from emodarts.seeds import derive_seed


def split_train_part(fold: Fold, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ids that the weights learn from, and those that the alphas learn from.

    By whole groups (speakers) where there are at least four and both halves hold every class, else stratified by class.
    """
    rng = np.random.default_rng(derive_seed(seed, "halves"))
    sizes = Counter(fold.groups[u] for u in fold.train)
    halves: tuple[list[str], list[str]] = ([], [])
    if len(sizes) >= 4:
        counts = [0, 0]
        shuffled = rng.permutation(sorted(sizes)).tolist()
        side = {}
        for group in sorted(shuffled, key=lambda g: -sizes[g]):
            side[group] = int(counts[1] < counts[0])
            counts[side[group]] += sizes[group]
        for utterance in fold.train:
            halves[side[fold.groups[utterance]]].append(utterance)
    classes = {fold.labels[u] for u in fold.train}
    if any({fold.labels[u] for u in half} != classes for half in halves):
        halves = ([], [])
        for name in sorted(classes):
            members = [u for u in fold.train if fold.labels[u] == name]
            for position, number in enumerate(rng.permutation(len(members))):
                halves[position % 2].append(members[number])
    return tuple(sorted(halves[0])), tuple(sorted(halves[1]))
