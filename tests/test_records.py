"""The rule that chooses an epoch on dev."""

import pytest

from emodarts.records import EpochRecord, is_late, late_dev_epoch


def records(*figures):
    """An epoch for each dev UAR and dev loss."""
    return [EpochRecord("train", epoch, 1.0, loss, uar, 0.5, 0.1) for epoch, (uar, loss) in enumerate(figures)]


@pytest.mark.parametrize(
    ("epochs", "first"), [(1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (8, 6), (9, 6), (15, 11), (30, 22), (50, 37)]
)
def test_late_is_the_last_quarter_rounded_up(epochs, first):
    assert [is_late(epoch, epochs) for epoch in range(epochs)] == [epoch >= first for epoch in range(epochs)]


def test_late_dev_epoch_has_the_best_uar_of_the_last_quarter():
    early_best = records((0.9, 0.1), (0.8, 0.1), (0.5, 1.0), (0.6, 1.0), (0.5, 1.0))
    assert late_dev_epoch(early_best, 5) == 3
    assert late_dev_epoch(early_best[:4], 5) == 3  # of those so far
    assert late_dev_epoch(early_best[:3], 5) is None


def test_late_dev_epoch_breaks_ties_by_loss_then_takes_the_earlier():
    assert late_dev_epoch(records((0.5, 1.0), (0.5, 0.9), (0.5, 0.9), (0.4, 0.1)), 12) is None
    tied = records(*[(0.1, 1.0)] * 5, (0.5, 1.0), (0.5, 0.9), (0.5, 0.9))
    assert late_dev_epoch(tied, 8) == 6
    assert late_dev_epoch(tied[:7], 8) == 6


def test_late_dev_epoch_needs_dev_figures():
    with pytest.raises(ValueError, match="epoch 0 of a train has no dev figures to be chosen by"):
        late_dev_epoch(records((None, None), (None, None)), 1)
