"""The loss that classes, or classes of corpora, share equally."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emodarts.features.batches import FoldPart, class_weights
from emodarts.features.settings import BatchSettings
from emodarts.training import svm
from emodarts.training.losses import BalancedLoss

UTTERANCES = ("a/1", "a/2", "a/3", "a/4", "b/1", "b/2")
LABELS = np.array([0, 0, 0, 1, 0, 1])


@pytest.fixture
def part():
    return FoldPart(None, None, UTTERANCES, LABELS, np.arange(6))


@pytest.fixture
def batch():
    positions = torch.tensor([0, 3, 5])
    return SimpleNamespace(labels=torch.from_numpy(LABELS)[positions], positions=positions)


def test_by_class_it_is_the_cross_entropy_that_it_was(part, batch):
    logits = torch.tensor([[1.0, -1.0], [0.3, 0.1], [2.0, 0.5]])
    for smoothing in (0.0, 0.1):
        loss = BalancedLoss(part, 2, BatchSettings(), "cpu", smoothing)(logits, batch)
        assert torch.equal(
            loss, F.cross_entropy(logits, batch.labels, class_weights(part, 2), label_smoothing=smoothing)
        )


def test_by_class_and_corpus_each_cell_weighs_the_same(part, batch):
    logits = torch.tensor([[1.0, -1.0], [0.3, 0.1], [2.0, 0.5]])
    loss = BalancedLoss(part, 2, BatchSettings(loss_weights="class_and_corpus"), "cpu")(logits, batch)
    weights = torch.tensor([6 / 4 / 3, 6 / 4, 6 / 4])  # 4 cells of 3, 1, 1, 1 utterances
    each = F.cross_entropy(logits, batch.labels, reduction="none")
    torch.testing.assert_close(loss, (weights * each).sum() / weights.sum())


@pytest.mark.parametrize("choice", [{"sampling": "corpus"}, {"loss_weights": "class_and_corpus"}])
def test_a_machine_weighs_its_utterances_as_a_network_does(choice, monkeypatch):
    """The small corpus decides more where corpora count equally; the defaults give the machine that there was."""
    rng = np.random.default_rng(0)
    utterances = tuple(f"{'small' if n < 6 else 'large'}/{n}" for n in range(66))
    labels = np.arange(66) % 2
    inputs = rng.normal(0, 1, (66, 3))
    inputs[:6, 0] += np.where(labels[:6], 4, -4)
    inputs[6:, 0] -= np.where(labels[6:], 1, -1)
    part = FoldPart(None, None, utterances, labels, np.arange(66))
    monkeypatch.setattr(svm, "functionals", lambda part, layers: inputs)
    plain = svm.fit(part, 2, 0.01, 0).predict(part)
    assert np.array_equal(plain, svm.fit(part, 2, 0.01, 0, batches=BatchSettings()).predict(part))
    weighed = svm.fit(part, 2, 0.01, 0, batches=BatchSettings(**choice)).predict(part)
    right = lambda scores: (scores.argmax(1) == labels)[:6].mean()  # noqa: E731
    assert right(weighed) > right(plain)
