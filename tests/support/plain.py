"""The plain supernet and the plain search steps: the oracle of the fast ones, in tests and benchmarks.

Plain is what one writes first: a module for each operation of each edge (`cell.MixedCell`) out of PyTorch's own
functions, tensors in PyTorch's default memory layout, `loss.backward()` for all parameters at once, and in the unrolled
step a deep copy of the network, as in the reference implementation of DARTS (Liu et al. 2019). Losses here are
functions of the network.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from emodarts.networks.cell import MixedOperation, channel_axis
from emodarts.networks.fused.mixed_cnn import FusedCnnOperations
from emodarts.networks.fused.mixed_sequence import FusedSequenceOperations
from emodarts.networks.masking import strided_mask
from emodarts.networks.operations import (
    CNN_OPERATIONS,
    DepthwiseSeparable,
    MaskedBatchNorm,
    MaxPool,
    SqueezeExciteConvolution,
    frozen_statistics,
)
from emodarts.networks.sequence import SEQUENCE_OPERATIONS
from tests.support.unfusing import extract, unfused_supernet


class PlainBatchNorm(MaskedBatchNorm):
    """Batch normalisation over real frames, out of PyTorch's own functions; `activation` stands behind it."""

    activation = staticmethod(torch.relu)

    def forward(self, x, mask, relu=False):
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
        output = torch.addcmul(shift.view(1, -1, 1, 1) * mask, x, scale.view(1, -1, 1, 1))
        return self.activation(output) * mask if relu else output


class PlainMaxPool(MaxPool):
    """Max pooling with padded frames at minus infinity."""

    def forward(self, x, mask):
        padding = (self.kernel[0] // 2, self.kernel[1] // 2)
        pooled = F.max_pool2d(x.masked_fill(mask == 0, float("-inf")), self.kernel, self.stride, padding)
        mask = strided_mask(mask, self.stride)
        return self.norm(pooled.masked_fill(mask == 0, 0.0), mask)


class _PlainDepthwise:
    """Depthwise convolution by PyTorch's own module."""

    def _filter(self, x):
        return self.depthwise(x)


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


def with_plain_parts(module):
    """The module itself, its batch norms and depthwise convolutions made plain."""
    for part in module.modules():
        part.__class__ = PLAIN.get(type(part), type(part))
    return module


class PlainEdges(nn.Module):
    """The mixed operations of all edges that leave a state, one after the other: what `FusedOperations` replaces."""

    def __init__(self, edges):
        super().__init__()
        self.edges = nn.ModuleList(edges)

    def forward(self, x, extent, weights):
        outputs = [edge(x, extent, row) for edge, row in zip(self.edges, weights, strict=True)]
        return torch.cat(outputs, channel_axis(x))


def cnn_edges(operations, channels, edges, stride, over_time=False):
    """CNN edges of the supernet, fused; their weights are drawn edge by edge."""
    return _fused(
        FusedCnnOperations, operations, lambda n, s: CNN_OPERATIONS[n](channels, s, False, over_time), edges, stride
    )


def sequence_edges(operations, width, edges):
    """Sequence edges of the supernet, fused; their weights are drawn edge by edge."""
    return _fused(
        FusedSequenceOperations, operations, lambda name, _: SEQUENCE_OPERATIONS[name](width, False), edges, 1
    )


def _fused(fuse, operations, build, edges, stride):
    fused = fuse([MixedOperation({n: build(n, stride) for n in operations}) for _ in range(edges)], stride)
    fused.build = build  # for `unfusing.extract`
    return fused


def plain_edges(fused):
    """The same edges as plain modules with copies of the weights and running statistics."""
    edges = [
        MixedOperation({name: extract(fused, edge, name) for name in fused.columns}) for edge in range(fused.edges)
    ]
    for edge in edges:
        edge.skip_dropout = fused.skip_dropout
    return with_plain_parts(PlainEdges(edges).train(fused.training))


def plain_twin(supernet):
    """The same supernet out of plain cells, with copies of all weights, running statistics and alphas."""
    twin = unfused_supernet(supernet)
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
