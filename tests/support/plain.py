"""The plain supernet and the plain search steps: the oracle of the fast ones, in tests and benchmarks.

Plain is what one writes first: a module for each operation of each edge, tensors in PyTorch's default layout,
`loss.backward()` for all parameters at once, and in the unrolled step a deep copy of the network, as in the reference
implementation of DARTS (Liu et al. 2019). Losses here are functions of the network.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from emodarts.networks.cell import MixedOperations, SearchCell, channel_axis
from emodarts.networks.masking import strided_mask
from emodarts.networks.operations import (
    DepthwiseSeparable,
    MaskedBatchNorm,
    MaxPool,
    SqueezeExciteConvolution,
    frozen_statistics,
)


class PlainBatchNorm(MaskedBatchNorm):
    """Batch normalisation over real frames, out of PyTorch's own functions."""

    def forward(self, x, mask):
        x = x * mask
        if self.training:
            count = mask.sum() * x.shape[2]
            mean = x.sum((0, 2, 3)) / count
            variance = ((x - mean[:, None, None]).square() * mask).sum((0, 2, 3)) / count
            self.update(mean.detach(), variance.detach(), count)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = torch.rsqrt(variance + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return torch.addcmul(shift.view(1, -1, 1, 1) * mask, x, scale.view(1, -1, 1, 1))


class PlainMaxPool(MaxPool):
    """Max pooling with padded frames at minus infinity."""

    def forward(self, x, mask):
        padding = (self.window[0] // 2, self.window[1] // 2)
        pooled = F.max_pool2d(x.masked_fill(mask == 0, float("-inf")), self.window, self.stride, padding)
        mask = strided_mask(mask, self.stride)
        return self.norm(pooled.masked_fill(mask == 0, 0.0), mask)


class _PlainDepthwise:
    """Depthwise convolution by PyTorch's own module."""

    def _filtered(self, x):
        return self.depthwise(self.relu(x))


class PlainDepthwiseSeparable(_PlainDepthwise, DepthwiseSeparable):
    pass


class PlainSqueezeExciteConvolution(_PlainDepthwise, SqueezeExciteConvolution):
    pass


PLAIN = {
    MaskedBatchNorm: PlainBatchNorm,
    MaxPool: PlainMaxPool,
    DepthwiseSeparable: PlainDepthwiseSeparable,
    SqueezeExciteConvolution: PlainSqueezeExciteConvolution,
}


class PlainEdges(MixedOperations):
    """Every operation of every edge, one after the other."""

    def forward(self, x, extent, weights):
        return torch.cat([self.edge(number, x, extent, row) for number, row in enumerate(weights)], channel_axis(x))

    def edge(self, number, x, extent, weights):
        """The mixed operation of one edge, of those that leave the state."""
        named = zip(weights, self.names, self.operations[number].children(), strict=True)
        outputs = [w * self._output(name, operation, x, extent) for w, name, operation in named]
        return sum(outputs[1:], outputs[0])


class PlainCell(SearchCell):
    """A search cell that goes from node to node and from edge to edge, in the layout its inputs have."""

    def forward(self, inputs, extents, weights):
        first, second = self.preprocess
        states = [first(inputs[0], extents[0]), second(inputs[1], extents[1])]
        rows = iter(weights)
        read = [0] * (self.nodes + 1)  # how many nodes have read each state
        for node in range(self.nodes):
            terms = []
            for source in range(node + 2):
                extent = extents[1] if source < 2 else extents[2]
                terms.append(self.sources[source].edge(read[source], states[source], extent, next(rows)))
                read[source] += 1
            states.append(sum(terms[1:], terms[0]))
        return torch.cat(states[2:], channel_axis(states[0]))


def with_plain_parts(module):
    """The module itself, its batch norms and depthwise convolutions made plain."""
    for part in module.modules():
        part.__class__ = PLAIN.get(type(part), type(part))
    return module


def plain_edges(edges, operations):
    """The same edges as plain modules with copies of the weights and running statistics."""
    built = [{name: edges.extract(number, name) for name in operations} for number in range(edges.edges)]
    modules = iter([module for named in built for module in named.values()])
    plain = PlainEdges(operations, lambda name, stride: next(modules), edges.edges, 1)
    plain.skip_dropout = edges.skip_dropout
    return with_plain_parts(plain.train(edges.training))


def plain_twin(supernet):
    """The same supernet out of plain edges, with copies of all weights, running statistics and alphas."""
    twin = copy.deepcopy(supernet)
    for cells, operations in ((twin.cells, twin.cnn_operations), (twin.sequence_cells, twin.sequence_operations)):
        for cell in cells:
            cell.sources = nn.ModuleList(plain_edges(edges, operations) for edges in cell.sources)
            cell.__class__ = PlainCell
    twin.stem.register_forward_hook(lambda stem, inputs, outputs: (outputs[0].contiguous(), *outputs[1:]))
    return with_plain_parts(twin)


def plain_gradients(module, gradients, twin):
    """Gradients of a module's parameters, by the names of its plain twin's: `twin` makes plain edges or supernets.

    The gradients are put where the weights are, and go the way of the weights.
    """
    carrier = copy.deepcopy(module)
    with torch.no_grad():
        for parameter, gradient in zip(carrier.parameters(), gradients, strict=True):
            parameter.copy_(torch.zeros_like(parameter) if gradient is None else gradient)
    return {name: p.detach() for name, p in twin(carrier).named_parameters()}


def backward(network, loss):
    """The gradients of all parameters, by name, and the loss."""
    network.zero_grad(set_to_none=True)
    value = loss(network)
    value.backward()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in network.named_parameters()}, value.detach()


def first_order(network, alpha_loss):
    """Gradients of the alphas at the present weights."""
    with frozen_statistics(network):
        gradients, _ = backward(network, alpha_loss)
    return [gradients[f"alphas.{kind}"] for kind in network.alphas]


def second_order(network, weight_loss, alpha_loss, xi, radius=0.01):
    """Gradients of the alphas one step of the weights ahead, by a deep copy (Liu et al. 2019, eq. 6 to 8)."""
    with frozen_statistics(network):
        gradients, _ = backward(network, weight_loss)
        unrolled = copy.deepcopy(network)
        _move(unrolled, gradients, -xi)
        ahead, _ = backward(unrolled, alpha_loss)
        vector = {name: gradient for name, gradient in ahead.items() if not name.startswith("alphas.")}
        eps = radius / float(torch.sqrt(sum(v.square().sum() for v in vector.values())))
        sides = []
        for step in (eps, -2 * eps):
            _move(network, vector, step)
            sides.append(torch.autograd.grad(weight_loss(network), list(network.alphas.values()), allow_unused=True))
        _move(network, vector, eps)
    direct = [ahead[f"alphas.{kind}"] for kind in network.alphas]
    return [
        d if p is None else d - xi * (p - m) / (2 * eps) for d, p, m in zip(direct, sides[0], sides[1], strict=True)
    ]


@torch.no_grad()
def _move(network, directions, step):
    for name, parameter in network.named_parameters():
        if name in directions and not name.startswith("alphas."):
            parameter.add_(directions[name], alpha=step)


def saved_bytes(network, loss):
    """Bytes kept for the backward pass, each storage counted once; not the parameters and buffers themselves."""
    own = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = loss(network)
    del kept
    return sum(sizes.values())
