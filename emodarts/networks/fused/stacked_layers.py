"""Recurrent and linear layers of one size with their weights stacked, a row for each, to be computed as one."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.sequence import BidirectionalLayers

KINDS_OF_TORCH = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn"}
_BLOCKS = {"lstm": (0, 1, 3, 2), "gru": (0, 1, 2), "rnn": (0,)}  # ours as numbers of torch's, whose LSTM has i f g o

PlainOperations = Mapping[str, Sequence[Any]]  # name of an operation -> its module on each edge


class LayerAddress(NamedTuple):
    """A recurrent layer of an operation on an edge: its direction and its depth, 0 for the one that reads the input."""

    name: str
    edge: int
    backwards: bool
    depth: int

    def layer_of(self, operation: Any) -> tuple[nn.RNNBase, int]:
        """The module of torch.nn, and which of its layers."""
        layers = operation.layers
        if isinstance(layers, BidirectionalLayers):
            layer: Any = (layers.backwards if self.backwards else layers.forwards)[self.depth]
            return layer, 0
        return layers, self.depth


class StackedLayers(nn.Module):
    """Recurrent layers of one kind and width.

    `weight (rows, inputs + width, blocks * width)` and `bias (2, rows, blocks * width)`, torch's two, which are added.
    """

    def __init__(self, plain: PlainOperations, rows: Sequence[LayerAddress]):
        super().__init__()
        self.rows = tuple(rows)
        module, layer = rows[0].layer_of(plain[rows[0].name][rows[0].edge])
        self.kind, self.width = KINDS_OF_TORCH[module.mode], module.hidden_size
        columns, self.inputs = getattr(module, f"weight_ih_l{layer}").shape
        self.weight = nn.Parameter(torch.empty(len(rows), self.inputs + self.width, columns))
        self.bias = nn.Parameter(torch.empty(2, len(rows), columns))
        for number, row in enumerate(rows):
            for stacked_block, plain_block in self._blocks(number, *row.layer_of(plain[row.name][row.edge])):
                stacked_block.copy_(plain_block)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Weight and bias as `recurrence` takes them."""
        return self._gru_matrices() if self.kind == "gru" else (self.weight, self.bias.sum(0))

    def paired_matrices(self) -> tuple[Tensor, Tensor]:
        """The same, with row n of the first half and of the second half (two directions) as one row of twice the width.

        Such a row reads what the one direction reads and what the other does, and has the states of both: its weights
        are zero from one direction to the other.
        """
        weight, bias = (matrix.unflatten(-1, (-1, self.width)) for matrix in self.matrices())
        ahead, back = weight.chunk(2)
        ahead, back = F.pad(ahead, (0, self.width)), F.pad(back, (self.width, 0))
        of_input, of_hidden = slice(self.inputs), slice(self.inputs, None)
        weight = torch.cat([ahead[:, of_input], back[:, of_input], ahead[:, of_hidden], back[:, of_hidden]], 1)
        return weight.flatten(2), torch.cat(bias.chunk(2), -1).flatten(1)

    def write(self, name: str, edge: int, operation: Any) -> None:
        """Copy the weights of an operation of an edge to its plain module."""
        for number, row in enumerate(self.rows):
            if (row.name, row.edge) == (name, edge):
                for stacked_block, plain_block in self._blocks(number, *row.layer_of(operation)):
                    plain_block.copy_(stacked_block)

    def _blocks(self, number: int, module: nn.RNNBase, layer: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Blocks of the stacked weights of a row beside the same blocks of a module."""
        weight, bias = self.weight.detach()[number], self.bias.detach()[:, number]
        parts = {"weight_ih": weight[: self.inputs].T, "weight_hh": weight[self.inputs :].T}
        parts |= {"bias_ih": bias[0], "bias_hh": bias[1]}
        for name, stacked in parts.items():
            plain = getattr(module, f"{name}_l{layer}").detach().split(self.width)
            yield from zip(stacked.split(self.width), (plain[block] for block in _BLOCKS[self.kind]), strict=True)

    def _gru_matrices(self) -> tuple[Tensor, Tensor]:
        """The GRU's new gate as two blocks, one of the input and one of the hidden state, which it joins itself."""
        gates, (of_input, of_hidden) = 2 * self.width, self.bias.unbind(0)
        from_input, from_hidden = self.weight[..., gates:].split([self.inputs, self.width], 1)
        new = torch.cat([from_input, torch.zeros_like(from_hidden)], 1)
        new_hidden = torch.cat([torch.zeros_like(from_input), from_hidden], 1)
        bias = [of_input[:, :gates] + of_hidden[:, :gates], of_input[:, gates:], of_hidden[:, gates:]]
        return torch.cat([self.weight[..., :gates], new, new_hidden], 2), torch.cat(bias, 1)


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
