"""Sequence operations over time: stacked recurrent layers, in one or both directions, and self-attention, masked.

Every operation maps `x (batch, time, channels)` and `lengths (batch,)` to an output of the same shape; padded frames
are zero on both sides. Masking is exact without packing: a forward layer never sees what follows, and a backward layer
runs over each sequence reversed within its own length. `lstm_n`, `rnn_n` and `gru_n` are n unidirectional layers,
`bilstm_n` and `bigru_n` are n bidirectional ones, `lstm_attention_n` and `rnn_attention_n` are n bidirectional layers
followed by self-attention over time (emoDARTS, Rajapakshe et al. 2024), `self_attention_n` is one of n heads alone.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from emodarts.errors import EmodartsError
from emodarts.networks.masking import reverse_in_time, time_mask
from emodarts.networks.operations import Identity, Zero


class BidirectionalLayers(nn.Module):
    """n bidirectional recurrent layers, half of the width in each direction; `inputs` None: as many as the width.

    `mode` and `num_layers` as in torch's own layers.
    """

    def __init__(self, kind: str, width: int, layers: int, inputs: int | None = None):
        super().__init__()
        if width % 2:
            raise EmodartsError(f"a bidirectional {kind} needs an even width, not {width}: half goes to each direction")
        build = _RECURRENT[kind]
        sizes = [inputs or width, *[width] * (layers - 1)]
        self.forwards = nn.ModuleList(build(size, width // 2, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(build(size, width // 2, batch_first=True) for size in sizes)
        self.mode, self.num_layers = self.forwards[0].mode, layers

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, inputs)` -> `(batch, time, channels)`, zero at padding."""
        mask = time_mask(lengths, x.shape[1])[:, :, None]
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            reverse = reverse_in_time(back(reverse_in_time(x, lengths))[0], lengths)
            x = torch.cat([ahead(x)[0], reverse], 2) * mask
        return x


class Recurrent(nn.Module):
    """n recurrent layers, in one or in both directions, and a layer normalisation of their output."""

    def __init__(self, kind: str, layers: int, width: int, affine: bool, bidirectional: bool = False):
        super().__init__()
        self.layers: nn.RNNBase | BidirectionalLayers = (
            BidirectionalLayers(kind, width, layers)
            if bidirectional
            else _RECURRENT[kind](width, width, layers, batch_first=True)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=affine)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, channels)` -> the same shape."""
        mask = time_mask(lengths, x.shape[1])[:, :, None]
        states = self.layers(x, lengths) if isinstance(self.layers, BidirectionalLayers) else self.layers(x)[0]
        return self.norm(states) * mask


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) of `(..., time, channels)` where `mask` is true.

    `mask (..., time)`. torch's own function is not used because it has no gradient of its gradient on the CPU.
    """
    scores = queries @ (keys / math.sqrt(keys.shape[-1])).transpose(-2, -1)
    return scores.masked_fill(~mask[..., None, :], float("-inf")).softmax(-1) @ values


class SelfAttention(nn.Module):
    """Self-attention of some heads over time, to real frames only, projected and layer-normalised."""

    def __init__(self, heads: int, width: int, affine: bool):
        super().__init__()
        if width % heads:
            raise EmodartsError(f"self-attention of {heads} heads needs a width divisible by {heads}, not {width}")
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=affine)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, channels)` -> the same shape."""
        mask = time_mask(lengths, x.shape[1])
        split = self.queries_keys_values(x).unflatten(2, (3, self.heads, -1))  # (batch, time, 3, heads, width / heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        attended = attend(queries, keys, values, mask[:, None])
        return self.norm(self.projection(attended.transpose(1, 2).flatten(2))) * mask[:, :, None]


class RecurrentAttention(nn.Module):
    """n bidirectional recurrent layers, then self-attention of one head over time, projected back to the width."""

    def __init__(self, kind: str, layers: int, width: int, affine: bool):
        super().__init__()
        self.layers = BidirectionalLayers(kind, width, layers)
        self.attention = SelfAttention(1, width, affine)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, channels)` -> the same shape."""
        y: Tensor = self.attention(self.layers(x, lengths), lengths)
        return y


_RECURRENT: dict[str, type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}

BuildSequenceOperation = Callable[[int, bool], nn.Module]  # (width, affine) -> module

# name -> how it is built; first those of emoDARTS
SEQUENCE_OPERATIONS: dict[str, BuildSequenceOperation] = {
    "none": lambda width, affine: Zero(),
    "skip_connect": lambda width, affine: Identity(),
    **{f"lstm_{n}": partial(Recurrent, "lstm", n) for n in (1, 2, 3, 4)},
    **{f"rnn_{n}": partial(Recurrent, "rnn", n) for n in (1, 2, 3, 4)},
    **{f"lstm_attention_{n}": partial(RecurrentAttention, "lstm", n) for n in (1, 2)},
    **{f"rnn_attention_{n}": partial(RecurrentAttention, "rnn", n) for n in (1, 2)},
    **{f"gru_{n}": partial(Recurrent, "gru", n) for n in (1, 2)},
    "bilstm_1": partial(Recurrent, "lstm", 1, bidirectional=True),
    "bigru_1": partial(Recurrent, "gru", 1, bidirectional=True),
    "self_attention_4": partial(SelfAttention, 4),
}
