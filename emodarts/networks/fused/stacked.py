"""Recurrent and linear layers of one size with their weights stacked, a row for each, to be computed as one."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KINDS = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn"}  # torch's names -> ours
_ORDER = {"lstm": (0, 1, 3, 2), "gru": (0, 1, 2), "rnn": (0,)}  # our blocks in torch's order: its LSTM has i f g o


class StackedLayers(nn.Module):
    """Recurrent layers of one kind and width: `(module, depth)` of torch.nn for each row.

    `weight (rows, inputs + width, blocks * width)` and `bias (2, rows, blocks * width)`, torch's two, which are added.
    """

    def __init__(self, layers: Sequence[tuple[nn.RNNBase, int]]):
        super().__init__()
        module, depth = layers[0]
        self.kind, self.width = KINDS[module.mode], module.hidden_size
        columns, self.inputs = getattr(module, f"weight_ih_l{depth}").shape
        self.weight = nn.Parameter(torch.empty(len(layers), self.inputs + self.width, columns))
        self.bias = nn.Parameter(torch.empty(2, len(layers), columns))
        for row, layer in enumerate(layers):
            for ours, theirs in self._pairs(row, *layer):
                ours.copy_(theirs)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Weight and bias as `recurrence` takes them."""
        return (self.weight, self.bias.sum(0)) if self.kind != "gru" else self._apart()

    def pairs(self) -> tuple[Tensor, Tensor]:
        """The same, with row n of the first half and of the second half (two directions) as one row of twice the width.

        Such a row reads what the one direction reads and what the other does, and has the states of both: its weights
        are zero from one direction to the other.
        """
        weight, bias = (matrix.unflatten(-1, (-1, self.width)) for matrix in self.matrices())
        ahead, back = weight.chunk(2)
        ahead, back = F.pad(ahead, (0, self.width)), F.pad(back, (self.width, 0))
        read, kept = slice(self.inputs), slice(self.inputs, None)
        weight = torch.cat([ahead[:, read], back[:, read], ahead[:, kept], back[:, kept]], 1)
        return weight.flatten(2), torch.cat(bias.chunk(2), -1).flatten(1)

    def write(self, row: int, module: nn.RNNBase, depth: int) -> None:
        """Copy the weights of a row to a layer of a plain module."""
        for ours, theirs in self._pairs(row, module, depth):
            theirs.copy_(ours)

    def _pairs(self, row: int, module: nn.RNNBase, depth: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Blocks of the stacked weights of a row beside the same blocks of a module."""
        weight, bias = self.weight.detach()[row], self.bias.detach()[:, row]
        parts = {"weight_ih": weight[: self.inputs].T, "weight_hh": weight[self.inputs :].T}
        parts |= {"bias_ih": bias[0], "bias_hh": bias[1]}
        for name, ours in parts.items():
            theirs = getattr(module, f"{name}_l{depth}").detach().split(self.width)
            yield from zip(ours.split(self.width), (theirs[block] for block in _ORDER[self.kind]), strict=True)

    def _apart(self) -> tuple[Tensor, Tensor]:
        """The GRU's new gate as two blocks, one of the input and one of the hidden state, which it joins itself."""
        gates, (of_input, of_hidden) = 2 * self.width, self.bias.unbind(0)
        new = self.weight[..., gates:]
        apart = new.new_zeros(len(new), self.inputs, self.width), new.new_zeros(len(new), self.width, self.width)
        read = torch.cat([new[:, : self.inputs], apart[1]], 1)
        kept = torch.cat([apart[0], new[:, self.inputs :]], 1)
        bias = [of_input[:, :gates] + of_hidden[:, :gates], of_input[:, gates:], of_hidden[:, gates:]]
        return torch.cat([self.weight[..., :gates], read, kept], 2), torch.cat(bias, 1)


class StackedLinear(nn.Module):
    """Linear layers of one size: `weight (rows, inputs, outputs)`, `bias (rows, 1, outputs)`."""

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach()[None] for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        """`(rows, values, inputs)` -> `(rows, values, outputs)`."""
        return torch.baddbmm(self.bias, x, self.weight)

    @torch.no_grad()
    def write(self, row: int, module: nn.Linear) -> None:
        """Copy the weights of a row to a plain module."""
        module.weight.copy_(self.weight[row].T)
        module.bias.copy_(self.bias[row, 0])
