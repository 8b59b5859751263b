"""Many recurrent layers of one kind and width computed as one.

The layers are the rows of a stack. At each step one batched product `[x_t, h_t-1] W + b` serves all rows that read
inputs of one width (a `LayerGroup`), and one step of the cell serves all rows. Layers on top of each other advance
together, as a wavefront: depth d works on frame `step - d`, so that its input was computed one step before.

                        step   0  1  2  3  4  5
    depth 0 works on frame     0  1  2  3  .  .      4 frames, 3 layers: 6 steps in the place of 12.
    depth 1 works on frame     .  0  1  2  3  .      At a dot a layer has no frame: the states it computes
    depth 2 works on frame     .  .  0  1  2  3      before its first are zeroed, those after its last not read.

The backward pass is backpropagation through time written by hand, without truncation: the wavefront from its last step
to its first. The gradient of the weights is one product over all frames after the loop, in a node of its own: where
autograd is asked for the gradient of other things alone (the alphas), it is not computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emodarts.networks.first_order import first_order_only
from emodarts.networks.fused.recurrent_cells import CELLS, RecurrentCell


class LayerGroup(NamedTuple):
    """Recurrent layers of one kind and width that read inputs of one width, a row each.

    `rows_per_depth`: how many layers there are at each depth, never more than at the depth below; row j of a depth
    reads row j of the depth below. The first depth reads `sources (sources, time, batch, inputs)`, each source by the
    same number of rows in turn. The columns of `weight (rows, inputs + width, columns)` and `bias (rows, columns)` are
    the cell's blocks; more than one depth needs inputs = width.
    """

    sources: Tensor
    weight: Tensor
    bias: Tensor
    rows_per_depth: tuple[int, ...]


def recurrence(kind: str, groups: Sequence[LayerGroup]) -> list[Tensor]:
    """For each group the hidden states of the layers that no other reads.

    `(rows, time, batch, width)`: row j is the last layer above row j of the first depth. `kind`: lstm, gru or rnn
    (`recurrent_cells`), from zero states. All groups have the same frames, batch and width. Gradients of first order
    only.
    """
    frames, first = groups[0].sources.shape[1], 0
    steps = frames + max(len(group.rows_per_depth) for group in groups) - 1
    stack_rows, tensors = [], []
    for sources, weight, bias, rows_per_depth in groups:
        rows = _GroupRows(first, rows_per_depth, frames, weight.shape[1] - sources.shape[3])
        product = _WeightGradient.apply(weight, bias, rows, (len(weight), steps, sources.shape[2], weight.shape[2]))
        tensors += [sources.to(weight.dtype), product, weight, bias]  # under autocast in the precision of the weights
        stack_rows.append(rows)
        first += len(weight)
    return list(_Recurrence.apply(CELLS[kind], stack_rows, *tensors))


@dataclass(frozen=True)
class _GroupRows:
    """Where the rows of a group are in the stack of all groups, by depth.

    `operands`: the left sides of its products, which the backward pass of the recurrence leaves to that of the weights.
    """

    first: int
    rows_per_depth: tuple[int, ...]
    frames: int
    width: int
    operands: list[Tensor] = field(default_factory=list)

    @property
    def all(self) -> slice:
        return slice(self.first, self.first + sum(self.rows_per_depth))

    def at_depth(self, depth: int, count: int | None = None) -> slice:
        """The rows of a depth, or the first of them."""
        first = self.first + sum(self.rows_per_depth[:depth])
        return slice(first, first + (self.rows_per_depth[depth] if count is None else count))

    def readers(self) -> list[tuple[slice, slice]]:
        """(rows, the rows they read) of every depth but the first."""
        counts = self.rows_per_depth
        return [(self.at_depth(d), self.at_depth(d - 1, counts[d])) for d in range(1, len(counts))]

    def outputs(self) -> list[tuple[slice, slice, slice]]:
        """(rows of the output, rows, steps) of the layers of each depth that no other reads, the deepest first."""
        last = []
        for depth, (count, above) in enumerate(zip(self.rows_per_depth, (*self.rows_per_depth[1:], 0), strict=True)):
            rows = slice(self.at_depth(depth).start + above, self.at_depth(depth).stop)
            last.append((slice(above, count), rows, slice(depth, depth + self.frames)))
        return last[::-1]

    def within(self, rows: slice) -> slice:
        """Rows of the stack, counted within the group."""
        return slice(rows.start - self.first, rows.stop - self.first)


def _starting_rows(groups: list[_GroupRows]) -> dict[int, list[tuple[int, slice]]]:
    """Step -> (group, rows) whose first frame is then, but for the first step."""
    depths = range(1, max(len(group.rows_per_depth) for group in groups))
    return {d: [(n, g.at_depth(d)) for n, g in enumerate(groups) if d < len(g.rows_per_depth)] for d in depths}


class _WeightGradient(torch.autograd.Function):
    """Zeros in the place of the products: where the gradient of the products becomes that of the weights."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, group: _GroupRows, shape: tuple[int, ...]) -> Tensor:
        ctx.group = group
        return weight.new_zeros(()).expand(shape)

    @staticmethod
    @first_order_only
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        operands = ctx.group.operands.pop()[:, :-1].flatten(1, 2)
        gradient = gradient.flatten(1, 2)
        return torch.bmm(operands.transpose(1, 2), gradient), gradient.sum(1), None, None


