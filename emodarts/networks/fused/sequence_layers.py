"""Parts of the mixed sequence operations, each for all edges at once: recurrent layers of a kind, self-attentions.

They hold the weights of the modules of `sequence`, stacked, and compute what those do before their layer norm. Rows are
operations times edges; outputs `(rows, time, batch, width)`, with anything at padding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emodarts.networks.first_order import first_order_only
from emodarts.networks.fused.recurrence import LayerGroup, recurrence
from emodarts.networks.fused.stacked_layers import (
    KINDS_OF_TORCH,
    LayerAddress,
    PlainOperations,
    StackedLayers,
    StackedLinear,
)
from emodarts.networks.sequence import BidirectionalLayers, RecurrentAttention, SelfAttention, attend


class FusedRecurrentLayers(nn.Module):
    """The recurrent layers of one kind; the operations with the most layers first.

    All unidirectional layers and the first ones of bidirectional operations run in one recurrence; deeper bidirectional
    layers, which need all frames of the layer below, in another. Both directions of a bidirectional layer are one row.
    """

    def __init__(self, plain: PlainOperations):
        super().__init__()
        both_ways = {name: modules for name, modules in plain.items() if _is_bidirectional(modules[0])}
        one_way = {name: modules for name, modules in plain.items() if name not in both_ways}
        self.kind = kind_of(next(iter(plain.values()))[0])
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
        """Frames `(time, batch, width)` -> names and outputs of the operations."""
        groups = []
        if self.unidirectional is not None:
            weight, bias = self.unidirectional.matrices()
            groups.append(LayerGroup(frames[None], weight, bias, self.rows_per_depth))
        if self.bidirectional:
            groups.append(self._bidirectional_group(0, frames[None], reverse))
        hidden = recurrence(self.kind, groups)
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
                (hidden,) = recurrence(self.kind, [self._bidirectional_group(depth + 1, states[:deeper], reverse)])
        return torch.cat(outputs)

    def write(self, name: str, edge: int, operation: nn.Module) -> None:
        """Copy the weights of an operation of an edge to its plain module."""
        for stack in (self.unidirectional, *self.bidirectional):
            if stack is not None:
                stack.write(name, edge, operation)


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
        """`(rows, time, batch, width)` -> the same shape; `mask (batch, time)`."""
        rows, time, batch, width = x.shape
        projected = self.queries_keys_values(x.reshape(rows, time * batch, width))
        split = projected.view(rows, time, batch, 3, self.heads, -1)
        queries, keys, values = split.permute(3, 0, 2, 4, 1, 5)  # (3, rows, batch, heads, time, width / heads)
        attended = attend(queries, keys, values, mask[:, None])
        return self.projection(attended.permute(0, 3, 1, 2, 4).reshape(rows, time * batch, width)).view(x.shape)

    def write(self, name: str, edge: int, operation: nn.Module) -> None:
        """Copy the weights of an operation of an edge to its plain module, if it is here."""
        if name in self.names:
            row, attention = self.names.index(name) * self.edges + edge, attention_of(operation)
            self.queries_keys_values.write(row, attention.queries_keys_values)
            self.projection.write(row, attention.projection)


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


def kind_of(operation: Any) -> str:
    """The kind of an operation's recurrent layers: lstm, gru or rnn."""
    return KINDS_OF_TORCH[LayerAddress("", 0, False, 0).layer_of(operation)[0].mode]


def attention_of(operation: Any) -> SelfAttention:
    """The self-attention of an operation that has one."""
    attention: SelfAttention = operation.attention if isinstance(operation, RecurrentAttention) else operation
    return attention


def _is_bidirectional(operation: Any) -> bool:
    return isinstance(operation.layers, BidirectionalLayers)


def _depth(operation: Any) -> int:
    """How many recurrent layers an operation has on top of each other."""
    if isinstance(operation, SelfAttention):
        return 0
    return len(operation.layers.forwards) if _is_bidirectional(operation) else operation.layers.num_layers


def _by_depth(plain: PlainOperations) -> list[list[tuple[str, int]]]:
    """The (operation, edge) pairs that have a layer at each depth."""
    depths = {name: _depth(modules[0]) for name, modules in plain.items()}
    levels = range(max(depths.values(), default=0))
    return [[(n, edge) for n in plain if depths[n] > level for edge in range(len(plain[n]))] for level in levels]
