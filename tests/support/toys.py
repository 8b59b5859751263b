"""Small searches without recordings: a store in memory, and events in noise whose order tells the class."""

import numpy as np
import torch

from emodarts.features.batches import FoldPart
from emodarts.features.normalisation import Standardiser
from emodarts.features.settings import BatchSettings, FeatureSettings
from emodarts.search.settings import SearchSettings
from emodarts.search.task import SearchTask

SIZES = {
    "cells": 1,
    "nodes": 1,
    "channels": 4,
    "sequence_cells": 1,
    "sequence_nodes": 1,
    "sequence_width": 4,
    "stem_channels": 4,
    "stem_strides": [1, 1],
    "dropout": 0.0,
    "batch_size": 16,
    "cnn_operations": ["none", "skip_connect", "avg_pool_3x3", "sep_conv_3x3"],
    "sequence_operations": ["none", "skip_connect", "lstm_1"],
}
PLAIN = {
    "optimisation": "bilevel",
    "sequence_shortcut": False,
    "relaxation": "softmax",
    "regulariser": "none",
    "selection": "magnitude",
    "stop": "none",
    "warmup_epochs": 0,
    "cost_weight": 0.0,
}


class Frames:
    """A store of utterances of one length: `frames (utterances, time, bins)`, or `(utterances, time, layers, bins)`."""

    variants = (None,)

    def __init__(self, frames):
        self.channels, self.bins = (1, *frames.shape[2:])[-2:]
        self.frames = frames.reshape(*frames.shape[:2], -1).astype(np.float16)

    def read(self, row, variant=0):
        return self.frames[row]

    def lengths(self, rows, variant=0):
        return np.full(len(rows), self.frames.shape[1], np.int64)


def part(frames, labels):
    store = Frames(frames)
    values = store.channels * store.bins
    same = Standardiser(torch.zeros(values), torch.ones(values))
    return FoldPart(store, same, tuple(f"u{i}" for i in range(len(labels))), labels, np.arange(len(labels)))


def task(frames, labels, half=None, seed=0, features=None, **settings):
    """A search: so many utterances for the weights, so many for the alphas, the others for dev.

    With a single level the first two learn from both halves, as in `experiment`.
    """
    half = half or len(labels) // 3
    halves = (slice(0, half), slice(half, 2 * half), slice(0, 2 * half), slice(2 * half, None))
    parts = [part(frames[rows], labels[rows]) for rows in halves]
    chosen = SearchSettings(**{**SIZES, **settings})
    if chosen.optimisation == "single":
        parts[:2] = parts[2], parts[2]
    classes, features = int(labels.max()) + 1, features or FeatureSettings()
    return SearchTask(*parts, classes, chosen, features, BatchSettings(), seed)


def noise(count=48, frames=8, bins=4, classes=3, seed=0):
    """Frames and labels that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, frames, bins)), rng.permutation(np.arange(count) % classes)
