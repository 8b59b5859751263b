"""Parts of a fold's train part: some of it, for searches on large corpora; two halves, for weights and for alphas."""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from emodarts.corpora.protocols.folds import Fold
from emodarts.errors import EmodartsError
from emodarts.seeds import derive_seed


@dataclass(frozen=True)
class Subsample:
    """Sorted ids, and the name `size@seed:hash of the ids`; None where nothing of train was left out."""

    ids: tuple[str, ...]
    name: str | None


def subsample(fold: Fold, size: int, seed: int = 0) -> Subsample:
    """`size` utterances of the fold's train part, drawn at random, the classes in train's proportions.

    Every class keeps at least 2, one for each half of the search. The draw depends on the ids, labels, size and seed
    alone. All of train where it has no more than `size`. Raises EmodartsError where the classes do not fit into it.
    """
    if size >= len(fold.train):
        return Subsample(tuple(sorted(fold.train)), None)
    chosen: list[str] = []
    for label, count in _class_sizes(fold, size).items():
        members = sorted(u for u in fold.train if fold.labels[u] == label)
        rng = np.random.default_rng(derive_seed(seed, "subsample", label))
        chosen += [members[i] for i in rng.permutation(len(members))[:count].tolist()]
    ids = tuple(sorted(chosen))
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:8]
    return Subsample(ids, f"{size}@{seed}:{digest}")


def _class_sizes(fold: Fold, size: int) -> dict[str, int]:
    """The utterances of each class: in proportion, by largest remainder, and 2 where that gives fewer."""
    counts = Counter(fold.labels[u] for u in fold.train)
    few = sorted(label for label, count in counts.items() if count < 2)
    if few or size < 2 * len(counts):
        raise EmodartsError(
            f"search.subsample={size}: {fold.protocol} fold {fold.index} has {len(counts)} classes in train, and each "
            f"needs 2 utterances there" + (f" ({', '.join(few)} has not)" if few else f": {2 * len(counts)} or more")
        )
    sizes: dict[str, int] = {}
    exact: dict[str, float] = {}
    while not exact or min(exact.values()) < 2:  # those lifted to 2 leave less for the others
        sizes |= {label: 2 for label, proportion in exact.items() if proportion < 2}
        rest = sorted(counts.keys() - sizes.keys())
        total = sum(counts[label] for label in rest)
        exact = {label: (size - sum(sizes.values())) * counts[label] / total for label in rest}
    sizes |= {label: int(proportion) for label, proportion in exact.items()}
    by_remainder = sorted(exact, key=lambda label: (int(exact[label]) - exact[label], label))
    for label in by_remainder[: size - sum(sizes.values())]:
        sizes[label] += 1
    return sizes


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
