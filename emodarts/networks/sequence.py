"""SeqNN operations over time: stacked LSTM and RNN layers, with and without self-attention, masked.

Every operation maps `x (batch, time, channels)` and `lengths (batch,)` to an output of the same shape; padded frames
are zero on both sides. Masking is exact without packing: a forward layer never sees what follows, and a backward layer
runs over each sequence reversed within its own length. `lstm_n` and `rnn_n` are n unidirectional layers,
`*_attention_n` are n bidirectional layers followed by self-attention over time (emoDARTS, Rajapakshe et al. 2024).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from emodarts.networks.masking import reverse_in_time, time_mask


class Recurrent(nn.Module):
    """n stacked unidirectional recurrent layers and a layer normalisation of their output."""

    def __init__(self, kind: str, width: int, layers: int, affine: bool):
        super().__init__()
        self.layers = _RECURRENT[kind](width, width, layers, batch_first=True)
        self.norm = nn.LayerNorm(width, elementwise_affine=affine)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, width)` -> the same shape."""
        mask = time_mask(lengths, x.shape[1])[:, :, None]
        return self.norm(self.layers(x)[0]) * mask


class RecurrentAttention(nn.Module):
    """n bidirectional recurrent layers, then masked self-attention over time, projected back to the width."""

    def __init__(self, kind: str, width: int, layers: int, affine: bool):
        super().__init__()
        if width % 2:
            raise ValueError(f"a bidirectional operation needs an even width, not {width}")
        build = _RECURRENT[kind]
        self.forwards = nn.ModuleList(build(width, width // 2, batch_first=True) for _ in range(layers))
        self.backwards = nn.ModuleList(build(width, width // 2, batch_first=True) for _ in range(layers))
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=affine)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, width)` -> the same shape."""
        mask = time_mask(lengths, x.shape[1])
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            reverse = reverse_in_time(back(reverse_in_time(x, lengths))[0], lengths)
            x = torch.cat([ahead(x)[0], reverse], 2) * mask[:, :, None]
        return self.norm(self.projection(self._attend(x, mask))) * mask[:, :, None]

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        """Scaled dot-product attention (Vaswani et al. 2017, eq. 1), one head, over real frames only."""
        queries, keys, values = self.queries_keys_values(x).chunk(3, 2)
        scores = queries @ keys.transpose(1, 2) / math.sqrt(x.shape[2])
        return scores.masked_fill(~mask[:, None, :], float("-inf")).softmax(2) @ values


class SequenceSkip(nn.Module):
    """Identity."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return x as it is."""
        return x


class SequenceZero(nn.Module):
    """`none`: no connection."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Zeros of x's shape."""
        return torch.zeros_like(x)


_RECURRENT: dict[str, type[nn.LSTM] | type[nn.RNN]] = {"lstm": nn.LSTM, "rnn": nn.RNN}

Build = Callable[[int, bool], nn.Module]


def _recurrent(kind: str, layers: int) -> Build:
    return lambda width, affine: Recurrent(kind, width, layers, affine)


def _attention(kind: str, layers: int) -> Build:
    return lambda width, affine: RecurrentAttention(kind, width, layers, affine)


# name -> build(width, affine)
SEQUENCE_OPERATIONS: dict[str, Build] = {
    "none": lambda width, affine: SequenceZero(),
    "skip_connect": lambda width, affine: SequenceSkip(),
    **{f"lstm_{n}": _recurrent("lstm", n) for n in (1, 2, 3, 4)},
    **{f"rnn_{n}": _recurrent("rnn", n) for n in (1, 2, 3, 4)},
    **{f"lstm_attention_{n}": _attention("lstm", n) for n in (1, 2)},
    **{f"rnn_attention_{n}": _attention("rnn", n) for n in (1, 2)},
}


def family_of(operation: str) -> str:
    """The SeqNN family of an operation: `lstm_attention_2` -> `lstm_attention`."""
    return operation.rsplit("_", 1)[0] if operation[-1].isdigit() else operation


def operations_of(family: str, operations: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `operations` that belong to a SeqNN family (`all` keeps every one); none and skip always stay."""
    return tuple(name for name in operations if family in ("all", family_of(name)) or not name[-1].isdigit())
