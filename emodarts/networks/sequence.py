"""SeqNN operations over time: stacked recurrent layers, one way or both ways, and self-attention, masked.

Every operation maps `x (batch, time, channels)` and `lengths (batch,)` to an output of the same shape; padded frames
are zero on both sides. Masking is exact without packing: a forward layer never sees what follows, and a backward layer
runs over each sequence reversed within its own length. `lstm_n`, `rnn_n` and `gru_n` are n unidirectional layers,
`bilstm_n` and `bigru_n` are n bidirectional ones, `lstm_attention_n` and `rnn_attention_n` are n bidirectional layers
followed by self-attention over time (emoDARTS, Rajapakshe et al. 2024), `self_attention_n` is one of n heads alone.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from emodarts.errors import EmodartsError
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


class BidirectionalLayers(nn.Module):
    """n bidirectional recurrent layers, half of the width in each direction; `inputs` None: as many as the width."""

    def __init__(self, kind: str, width: int, layers: int, inputs: int | None = None):
        super().__init__()
        if width % 2:
            raise EmodartsError(f"a bidirectional {kind} needs an even width, not {width}: half goes to each direction")
        build = _RECURRENT[kind]
        sizes = [inputs or width, *[width] * (layers - 1)]
        self.forwards = nn.ModuleList(build(size, width // 2, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(build(size, width // 2, batch_first=True) for size in sizes)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, inputs)` -> `(batch, time, width)`, zero at padding."""
        mask = time_mask(lengths, x.shape[1])[:, :, None]
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            reverse = reverse_in_time(back(reverse_in_time(x, lengths))[0], lengths)
            x = torch.cat([ahead(x)[0], reverse], 2) * mask
        return x


class Bidirectional(nn.Module):
    """n bidirectional recurrent layers and a layer normalisation of their output."""

    def __init__(self, kind: str, width: int, layers: int, affine: bool):
        super().__init__()
        self.layers = BidirectionalLayers(kind, width, layers)
        self.norm = nn.LayerNorm(width, elementwise_affine=affine)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, width)` -> the same shape."""
        mask = time_mask(lengths, x.shape[1])[:, :, None]
        return self.norm(self.layers(x, lengths)) * mask


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) of `(..., time, channels)` where `mask` is true.

    `mask (..., time)`. torch's own function is not used because it has no gradient of its gradient on the CPU.
    """
    scores = queries @ (keys / math.sqrt(keys.shape[-1])).transpose(-2, -1)
    return scores.masked_fill(~mask[..., None, :], float("-inf")).softmax(-1) @ values


class SelfAttention(nn.Module):
    """Self-attention of some heads over time, to real frames only, projected and layer-normalised."""

    def __init__(self, width: int, heads: int, affine: bool):
        super().__init__()
        if width % heads:
            raise EmodartsError(f"self-attention of {heads} heads needs a width divisible by {heads}, not {width}")
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=affine)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, width)` -> the same shape."""
        mask = time_mask(lengths, x.shape[1])
        split = self.queries_keys_values(x).unflatten(2, (3, self.heads, -1))  # (batch, time, 3, heads, width / heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        attended = attend(queries, keys, values, mask[:, None])
        return self.norm(self.projection(attended.transpose(1, 2).flatten(2))) * mask[:, :, None]


class RecurrentAttention(nn.Module):
    """n bidirectional recurrent layers, then self-attention of one head over time, projected back to the width."""

    def __init__(self, kind: str, width: int, layers: int, affine: bool):
        super().__init__()
        self.layers = BidirectionalLayers(kind, width, layers)
        self.attention = SelfAttention(width, 1, affine)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, width)` -> the same shape."""
        y: Tensor = self.attention(self.layers(x, lengths), lengths)
        return y


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


_RECURRENT: dict[str, type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}

Build = Callable[[int, bool], nn.Module]


def _recurrent(kind: str, layers: int) -> Build:
    return lambda width, affine: Recurrent(kind, width, layers, affine)


def _bidirectional(kind: str, layers: int) -> Build:
    return lambda width, affine: Bidirectional(kind, width, layers, affine)


def _attention(kind: str, layers: int) -> Build:
    return lambda width, affine: RecurrentAttention(kind, width, layers, affine)


# name -> build(width, affine); first those of emoDARTS
SEQUENCE_OPERATIONS: dict[str, Build] = {
    "none": lambda width, affine: SequenceZero(),
    "skip_connect": lambda width, affine: SequenceSkip(),
    **{f"lstm_{n}": _recurrent("lstm", n) for n in (1, 2, 3, 4)},
    **{f"rnn_{n}": _recurrent("rnn", n) for n in (1, 2, 3, 4)},
    **{f"lstm_attention_{n}": _attention("lstm", n) for n in (1, 2)},
    **{f"rnn_attention_{n}": _attention("rnn", n) for n in (1, 2)},
    **{f"gru_{n}": _recurrent("gru", n) for n in (1, 2)},
    "bilstm_1": _bidirectional("lstm", 1),
    "bigru_1": _bidirectional("gru", 1),
    "self_attention_4": lambda width, affine: SelfAttention(width, 4, affine),
}


def family_of(operation: str) -> str:
    """The SeqNN family of an operation: `lstm_attention_2` -> `lstm_attention`."""
    return operation.rsplit("_", 1)[0] if operation[-1].isdigit() else operation


def operations_of(family: str, operations: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `operations` that belong to a SeqNN family (`all` keeps every one); none and skip always stay."""
    return tuple(name for name in operations if family in ("all", family_of(name)) or not name[-1].isdigit())
