"""Pooling over time: from frames `(batch, time, channels)` to one vector, and to logits; padded frames do not count."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from emodarts.networks.masking import time_mask


class AttentiveStatistics(nn.Module):
    """Attention-weighted mean and standard deviation over real frames (Okabe et al. 2018)."""

    def __init__(self, width: int):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
        self.outputs = 2 * width

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, channels)` -> `(batch, 2 * channels)`."""
        mask = time_mask(lengths, x.shape[1])[:, :, None]
        weights = self.score(x).masked_fill(~mask, float("-inf")).softmax(1)
        mean = (weights * x).sum(1)
        variance = (weights * (x - mean[:, None]).square()).sum(1)
        return torch.cat([mean, (variance + 1e-5).sqrt()], 1)


class StatisticsPooling(nn.Module):
    """Mean, and with `deviation` standard deviation too, over real frames."""

    def __init__(self, width: int, deviation: bool = False):
        super().__init__()
        self.deviation, self.outputs = deviation, 2 * width if deviation else width

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, channels)` -> `(batch, channels)`, or twice as many."""
        mask = time_mask(lengths, x.shape[1])[:, :, None]
        count = lengths[:, None].to(x.dtype)
        mean = (x * mask).sum(1) / count
        if not self.deviation:
            return mean
        variance = ((x - mean[:, None]).square() * mask).sum(1) / count
        return torch.cat([mean, (variance + 1e-5).sqrt()], 1)


class MeanAndAttention(nn.Module):
    """The plain mean beside the attentive statistics."""

    def __init__(self, width: int):
        super().__init__()
        self.mean, self.attention = StatisticsPooling(width), AttentiveStatistics(width)
        self.outputs = 3 * width

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, channels)` -> `(batch, 3 * channels)`."""
        return torch.cat([self.mean(x, lengths), self.attention(x, lengths)], 1)


# name -> how it is built; a pooling has its number of `outputs`
POOLINGS: dict[str, Callable[[int], StatisticsPooling | AttentiveStatistics | MeanAndAttention]] = {
    "mean": StatisticsPooling,
    "attentive_statistics": AttentiveStatistics,
    "both": MeanAndAttention,
}


def build_head(inputs: int, classes: int, dropout: float) -> nn.Sequential:
    """Dropout and the last layer."""
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(inputs, classes))


class PooledClassifier(nn.Module):
    """A pooling and a last layer of its own: what a supernet mixes, since poolings differ in their outputs."""

    def __init__(self, name: str, width: int, classes: int, dropout: float = 0.0):
        super().__init__()
        self.pool = POOLINGS[name](width)
        self.head = build_head(self.pool.outputs, classes, dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, channels)` -> logits `(batch, classes)`."""
        logits: Tensor = self.head(self.pool(x, lengths))
        return logits
