"""Simulated predictions of speakers, and scikit-learn's figures of them."""

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, recall_score

METRICS = ("uar", "war", "macro_f1")


def predictions(rng, speakers=8, utterances=25, classes=3, skill=0.6, spread=0.15):
    """A system that is right with a probability of each speaker's own, on the same utterances for one seed."""
    names = np.repeat([f"s{i:03d}" for i in range(speakers)], utterances)
    labels = np.tile(rng.integers(classes, size=utterances), speakers)
    right = rng.random(labels.size) < np.repeat(np.clip(rng.normal(skill, spread, speakers), 0, 1), utterances)
    return names, labels, np.where(right, labels, (labels + rng.integers(1, classes, labels.size)) % classes)


def by_scikit_learn(metric, labels, predicted, weight=None):
    if weight is not None:  # a class that is drawn no more must be gone, not of weight 0
        labels, predicted, weight = (x[weight > 0] for x in (labels, predicted, weight))
    if metric == "war":
        return accuracy_score(labels, predicted, sample_weight=weight)
    of = {"uar": recall_score, "macro_f1": f1_score}[metric]
    present = sorted(set(labels.tolist()))
    return of(labels, predicted, labels=present, average="macro", sample_weight=weight, zero_division=0)
