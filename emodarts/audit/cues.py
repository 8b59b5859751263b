"""Non-emotional cues: how well a small forest names the class without hearing any speech."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emodarts.audit.data import AuditData
from emodarts.audit.model import CueFigure, Cues
from emodarts.corpora.protocols.folds import Fold
from emodarts.errors import EmodartsError
from emodarts.metrics import uar
from emodarts.seeds import derive_seed

CUES = ("seconds", "leading_zeros", "trailing_zeros", "dc", "noise_floor")
ALL, WITHOUT_DC = "all together", "all without DC"
FIGURES: dict[str, tuple[str, ...]] = {
    "duration": ("seconds",),
    "zeros at the ends": ("leading_zeros", "trailing_zeros"),
    "DC offset": ("dc",),
    "noise floor": ("noise_floor",),
    ALL: CUES,
    WITHOUT_DC: tuple(name for name in CUES if name != "dc"),
}
TREES = 100
TRAIN_ROWS, TEST_ROWS = 20_000, 30_000  # over all folds; more are subsampled
_LEAST_TRAIN_ROWS = 500  # of one fold

Part = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows of the data, class indices


def measure_cues(data: AuditData, folds: Sequence[Fold] | EmodartsError) -> Cues:
    """Pooled test UAR over the protocol's folds, each forest trained on train and dev of its fold. Deterministic.

    Utterances that were not measured or have no public label are left out. Without folds, or with too little in
    them, there is a reason and no figure.
    """
    medians = _medians(data)
    if isinstance(folds, EmodartsError):
        return _none("there are no folds: the figures need speakers that a forest has not seen", medians)
    classes = folds[0].classes
    parts = [(_rows(data, fold, (*fold.train, *fold.dev)), _rows(data, fold, fold.test_ids)) for fold in folds]
    parts = [(train, test) for train, test in parts if len(set(train[1].tolist())) > 1 and len(test[0])]
    if not parts:
        return _none("no fold has measured recordings of two classes to train on and any to test on", medians)
    parts, subsampled = _subsample(parts)
    labels = np.concatenate([test[1] for _, test in parts])
    inputs = np.stack([data.measures[name] for name in CUES], axis=1).astype(np.float32)
    figures = tuple(
        CueFigure(name, cues, uar(labels, _predict(inputs[:, [CUES.index(c) for c in cues]], parts), len(classes)))
        for name, cues in FIGURES.items()
    )
    sizes = np.bincount(labels, minlength=len(classes))
    present = sizes[sizes > 0]
    chance = 1 / len(present)
    return Cues(figures, chance, _margin(present, chance), len(labels), subsampled, medians, None)


def _none(reason: str, medians: dict[str, dict[str, float]]) -> Cues:
    return Cues((), float("nan"), float("nan"), 0, None, medians, reason)


def _rows(data: AuditData, fold: Fold, ids: Sequence[str]) -> Part:
    index = {name: number for number, name in enumerate(fold.classes)}
    measured = data.measured
    pairs = [
        (row, index[label])
        for utterance in ids
        if (row := data.place.get(utterance)) is not None
        and (label := fold.labels.get(utterance)) in index
        and measured[row]
    ]
    array = np.array(pairs, np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _subsample(parts: list[tuple[Part, Part]]) -> tuple[list[tuple[Part, Part]], str | None]:
    """Fewer rows where there are very many: equally many of each class to train on, a plain draw to test on."""
    train_rows = max(TRAIN_ROWS // len(parts), _LEAST_TRAIN_ROWS)
    test_rows = TEST_ROWS // len(parts)
    drawn = []
    for number, (train, test) in enumerate(parts):
        rng = np.random.default_rng(derive_seed("audit", "cues", "subsample", number))
        drawn.append((_balanced(train, train_rows, rng), _at_most(test, test_rows, rng)))
    before, after = (sum(len(train[0]) for train, _ in some) for some in (parts, drawn))
    tests = sum(len(test[0]) for _, test in parts), sum(len(test[0]) for _, test in drawn)
    if (before, tests[0]) == (after, tests[1]):
        return parts, None
    return drawn, f"{after:,} of {before:,} train rows and {tests[1]:,} of {tests[0]:,} test rows over all folds"


def _at_most(part: Part, count: int, rng: np.random.Generator) -> Part:
    if len(part[0]) <= count:
        return part
    chosen = np.sort(rng.permutation(len(part[0]))[:count])
    return part[0][chosen], part[1][chosen]


def _balanced(part: Part, count: int, rng: np.random.Generator) -> Part:
    """At most `count` rows, equally many of each class as far as they go round."""
    if len(part[0]) <= count:
        return part
    order = rng.permutation(len(part[0]))
    rank = np.empty(len(order), np.int64)  # the how-manieth of its class a row is in this order
    for label in np.unique(part[1]):
        members = order[part[1][order] == label]
        rank[members] = np.arange(len(members))
    chosen = np.sort(order[np.argsort(rank[order], kind="stable")[:count]])
    return part[0][chosen], part[1][chosen]


def _predict(inputs: NDArray[np.float32], parts: list[tuple[Part, Part]]) -> NDArray[np.int64]:
    """Predicted class indices of all test rows `(tests,)`, fold after fold; `inputs` `(N, cues)`."""
    from sklearn.ensemble import RandomForestClassifier  # an import of seconds, needed here alone

    predicted = []
    for number, (train, test) in enumerate(parts):
        forest = RandomForestClassifier(
            TREES,
            class_weight="balanced_subsample",
            n_jobs=1,
            random_state=derive_seed("audit", "cues", number) % 2**32,
        )
        predicted.append(forest.fit(inputs[train[0]], train[1]).predict(inputs[test[0]]))
    return np.concatenate(predicted).astype(np.int64)


def _margin(sizes: NDArray[np.int64], chance: float) -> float:
    """Three standard errors (there are six figures) of the UAR of a guess, each recall being binomial; at least .03."""
    error = np.sqrt((chance * (1 - chance) / sizes).sum()) / len(sizes)
    return float(max(0.03, 3 * error))


def _medians(data: AuditData) -> dict[str, dict[str, float]]:
    names = np.array([name or "" for name in data.classes])
    medians: dict[str, dict[str, float]] = {}
    for cue in CUES:
        values = data.measures[cue]
        medians[cue] = {
            name: float(np.median(part))
            for name in sorted(set(names.tolist()) - {""})
            if len(part := values[(names == name) & ~np.isnan(values)])
        }
    return medians
