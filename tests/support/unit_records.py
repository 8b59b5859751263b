"""Records of a unit that no search made, with as many right predictions as one asks for."""

import numpy as np

from emodarts.records import EpochRecord, Evaluation, GenotypeRecord, UnitKey, UnitRecords

CLASSES = ("a", "b")


def key(trial=0, fold=0, seed=0, study=None):
    return UnitKey(
        "s", "emodarts", study or f"fold{fold}", trial, seed, ("x",), "x/speaker3", fold, f"h{fold}", CLASSES
    )


def evaluation(role, right, n=4, fold=0, stage="final"):
    """n utterances, the first `right` of them predicted as they should be."""
    labels = tuple(CLASSES[i % 2] for i in range(n))
    probabilities = np.array([[0.9, 0.1] if (i % 2 == 0) == (i < right) else [0.1, 0.9] for i in range(n)], np.float32)
    ids = tuple(f"x/{fold}-{role}-{i}" for i in range(n))
    return Evaluation(stage, "late_dev", role, f"x/{role}", "train", ids, (f"x/s{fold}",) * n, labels, probabilities)


def records(dev=2, test=2, fold=0, size=10):
    epoch = EpochRecord("search", 0, 1.0, 1.0, 0.5, 0.5, 0.1, 1.0, 0.2, 0.1, 1)
    evaluations = (evaluation("dev", dev, fold=fold), evaluation("test", test, fold=fold))
    return UnitRecords(
        evaluations, (epoch,), (GenotypeRecord("final", "{}", "{}", 0),), size, 5, 1, 1, 1, "{}", None, "{}"
    )
