"""From fused forms back to plain modules: what holds the one against the other."""

import copy
import itertools

import torch

from emodarts.networks.fused.cell import FusedCell
from emodarts.networks.fused.mixed_cnn import FusedCnnOperations
from emodarts.networks.fused.sequence_layers import FusedAttention, StackedLayers, attention_of
from emodarts.networks.fused.stacked_convolutions import STACKED_FORMS
from emodarts.networks.operations import Convolution, DepthwiseSeparable, FactorizedReduction, SeparableConvolution
from emodarts.networks.supernet import Supernet


def unfused_supernet(supernet):
    """The same supernet out of plain cells, with copies of all weights, running statistics and alphas."""
    with torch.random.fork_rng(devices=[]):
        plain = Supernet(
            supernet.shape,
            supernet.cnn_operations,
            supernet.sequence_operations,
            relaxation=supernet.relaxation,
            fused=False,
        )
    plain.to(next(supernet.parameters()))
    state = plain.state_dict()
    plain.load_state_dict({**state, **{k: v for k, v in supernet.state_dict().items() if k in state}})
    for cells, plain_cells in ((supernet.cells, plain.cells), (supernet.sequence_cells, plain.sequence_cells)):
        for cell, plain_cell in zip(cells, plain_cells, strict=True):
            if isinstance(cell, FusedCell):
                _unfuse_cell(cell, plain_cell)
    plain.fixed_weights = dict(supernet.fixed_weights)
    plain.set_skip_dropout(supernet.skip_dropout)
    return plain.train(supernet.training)


def _unfuse_cell(cell, plain_cell):
    for operations, rows in zip(cell.sources, plain_cell.leaving, strict=True):
        for edge, row in enumerate(rows):
            for name, operation in plain_cell.edges[row].operations.items():
                copy_out(operations, edge, name, operation)


def extract(operations, edge, name):
    """One operation of one edge as its plain module, with copies of its weights and running statistics.

    `operations` were made by `tests.support.plain`, which gives them their `build`.
    """
    with torch.random.fork_rng(devices=[]):
        operation = operations.build(name, operations.stride)
    like = next(itertools.chain(operations.parameters(), operations.buffers()), None)
    operation = operation if like is None else operation.to(like)
    copy_out(operations, edge, name, operation)
    return operation.train(operations.training)


@torch.no_grad()
def copy_out(operations, edge, name, operation):
    """Copy the weights and running statistics of an operation of an edge into its plain module."""
    if name in operations.unfused:
        operation.load_state_dict(copy.deepcopy(operations.plain[edge].operations[name].state_dict()))
    elif isinstance(operations, FusedCnnOperations):
        if name in operations.shared:
            operation.load_state_dict(operations.shared[name].state_dict())
        elif name in operations.stacked:
            for stacked, tensor in _pairs(operations.stacked[name], edge, operation):
                tensor.copy_(stacked.view_as(tensor))
    else:
        for module in operations.modules():
            if isinstance(module, StackedLayers):
                _copy_layers(module, edge, name, operation)
            elif isinstance(module, FusedAttention) and name in module.names:
                row, attention = module.names.index(name) * module.edges + edge, attention_of(operation)
                _copy_linear(module.queries_keys_values, row, attention.queries_keys_values)
                _copy_linear(module.projection, row, attention.projection)


def _pairs(stacked, edge, plain):
    """The weights and running statistics of an edge, each beside that of the plain operation."""
    if isinstance(stacked, STACKED_FORMS[Convolution]):
        yield stacked.kernels.unflatten(0, (len(stacked.statistics.running_mean), -1))[edge], plain.convolution.weight
        yield from _statistics_pairs(stacked.statistics, edge, plain.norm)
    elif isinstance(stacked, STACKED_FORMS[DepthwiseSeparable]):
        yield stacked.kernels.unflatten(0, stacked.pointwise.shape[:2])[edge], plain.depthwise.weight
        yield stacked.pointwise[edge], plain.pointwise.weight
        yield from _statistics_pairs(stacked.statistics, edge, plain.norm)
    elif isinstance(stacked, STACKED_FORMS[SeparableConvolution]):
        yield from _pairs(stacked.first, edge, plain.first)
        yield from _pairs(stacked.second, edge, plain.second)
    else:
        assert isinstance(stacked, STACKED_FORMS[FactorizedReduction])
        yield stacked.even[edge], plain.even.weight
        yield stacked.odd[edge], plain.odd.weight
        half = stacked.even.shape[1]
        for statistics, channels in zip(stacked.statistics, (slice(half), slice(half, None)), strict=True):
            yield from _statistics_pairs(statistics, edge, plain.norm, channels)


def _statistics_pairs(statistics, edge, norm, channels=slice(None)):
    yield statistics.running_mean[edge, channels], norm.running_mean[channels]
    yield statistics.running_var[edge, channels], norm.running_var[channels]
    yield statistics.updates, norm.updates


def _copy_layers(stack, edge, name, operation):
    for number, row in enumerate(stack.rows):
        if (row.name, row.edge) == (name, edge):
            for stacked_block, plain_block in stack.blocks(number, *row.layer_of(operation)):
                plain_block.copy_(stacked_block)


def _copy_linear(stack, row, module):
    module.weight.copy_(stack.weight[row].T)
    module.bias.copy_(stack.bias[row, 0])
