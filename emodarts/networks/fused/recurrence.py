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

Tensors = Sequence[Tensor]


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


def recurrence(mode: str, groups: Sequence[LayerGroup]) -> list[Tensor]:
    """For each group the hidden states of the layers that no other reads: `(rows, time, batch, channels)`.

    Row j is the last layer above row j of the first depth. `mode`: LSTM, GRU or RNN_TANH, as in torch.nn; from zero
    states. All groups have the same frames, batch and width. Gradients of first order only.
    """
    frames, first = groups[0].sources.shape[1], 0
    steps = frames + max(len(group.rows_per_depth) for group in groups) - 1
    layouts, tensors = [], []
    for sources, weight, bias, rows_per_depth in groups:
        rows, width = slice(first, first + len(weight)), weight.shape[1] - sources.shape[3]
        layout = _GroupLayout(rows, rows_per_depth, len(sources), frames, width)
        product = _WeightGradient.apply(weight, bias, layout, (len(weight), steps, sources.shape[2], weight.shape[2]))
        tensors += [sources.to(weight.dtype), product, weight, bias]  # under autocast in the precision of the weights
        layouts.append(layout)
        first += len(weight)
    return list(_Recurrence.apply(CELLS[mode], layouts, *tensors))


@dataclass(frozen=True)
class _GroupLayout:
    """Where the layers of a group are: `in_stack` its rows in the stack of all groups; other rows count within it.

    `operands`: the left sides of its products, which the backward pass of the recurrence leaves to that of the weights.
    """

    in_stack: slice
    rows_per_depth: tuple[int, ...]
    sources: int
    frames: int
    width: int
    operands: list[Tensor] = field(default_factory=list)

    def at_depth(self, depth: int, skipped: int = 0, count: int | None = None) -> slice:
        """The rows of a depth, but for the first or only so many of them."""
        first = sum(self.rows_per_depth[:depth])
        return slice(first + skipped, first + (self.rows_per_depth[depth] if count is None else count))

    def readers(self) -> list[tuple[slice, slice]]:
        """(rows, the rows they read) of every depth but the first."""
        counts = self.rows_per_depth
        return [(self.at_depth(d), self.at_depth(d - 1, count=counts[d])) for d in range(1, len(counts))]

    def outputs(self) -> list[tuple[slice, slice, slice]]:
        """(rows of the output, rows, steps) of the layers of each depth that no other reads, the deepest first."""
        depths = enumerate(zip(self.rows_per_depth, (*self.rows_per_depth[1:], 0), strict=True))
        last = [(slice(read, n), self.at_depth(d, read), slice(d, d + self.frames)) for d, (n, read) in depths]
        return last[::-1]