class _Recurrence(torch.autograd.Function):
    """The loop over the steps of the wavefront, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, kind: type[RecurrentCell], groups: list[_GroupRows], *tensors: Tensor) -> tuple[Tensor, ...]:
        sources, products, weights, biases = (tensors[n::4] for n in range(4))
        steps = products[0].shape[1]
        operands = [_operands(group, source, steps) for group, source in zip(groups, sources, strict=True)]
        saved_states = _run(kind, groups, operands, weights, biases)
        ctx.kind, ctx.groups, ctx.sources = kind, groups, [len(source) for source in sources]
        ctx.save_for_backward(*weights, *operands, saved_states)
        return tuple(
            torch.cat([left[g.within(rows), 1:, :, -g.width :][:, steps] for _, rows, steps in g.outputs()])
            for g, left in zip(groups, operands, strict=True)
        )

    @staticmethod
    @first_order_only
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *saved, saved_states = ctx.saved_tensors
        weights, operands = saved[: len(ctx.groups)], saved[len(ctx.groups) :]
        of_sources, of_products = _run_back(ctx.kind, ctx.groups, saved_states, gradients, weights, ctx.sources)
        all_gradients: list[Tensor | None] = []
        for group, left, of_source, of_product in zip(ctx.groups, operands, of_sources, of_products, strict=True):
            group.operands[:] = [left]
            all_gradients += [of_source, of_product, None, None]
        return None, None, *all_gradients


def _operands(group: _GroupRows, sources: Tensor, steps: int) -> Tensor:
    """Room for `[x_t, h_t-1]` of each row before each step and after the last, the sources and zero states in place."""
    _, frames, batch, inputs = sources.shape
    operands = sources.new_empty(sum(group.rows_per_depth), steps + 1, batch, inputs + group.width)
    operands[:, 0] = 0
    lowest = operands[: group.rows_per_depth[0], :, :, :inputs].unflatten(0, (len(sources), -1))
    lowest[:, :, :frames] = sources[:, None]
    lowest[:, :, frames:] = 0
    return operands


def _run(
    kind: type[RecurrentCell],
    groups: list[_GroupRows],
    operands: list[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> Tensor:
    """Fill in the hidden states step by step; what the backward pass needs of each step."""
    rows, slots, batch, width = groups[-1].all.stop, operands[0].shape[1], operands[0].shape[2], groups[0].width
    saved_states = operands[0].new_empty(slots, kind.saves, rows, batch, width)
    saved_states[0, -1] = 0
    product = saved_states.new_empty(rows, batch, kind.blocks * width)
    cell = kind(saved_states, product.unflatten(2, (-1, width)).permute(2, 0, 1, 3))
    products: list[tuple[Tensor, Sequence[Tensor], Tensor, Tensor]] = []
    copies: list[tuple[Sequence[Tensor], Tensor]] = []  # what reads the hidden state, by step
    for group, left, weight, bias in zip(groups, operands, weights, biases, strict=True):
        target = product[group.all]
        products.append((bias[:, None].expand_as(target), left.unbind(1), weight, target))
        copies.append((left[..., -width:].unbind(1), cell.h[group.all]))
        for above, below in group.readers():
            copies.append((left[group.within(above), ..., :width].unbind(1), cell.h[below]))
    starting_rows = _starting_rows(groups)
    for step in range(slots - 1):
        for addend, by_step, weight, target in products:
            torch.baddbmm(addend, by_step[step], weight, out=target)
        cell.forward(step)
        for targets, source in copies:
            targets[step + 1].copy_(source)
        for number, starting in starting_rows.get(step + 1, ()):  # what they computed was before their first frame
            operands[number][groups[number].within(starting), step + 1, :, -width:] = 0
            cell.clear(step + 1, starting)
    return saved_states


def _run_back(
    kind: type[RecurrentCell],
    groups: list[_GroupRows],
    saved_states: Tensor,
    gradients: Sequence[Tensor],
    weights: Sequence[Tensor],
    sources: Sequence[int],
) -> tuple[list[Tensor], list[Tensor]]:
    """Backpropagation through time: gradients of the sources, and of the products `(rows, steps, batch, columns)`."""
    slots, _, rows, batch, width = saved_states.shape
    product = saved_states.new_empty(rows, slots - 1, batch, kind.blocks * width)
    blocks = saved_states.new_empty(kind.blocks, rows, batch, width)  # the product's gradient at one step
    cell = kind(saved_states, blocks)
    of_sources, of_products = [], [product[group.all] for group in groups]
    products, copies, additions, outputs, sums = [], [], [], [], []
    for group, gradient, weight, of_product, count in zip(
        groups, gradients, weights, of_products, sources, strict=True
    ):
        operands = saved_states.new_empty(len(weight), batch, weight.shape[1])
        transposed = weight.transpose(1, 2).contiguous()
        left = saved_states.new_empty(len(weight), batch, kind.blocks * width)
        split = left.unflatten(2, (-1, width)).permute(2, 0, 1, 3)
        products.append((split, blocks[:, group.all], left, of_product.unbind(1), transposed, operands))
        copies.append((cell.h[group.all], operands[..., -width:]))
        additions += [(cell.h[below], operands[group.within(above), :, :width]) for above, below in group.readers()]
        outputs += [(cell.h[rows], gradient[number].unbind(1), steps) for number, rows, steps in group.outputs()]
        inputs = weight.shape[1] - width
        of_sources.append(weight.new_empty(count, group.frames, batch, inputs))
        lowest = operands[: group.rows_per_depth[0], :, :inputs].unflatten(0, (count, -1))
        sums.append((lowest, of_sources[-1].unbind(1)))
    starting_rows = _starting_rows(groups)
    cell.h.zero_()
    for step in range(slots - 2, -1, -1):
        for target, by_frame, steps in outputs:
            if steps.start <= step < steps.stop:
                target += by_frame[step - steps.start]
        cell.backward(step)
        for split, of_cell, left, by_step, weight, operands in products:
            split.copy_(of_cell)
            by_step[step].copy_(left)
            torch.bmm(left, weight, out=operands)
        for target, source in copies:
            target.add_(source) if kind.direct else target.copy_(source)
        for target, source in additions:
            target.add_(source)
        for _, starting in starting_rows.get(step, ()):  # nothing flows to what was before their first frame
            cell.clear_back(starting)
        if step < groups[0].frames:
            for source, by_frame in sums:
                torch.sum(source, 1, out=by_frame[step])
    return of_sources, of_products
