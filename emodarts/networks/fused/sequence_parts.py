"""Parts of the mixed sequence operations, each for all edges at once: recurrent layers of a kind, self-attentions.

They hold the weights of the modules of `sequence`, stacked, and compute what those do before their layer norm. Rows are
operations times edges; outputs `(rows, time, batch, width)`, with anything at padding.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emodarts.networks.fused.recurrence import Chains, recurrence
from emodarts.networks.fused.stacked import KINDS, StackedLayers, StackedLinear
from emodarts.networks.sequence import BidirectionalLayers, RecurrentAttention, SelfAttention, attend

Plain = Mapping[str, Sequence[Any]]  # operation -> its module on each edge


class JointLayers(nn.Module):
    """The recurrent layers of one kind: of unidirectional operations, and the first ones of bidirectional operations.

    Those run in one recurrence; deeper bidirectional layers, which need all frames of the layer below, in another.
    """

    def __init__(self, plain: Plain):
        super().__init__()
        both = {name: modules for name, modules in plain.items() if _is_bidirectional(modules[0])}
        one = {name: modules for name, modules in plain.items() if name not in both}
        self.kind = kind_of(next(iter(plain.values()))[0])
        self.one_way, self.both_ways = OneWay(one) if one else None, BothWays(self.kind, both) if both else None

    @property
    def parts(self) -> list[Any]:
        """Those there are, in the order of their groups in the recurrence."""
        return [part for part in (self.one_way, self.both_ways) if part is not None]

    def forward(self, frames: Tensor, reverse: "Reversal") -> list[tuple[tuple[str, ...], Tensor]]:
        """Frames `(time, batch, width)` -> names and outputs of the operations."""
        hidden = recurrence(self.kind, [part.chains(frames[None], reverse) for part in self.parts])
        outputs = [] if self.one_way is None else [(self.one_way.names, hidden[0])]
        if self.both_ways is not None:
            outputs.append((self.both_ways.names, self.both_ways.finish(hidden[-1], reverse)))
        return outputs


class OneWay(nn.Module):
    """Unidirectional layers of one kind; the operations with the most layers first."""

    def __init__(self, plain: Plain):
        super().__init__()
        self.names, levels = tuple(plain), _levels(plain)
        self.rows = [rows for names in levels for rows in _rows(names, plain)]
        depths = [depth for depth, names in enumerate(levels) for _ in _rows(names, plain)]
        self.levels = tuple(depths.count(depth) for depth in range(len(levels)))
        self.depths = depths
        self.stack = StackedLayers([(plain[n][e].layers, d) for (n, e), d in zip(self.rows, depths, strict=True)])

    def chains(self, sources: Tensor, reverse: "Reversal") -> Chains:
        """All layers, which read the one source."""
        weight, bias = self.stack.matrices()
        return Chains(sources, weight, bias, self.levels)

    def write(self, name: str, edge: int, operation: Any) -> None:
        """Copy the weights of an operation of an edge to a plain module."""
        for row, (of, depth) in enumerate(zip(self.rows, self.depths, strict=True)):
            if of == (name, edge):
                self.stack.write(row, operation.layers, depth)


class BothWays(nn.Module):
    """Bidirectional layers of one kind, a pair of rows each; the operations with the most layers first."""

    def __init__(self, kind: str, plain: Plain):
        super().__init__()
        self.kind, self.names = kind, tuple(plain)
        self.rows = [_rows(names, plain) for names in _levels(plain)]
        self.stacks: Any = nn.ModuleList(
            StackedLayers([(_layer(plain[n][e], way, depth), 0) for way in (0, 1) for n, e in rows])
            for depth, rows in enumerate(self.rows)
        )

    def chains(self, sources: Tensor, reverse: "Reversal", depth: int = 0) -> Chains:
        """The layers of one depth, which read the sources from both ends."""
        weight, bias = self.stacks[depth].pairs()
        return Chains(torch.cat([sources, reverse(sources)], 3), weight, bias, (len(self.rows[depth]),))

    def finish(self, hidden: Tensor, reverse: "Reversal") -> Tensor:
        """States of the first depth -> outputs of all operations."""
        ends: list[Tensor] = []
        for depth, above in enumerate((*self.rows[1:], [])):
            ahead, back = hidden.chunk(2, 3)
            outputs = torch.cat([ahead, reverse(back)], 3)
            ends.insert(0, outputs[len(above) :])
            if above:
                (hidden,) = recurrence(self.kind, [self.chains(outputs[: len(above)], reverse, depth + 1)])
        return torch.cat(ends)

    def write(self, name: str, edge: int, operation: Any) -> None:
        """Copy the weights of an operation of an edge to a plain module."""
        for depth, (stack, rows) in enumerate(zip(self.stacks, self.rows, strict=True)):
            for row, of in enumerate(2 * rows):
                if of == (name, edge):
                    stack.write(row, _layer(operation, row // len(rows), depth), 0)


class JointAttention(nn.Module):
    """The self-attentions of as many heads."""

    def __init__(self, plain: Plain):
        super().__init__()
        self.names, self.edges = tuple(plain), len(next(iter(plain.values())))
        found = [attention_of(module) for modules in plain.values() for module in modules]
        self.heads = found[0].heads
        self.queries_keys_values = StackedLinear([attention.queries_keys_values for attention in found])
        self.projection = StackedLinear([attention.projection for attention in found])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(rows, time, batch, width)` -> the same shape; `mask (batch, time)`."""
        rows, time, batch, width = x.shape
        projected = self.queries_keys_values(x.reshape(rows, time * batch, width))
        split = projected.view(rows, time, batch, 3, self.heads, -1)
        queries, keys, values = split.permute(3, 0, 2, 4, 1, 5)  # (3, rows, batch, heads, time, width / heads)
        attended = attend(queries, keys, values, mask[:, None])
        return self.projection(attended.permute(0, 3, 1, 2, 4).reshape(rows, time * batch, width)).view(x.shape)

    def write(self, name: str, edge: int, operation: Any) -> None:
        """Copy the weights of an operation of an edge to a plain module."""
        row, attention = self.names.index(name) * self.edges + edge, attention_of(operation)
        self.queries_keys_values.write(row, attention.queries_keys_values)
        self.projection.write(row, attention.projection)