class _WeightGradient(torch.autograd.Function):
    """Zeros in the place of the products: where the gradient of the products becomes that of the weights."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, layout: _GroupLayout, shape: tuple[int, ...]) -> Tensor:
        ctx.layout = layout
        return weight.new_zeros(()).expand(shape)

    @staticmethod
    @first_order_only
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        operands = ctx.layout.operands.pop()[:, :-1].flatten(1, 2)
        gradient = gradient.flatten(1, 2)
        return torch.bmm(operands.transpose(1, 2), gradient), gradient.sum(1), None, None


class _Recurrence(torch.autograd.Function):
    """The loop over the steps of the wavefront, forwards and backwards."""

    @staticmethod
    def forward(
        ctx: Any, cell: type[RecurrentCell], layouts: list[_GroupLayout], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        sources, products, weights, biases = (tensors[n::4] for n in range(4))
        steps = products[0].shape[1]
        operands = [_operands(layout, source, steps) for layout, source in zip(layouts, sources, strict=True)]
        saved = _run(cell, layouts, operands, weights, biases)
        ctx.cell, ctx.layouts = cell, layouts
        ctx.save_for_backward(*weights, *operands, saved)
        return tuple(
            torch.cat([left[rows, 1:, :, -layout.width :][:, steps] for _, rows, steps in layout.outputs()])
            for layout, left in zip(layouts, operands, strict=True)
        )

    @staticmethod
    @first_order_only
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, saved = ctx.saved_tensors
        weights, operands = tensors[: len(ctx.layouts)], tensors[len(ctx.layouts) :]
        of_sources, of_products = _run_back(ctx.cell, ctx.layouts, saved, gradients, weights)
        all_gradients: list[Tensor | None] = []
        for layout, left, of_source, of_product in zip(ctx.layouts, operands, of_sources, of_products, strict=True):
            layout.operands[:] = [left]
            all_gradients += [of_source, of_product, None, None]
        return None, None, *all_gradients


def _operands(layout: _GroupLayout, sources: Tensor, steps: int) -> Tensor:
    """Room for `[x_t, h_t-1]` of each row before each step and after the last, the sources and zero states in place."""
    _, frames, batch, inputs = sources.shape
    operands = sources.new_empty(sum(layout.rows_per_depth), steps + 1, batch, inputs + layout.width)
    operands[:, 0] = 0
    lowest = operands[: layout.rows_per_depth[0], :, :, :inputs].unflatten(0, (len(sources), -1))
    lowest[:, :, :frames] = sources[:, None]
    lowest[:, :, frames:] = 0
    return operands


def _run(
    cell_type: type[RecurrentCell], layouts: list[_GroupLayout], operands: Tensors, weights: Tensors, biases: Tensors
) -> Tensor:
    """Fill in the hidden states step by step; what the backward pass needs of each step."""
    rows, slots, batch, width = layouts[-1].in_stack.stop, operands[0].shape[1], operands[0].shape[2], layouts[0].width
    saved = operands[0].new_empty(slots, cell_type.saves, rows, batch, width)
    saved[0, -1] = 0
    product = saved.new_empty(rows, batch, cell_type.blocks * width)
    cell = cell_type(saved, product.unflatten(2, (-1, width)).permute(2, 0, 1, 3))
    products: list[tuple[Tensor, Tensors, Tensor, Tensor]] = []
    copies: list[tuple[Tensors, Tensor]] = []  # what reads the hidden state, by step
    for layout, left, weight, bias in zip(layouts, operands, weights, biases, strict=True):
        target, h = product[layout.in_stack], cell.h[layout.in_stack]
        products.append((bias[:, None].expand_as(target), left.unbind(1), weight, target))
        copies.append((left[..., -width:].unbind(1), h))
        copies += [(left[above, ..., :width].unbind(1), h[below]) for above, below in layout.readers()]
    for step in range(slots - 1):
        for addend, by_step, weight, target in products:
            torch.baddbmm(addend, by_step[step], weight, out=target)
        cell.forward(step)
        for targets, source in copies:
            targets[step + 1].copy_(source)
        for layout, left in zip(layouts, operands, strict=True):
            if step + 1 < len(layout.rows_per_depth):  # what these rows computed was before their first frame
                starting = layout.at_depth(step + 1)
                left[starting, step + 1, :, -width:] = 0
                cell.clear(step + 1, layout.in_stack, starting)
    return saved


def _run_back(
    cell_type: type[RecurrentCell], layouts: list[_GroupLayout], saved: Tensor, gradients: Tensors, weights: Tensors
) -> tuple[list[Tensor], list[Tensor]]:
    """Backpropagation through time: gradients of the sources, and of the products `(rows, steps, batch, columns)`."""
    slots, _, rows, batch, width = saved.shape
    product = saved.new_empty(rows, slots - 1, batch, cell_type.blocks * width)
    blocks = saved.new_empty(cell_type.blocks, rows, batch, width)  # the product's gradient at one step
    cell = cell_type(saved, blocks)
    of_sources, of_products = [], [product[layout.in_stack] for layout in layouts]
    products, copies, additions, outputs, sums = [], [], [], [], []
    for layout, gradient, weight, of_product in zip(layouts, gradients, weights, of_products, strict=True):
        operands, h = saved.new_empty(len(weight), batch, weight.shape[1]), cell.h[layout.in_stack]
        transposed = weight.transpose(1, 2).contiguous()
        left = saved.new_empty(len(weight), batch, cell_type.blocks * width)
        split = left.unflatten(2, (-1, width)).permute(2, 0, 1, 3)
        products.append((split, blocks[:, layout.in_stack], left, of_product.unbind(1), transposed, operands))
        copies.append((h, operands[..., -width:]))
        additions += [(h[below], operands[above, :, :width]) for above, below in layout.readers()]
        outputs += [(h[rows], gradient[number].unbind(1), steps) for number, rows, steps in layout.outputs()]
        inputs = weight.shape[1] - width
        of_sources.append(weight.new_empty(layout.sources, layout.frames, batch, inputs))
        lowest = operands[: layout.rows_per_depth[0], :, :inputs].unflatten(0, (layout.sources, -1))
        sums.append((lowest, of_sources[-1].unbind(1)))
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
            target.add_(source) if cell_type.direct else target.copy_(source)
        for target, source in additions:
            target.add_(source)
        for layout in layouts:
            if 0 < step < len(layout.rows_per_depth):  # nothing flows to what was before the first frame of these rows
                cell.clear_back(layout.in_stack, layout.at_depth(step))
        if step < layouts[0].frames:
            for source, by_frame in sums:
                torch.sum(source, 1, out=by_frame[step])
    return of_sources, of_products
