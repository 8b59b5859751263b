"""Many recurrent layers of one kind and width computed as one.

The layers are rows of a stack, in one or more groups that differ in what they read. At each step one batched product
`[x_t, h_t-1] W + b` serves all rows of a group, and one step of the cell all rows. Layers on top of each other run as a
wavefront: while a layer works on frame t, the one above it works on frame t - 1, so that all depths advance together.

The backward pass is backpropagation through time written by hand, without truncation. The gradient of the weights is
one product over all frames after the loop, in a node of its own: where autograd is asked for the gradient of other
things alone (the alphas), it is not computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emodarts.networks.fused.recurrent_cells import CELLS, RecurrentCell


class Chains(NamedTuple):
    """Recurrent layers on top of each other, of one kind and width: the rows of a group.

    `levels`: how many rows (layers) there are at each depth, never more than at the depth below; row j of a depth reads
    row j of the depth below, and rows with the same j are a chain. The first depth reads `sources (sources, time,
    batch, inputs)`, each source by the same number of rows in turn. The columns of `weight (rows, inputs + width,
    columns)` and `bias (rows, columns)` are the cell's blocks; more than one depth needs inputs = width.
    """

    sources: Tensor
    weight: Tensor
    bias: Tensor
    levels: tuple[int, ...]


def recurrence(kind: str, groups: Sequence[Chains]) -> list[Tensor]:
    """The hidden states of the last layer of each chain: `(chains, time, batch, width)` of each group.

    `kind`: lstm, gru or rnn (`recurrent_cells`), from zero states. All groups have the same frames, batch and width.
    """
    frames, first = groups[0].sources.shape[1], 0
    steps = frames + max(len(group.levels) for group in groups) - 1
    plan, tensors = [], []
    for sources, weight, bias, levels in groups:
        group = _Group(first, levels, frames, weight.shape[1] - sources.shape[3], {})
        product = _WeightGradient.apply(weight, bias, group, (len(weight), steps, sources.shape[2], weight.shape[2]))
        tensors += [sources.to(weight.dtype), product, weight, bias]  # under autocast in the precision of the weights
        plan.append(group)
        first += len(weight)
    return list(_Recurrence.apply(CELLS[kind], plan, *tensors))


@dataclass(frozen=True)
class _Group:
    """Where the rows of a group are in the stack, by depth. Depth d works on frame `step - d`.

    `handed`: what the backward pass of the recurrence hands to that of the weights, the left side of their products.
    """

    first: int
    levels: tuple[int, ...]
    frames: int
    width: int
    handed: dict[str, Tensor]

    @property
    def all(self) -> slice:
        return slice(self.first, self.first + sum(self.levels))

    def rows(self, depth: int, count: int | None = None) -> slice:
        """The rows of a depth, or the first of them."""
        first = self.first + sum(self.levels[:depth])
        return slice(first, first + (self.levels[depth] if count is None else count))

    def links(self) -> list[tuple[slice, slice]]:
        """(rows, the rows they read) of every depth but the first."""
        return [(self.rows(d), self.rows(d - 1, self.levels[d])) for d in range(1, len(self.levels))]

    def ends(self) -> list[tuple[slice, slice, slice]]:
        """(chains, rows, steps) of the last layers of the chains that end at each depth."""
        found = []
        for depth, (here, above) in enumerate(zip(self.levels, (*self.levels[1:], 0), strict=True)):
            rows = slice(self.rows(depth).start + above, self.rows(depth).stop)
            found.append((slice(above, here), rows, slice(depth, depth + self.frames)))
        return found

    def within(self, rows: slice) -> slice:
        """Rows of the stack, counted within the group."""
        return slice(rows.start - self.first, rows.stop - self.first)


def _begins(groups: list[_Group]) -> dict[int, list[tuple[int, slice]]]:
    """Step -> (group, rows) whose first frame is then, but for the first step."""
    depths = range(1, max(len(group.levels) for group in groups))
    return {d: [(n, g.rows(d)) for n, g in enumerate(groups) if d < len(g.levels)] for d in depths}


class _WeightGradient(torch.autograd.Function):
    """Zeros in the place of the products: where the gradient of the products becomes that of the weights."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, group: _Group, shape: tuple[int, ...]) -> Tensor:
        ctx.group = group
        ctx.set_materialize_grads(False)
        return weight.new_zeros(()).expand(shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:  # `_Recurrence.backward` has given the weights a gradient that can be differentiated
            return None, None, None, None
        operands = ctx.group.handed.pop("operands")[:, :-1].flatten(1, 2)
        gradient = gradient.flatten(1, 2)
        return torch.bmm(operands.transpose(1, 2), gradient), gradient.sum(1), None, None


class _Recurrence(torch.autograd.Function):
    """The loop over the steps of the wavefront, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, kind: type[RecurrentCell], groups: list[_Group], *tensors: Tensor) -> tuple[Tensor, ...]:
        sources, products, weights, biases = (tensors[n::4] for n in range(4))
        steps = products[0].shape[1]
        operands = [_operands(g, s, steps) for g, s in zip(groups, sources, strict=True)]
        kept = _run(kind, groups, operands, weights, biases)
        ctx.kind, ctx.groups, ctx.count = kind, groups, len(groups)
        ctx.save_for_backward(*sources, *weights, *biases, *operands, kept)
        return tuple(
            torch.cat([left[g.within(rows), 1:, :, -g.width :][:, steps] for _, rows, steps in reversed(g.ends())])
            for g, left in zip(groups, operands, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *saved, kept = ctx.saved_tensors
        sources, weights, biases, operands = (saved[n * ctx.count : (n + 1) * ctx.count] for n in range(4))
        if torch.is_grad_enabled():  # a gradient that will be differentiated again
            return None, None, *_differentiable(ctx.kind, ctx.groups, sources, weights, biases, gradients)
        reads, products = _run_back(ctx.kind, ctx.groups, kept, gradients, weights, sources)
        found: list[Tensor | None] = []
        for group, left, read, product in zip(ctx.groups, operands, reads, products, strict=True):
            group.handed["operands"] = left
            found += [read, product, None, None]
        return None, None, *found


def _operands(group: _Group, sources: Tensor, steps: int) -> Tensor:
    """Room for `[x_t, h_t-1]` of each row before each step and after the last, the sources and zero states in place."""
    _, frames, batch, inputs = sources.shape
    operands = sources.new_empty(sum(group.levels), steps + 1, batch, inputs + group.width)
    operands[:, 0] = 0
    read = operands[: group.levels[0], :, :, :inputs].unflatten(0, (len(sources), -1))
    read[:, :, :frames] = sources[:, None]
    read[:, :, frames:] = 0
    return operands


def _run(
    kind: type[RecurrentCell],
    groups: list[_Group],
    operands: list[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> Tensor:
    """Fill in the hidden states step by step; what the backward pass needs of each step."""
    rows, slots, batch, width = groups[-1].all.stop, operands[0].shape[1], operands[0].shape[2], groups[0].width
    kept = operands[0].new_empty(slots, kind.keeps, rows, batch, width)
    kept[0, -1] = 0
    product = kept.new_empty(rows, batch, kind.blocks * width)
    cell = kind(kept, product.unflatten(2, (-1, width)).permute(2, 0, 1, 3))
    products: list[tuple[Tensor, Sequence[Tensor], Tensor, Tensor]] = []
    copies: list[tuple[Sequence[Tensor], Tensor]] = []  # what reads the hidden state, by step
    for group, left, weight, bias in zip(groups, operands, weights, biases, strict=True):
        target = product[group.all]
        products.append((bias[:, None].expand_as(target), left.unbind(1), weight, target))
        copies.append((left[..., -width:].unbind(1), cell.h[group.all]))
        for above, below in group.links():
            copies.append((left[group.within(above), ..., :width].unbind(1), cell.h[below]))
    begins = _begins(groups)
    for step in range(slots - 1):
        for addend, by_step, weight, target in products:
            torch.baddbmm(addend, by_step[step], weight, out=target)
        cell.forward(step)
        for targets, source in copies:
            targets[step + 1].copy_(source)
        for number, begin in begins.get(step + 1, ()):  # what these rows computed was before their first frame
            operands[number][groups[number].within(begin), step + 1, :, -width:] = 0
            cell.clear(step + 1, begin)
    return kept


def _run_back(
    kind: type[RecurrentCell],
    groups: list[_Group],
    kept: Tensor,
    gradients: Sequence[Tensor],
    weights: Sequence[Tensor],
    sources: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """Backpropagation through time: gradients of the sources, and of the products `(rows, steps, batch, columns)`."""
    slots, _, rows, batch, width = kept.shape
    product = kept.new_empty(rows, slots - 1, batch, kind.blocks * width)
    blocks = kept.new_empty(kind.blocks, rows, batch, width)  # the product's gradient at one step
    cell = kind(kept, blocks)
    reads, products = [torch.empty_like(source) for source in sources], [product[group.all] for group in groups]
    back, copies, adds, ends, sums = [], [], [], [], []
    for group, gradient, weight, of_product, read in zip(groups, gradients, weights, products, reads, strict=True):
        operands, transposed = kept.new_empty(len(weight), batch, weight.shape[1]), weight.transpose(1, 2).contiguous()
        left = kept.new_empty(len(weight), batch, kind.blocks * width)
        split = left.unflatten(2, (-1, width)).permute(2, 0, 1, 3)
        back.append((split, blocks[:, group.all], left, of_product.unbind(1), transposed, operands))
        copies.append((cell.h[group.all], operands[..., -width:]))
        adds += [(cell.h[below], operands[group.within(above), :, :width]) for above, below in group.links()]
        ends += [(cell.h[last], gradient[chains].unbind(1), at) for chains, last, at in group.ends()]
        lowest = operands[: group.levels[0], :, : read.shape[3]].unflatten(0, (len(read), -1))
        sums.append((lowest, read.unbind(1)))
    begins = _begins(groups)
    cell.h.zero_()
    for step in range(slots - 2, -1, -1):
        for target, by_frame, at in ends:
            if at.start <= step < at.stop:
                target += by_frame[step - at.start]
        cell.backward(step)
        for split, of_cell, left, by_step, weight, operands in back:
            split.copy_(of_cell)
            by_step[step].copy_(left)
            torch.bmm(left, weight, out=operands)
        for target, source in copies:
            target.add_(source) if kind.direct else target.copy_(source)
        for target, source in adds:
            target.add_(source)
        for _, begin in begins.get(step, ()):  # nothing flows to what was before the first frame of these rows
            cell.clear_back(begin)
        if step < groups[0].frames:
            for source, by_frame in sums:
                torch.sum(source, 1, out=by_frame[step])
    return reads, products


def _differentiable(
    kind: type[RecurrentCell],
    groups: list[_Group],
    sources: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    gradients: Sequence[Tensor],
) -> list[Tensor | None]:
    """The gradients of sources, products (None), weights and biases, with a graph of their own."""
    found: list[Tensor | None] = []
    for group, *tensors, gradient in zip(groups, sources, weights, biases, gradients, strict=True):
        hidden = unrolled(kind, group, *tensors)
        asked = [t for t in tensors if t.requires_grad]
        each = iter(torch.autograd.grad(hidden, asked, gradient, create_graph=True))
        source, weight, bias = (next(each) if t.requires_grad else None for t in tensors)
        found += [source, None, weight, bias]
    return found


def unrolled(kind: type[RecurrentCell], group: _Group, sources: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same recurrence frame by frame, in operations that autograd can differentiate any number of times."""
    inputs = sources.repeat_interleave(group.levels[0] // len(sources), 0)
    ends: list[Tensor] = []
    for depth, (chains, _, _) in enumerate(group.ends()):
        rows, inputs = group.within(group.rows(depth)), inputs[: group.levels[depth]]
        states = kind.initial(inputs.new_zeros(len(inputs), inputs.shape[2], group.width))
        outputs = []
        for x in inputs.unbind(1):
            product = torch.baddbmm(bias[rows, None], torch.cat([x, states[0]], 2), weight[rows])
            states = kind.equations(product, *states)
            outputs.append(states[0])
        inputs = torch.stack(outputs, 1)
        ends.insert(0, inputs[chains])
    return torch.cat(ends)