class Reversal:
    """Reverses each sequence of `(rows, time, batch, channels)` within its own length; padded frames stay."""

    def __init__(self, lengths: Tensor, frames: int):
        steps, batch = torch.arange(frames, device=lengths.device)[:, None], len(lengths)
        turned = torch.where(steps < lengths, lengths - 1 - steps, steps)
        self.index = (turned * batch + torch.arange(batch, device=lengths.device)).flatten()

    def __call__(self, x: Tensor) -> Tensor:
        """Its own inverse."""
        turned: Tensor = _Turn.apply(x.flatten(1, 2), self.index)
        return turned.view(x.shape)


class _Turn(torch.autograd.Function):
    """Frames in another order that is its own inverse: the gradient is the same function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.index = index
        return x.index_select(1, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        turned: Tensor = _Turn.apply(gradient, ctx.index)
        return turned, None


def groups_of(plain: Plain, key: Callable[[Any], Any]) -> list[Plain]:
    """The operations whose modules share a key, those with the most recurrent layers first."""
    groups: dict[Any, dict[str, Sequence[Any]]] = {}
    for name, modules in sorted(plain.items(), key=lambda item: -_depth(item[1][0])):
        groups.setdefault(key(modules[0]), {})[name] = modules
    return list(groups.values())


def kind_of(operation: Any) -> str:
    """The kind of an operation's recurrent layers: lstm, gru or rnn."""
    return KINDS[(_layer(operation, 0, 0) if _is_bidirectional(operation) else operation.layers).mode]


def attention_of(operation: Any) -> SelfAttention:
    """The self-attention of an operation that has one."""
    attention: SelfAttention = operation.attention if isinstance(operation, RecurrentAttention) else operation
    return attention


def _is_bidirectional(operation: Any) -> bool:
    return isinstance(operation.layers, BidirectionalLayers)


def _layer(operation: Any, way: int, depth: int) -> nn.RNNBase:
    layer: nn.RNNBase = (operation.layers.forwards, operation.layers.backwards)[way][depth]
    return layer


def _depth(operation: Any) -> int:
    """How many recurrent layers an operation has on top of each other."""
    if isinstance(operation, SelfAttention):
        return 0
    return len(operation.layers.forwards) if _is_bidirectional(operation) else operation.layers.num_layers


def _levels(plain: Plain) -> list[list[str]]:
    """The operations that have a layer at each depth."""
    depths = {name: _depth(modules[0]) for name, modules in plain.items()}
    return [[name for name in plain if depths[name] > level] for level in range(max(depths.values()))]


def _rows(names: Sequence[str], plain: Plain) -> list[tuple[str, int]]:
    return [(name, edge) for name in names for edge in range(len(plain[name]))]
