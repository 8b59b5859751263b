"""Parts of the mixed sequence operations, each for all edges at once: recurrent layers of a kind, self-attentions.

They hold the weights of the modules of `sequence`, stacked, a row for each layer of an edge, and compute what those do
before their layer norm. Outputs are `(operations * edges, time, batch, channels)`, with anything at padding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emodarts.networks.first_order import first_order_only
from emodarts.networks.fused.recurrence import LayerGroup, recurrence
from emodarts.networks.sequence import BidirectionalLayers, RecurrentAttention, SelfAttention, attend

_BLOCKS = {"LSTM": (0, 1, 3, 2), "GRU": (0, 1, 2), "RNN_TANH": (0,)}  # as numbers of torch's: its LSTM has i f g o

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
        self.mode, self.width = module.mode, module.hidden_size
        columns, self.inputs = getattr(module, f"weight_ih_l{layer}").shape
        self.weight = nn.Parameter(torch.empty(len(rows), self.inputs + self.width, columns))
        self.bias = nn.Parameter(torch.empty(2, len(rows), columns))
        for number, row in enumerate(rows):
            for stacked_block, plain_block in self.blocks(number, *row.layer_of(plain[row.name][row.edge])):
                stacked_block.copy_(plain_block)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Weight and bias as `recurrence` takes them."""
        return self._gru_matrices() if self.mode == "GRU" else (self.weight, self.bias.sum(0))

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

    def blocks(self, number: int, module: nn.RNNBase, layer: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Blocks of the stacked weights of a row beside the same blocks of a module."""
        weight, bias = self.weight.detach()[number], self.bias.detach()[:, number]
        parts = {"weight_ih": weight[: self.inputs].T, "weight_hh": weight[self.inputs :].T}
        parts |= {"bias_ih": bias[0], "bias_hh": bias[1]}
        for name, stacked in parts.items():
            plain = getattr(module, f"{name}_l{layer}").detach().split(self.width)
            yield from zip(stacked.split(self.width), (plain[block] for block in _BLOCKS[self.mode]), strict=True)

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


class FusedRecurrentLayers(nn.Module):
    """The recurrent layers of one kind; the operations with the most layers first.

    All unidirectional layers and the first ones of bidirectional operations run in one recurrence; deeper bidirectional
    layers, which need all frames of the layer below, in another. Both directions of a bidirectional layer are one row.
    """

    def __init__(self, plain: PlainOperations):
        super().__init__()
        both_ways = {
            name: modules for name, modules in plain.items() if isinstance(modules[0].layers, BidirectionalLayers)
        }
        one_way = {name: modules for name, modules in plain.items() if name not in both_ways}
        self.mode = next(iter(plain.values()))[0].layers.mode
        self.unidirectional_names, self.bidirectional_names = tuple(one_way), tuple(both_ways)
        by_depth = _by_depth(one_way)
        self.rows_per_depth = tuple(len(pairs) for pairs in by_depth)
        rows = [LayerAddress(*pair, False, depth) for depth, pairs in enumerate(by_depth) for pair in pairs]
        self.unidirectional = StackedLayers(one_way, rows) if rows else None
        self.bidirectional: Any = nn.ModuleList()
        for depth, pairs in enumerate(_by_depth(both_ways)):
            rows = [LayerAddress(*pair, backwards, depth) for backwards in (False, True) for pair in pairs]
            self.bidirectional.append(StackedLayers(both_ways, rows))

    def forward(self, frames: Tensor, reverse: "Reversal") -> list[tuple[tuple[str, ...], Tensor]]:
        """Frames `(time, batch, channels)` -> names and outputs of the operations."""
        groups = []
        if self.unidirectional is not None:
            weight, bias = self.unidirectional.matrices()
            groups.append(LayerGroup(frames[None], weight, bias, self.rows_per_depth))
        if self.bidirectional:
            groups.append(self._bidirectional_group(0, frames[None], reverse))
        hidden = recurrence(self.mode, groups)
        outputs = [] if self.unidirectional is None else [(self.unidirectional_names, hidden[0])]
        if self.bidirectional:
            outputs.append((self.bidirectional_names, self._bidirectional_outputs(hidden[-1], reverse)))
        return outputs

    def _bidirectional_group(self, depth: int, sources: Tensor, reverse: "Reversal") -> LayerGroup:
        """The layers of one depth, which read the sources from both ends."""
        stack = self.bidirectional[depth]
        weight, bias = stack.paired_matrices()
        return LayerGroup(torch.cat([sources, reverse(sources)], 3), weight, bias, (len(stack.rows) // 2,))

    def _bidirectional_outputs(self, hidden: Tensor, reverse: "Reversal") -> Tensor:
        """States of the first depth -> outputs of all operations."""
        outputs: list[Tensor] = []
        for depth in range(len(self.bidirectional)):
            ahead, back = hidden.chunk(2, 3)
            states = torch.cat([ahead, reverse(back)], 3)
            deeper = len(self.bidirectional[depth + 1].rows) // 2 if depth + 1 < len(self.bidirectional) else 0
            outputs.insert(0, states[deeper:])
            if deeper:
                (hidden,) = recurrence(self.mode, [self._bidirectional_group(depth + 1, states[:deeper], reverse)])
        return torch.cat(outputs)


class FusedAttention(nn.Module):
    """The self-attentions of as many heads."""

    def __init__(self, plain: PlainOperations):
        super().__init__()
        self.names, self.edges = tuple(plain), len(next(iter(plain.values())))
        attentions = [attention_of(module) for modules in plain.values() for module in modules]
        self.heads = attentions[0].heads
        self.queries_keys_values = StackedLinear([attention.queries_keys_values for attention in attentions])
        self.projection = StackedLinear([attention.projection for attention in attentions])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(rows, time, batch, channels)` -> the same shape; `mask (batch, time)`."""
        rows, time, batch, width = x.shape
        projected = self.queries_keys_values(x.reshape(rows, time * batch, width))
        split = projected.view(rows, time, batch, 3, self.heads, -1)
        queries, keys, values = split.permute(3, 0, 2, 4, 1, 5)  # (3, rows, batch, heads, time, width / heads)
        attended = attend(queries, keys, values, mask[:, None])
        return self.projection(attended.permute(0, 3, 1, 2, 4).reshape(rows, time * batch, width)).view(x.shape)


class Reversal:
    """Reverses each sequence of `(rows, time, batch, channels)` within its own length; padded frames stay."""

    def __init__(self, lengths: Tensor, frames: int):
        steps, batch = torch.arange(frames, device=lengths.device)[:, None], len(lengths)
        order = torch.where(steps < lengths, lengths - 1 - steps, steps)
        self.index = (order * batch + torch.arange(batch, device=lengths.device)).flatten()

    def __call__(self, x: Tensor) -> Tensor:
        """Its own inverse."""
        reversed_frames: Tensor = _SelfInverseOrder.apply(x.flatten(1, 2), self.index)
        return reversed_frames.view(x.shape)


class _SelfInverseOrder(torch.autograd.Function):
    """Frames in another order that is its own inverse: the gradient is the same function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.index = index
        return x.index_select(1, index)

    @staticmethod
    @first_order_only
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.index_select(1, ctx.index), None


def grouped(plain: PlainOperations, key: Callable[[Any], Any]) -> list[PlainOperations]:
    """The operations whose modules share a key, those with the most recurrent layers first."""
    groups: dict[Any, dict[str, Sequence[Any]]] = {}
    for name, modules in sorted(plain.items(), key=lambda item: -_depth(item[1][0])):
        groups.setdefault(key(modules[0]), {})[name] = modules
    return list(groups.values())


def attention_of(operation: Any) -> SelfAttention:
    """The self-attention of an operation that has one."""
    attention: SelfAttention = operation.attention if isinstance(operation, RecurrentAttention) else operation
    return attention


def _depth(operation: Any) -> int:
    """How many recurrent layers an operation has on top of each other."""
    depth: int = 0 if isinstance(operation, SelfAttention) else operation.layers.num_layers
    return depth


def _by_depth(plain: PlainOperations) -> list[list[tuple[str, int]]]:
    """The (operation, edge) pairs that have a layer at each depth."""
    depths = {name: _depth(modules[0]) for name, modules in plain.items()}
    levels = range(max(depths.values(), default=0))
    return [[(n, edge) for n in plain if depths[n] > level for edge in range(len(plain[n]))] for level in levels]
