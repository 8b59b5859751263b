"""Parameters and multiply-accumulates (MACs): of a network, of one operation, expected under mixing weights.

What counts as a MAC: convolutions, linear and recurrent layers, attention's two products (scores, weighted sum of the
values) and the mean of an encoder's layers; each for the real frames of one utterance. Norms, activations, pooling and
other work value by value do not count. Common counters give 0 for recurrent layers.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from emodarts.errors import EmodartsError
from emodarts.networks.cell import edges_of
from emodarts.networks.genotype import KINDS, Edge, Genotype
from emodarts.networks.names import POOLING_NAMES
from emodarts.networks.network import DiscreteNetwork, NetworkShape
from emodarts.networks.operations import CNN_OPERATIONS
from emodarts.networks.pooling import PooledClassifier
from emodarts.networks.sequence import SEQUENCE_OPERATIONS
from emodarts.networks.stem import stem_resolution

Size = tuple[int, int]  # bins and frames


class Costs(NamedTuple):
    """Trained numbers, and MACs for one utterance."""

    parameters: int
    macs: int


def count_parameters(network: nn.Module) -> int:
    """Trained numbers, alphas not counted."""
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("alphas."))


@torch.no_grad()
def count_macs(network: nn.Module, frames: int) -> int:
    """MACs for one utterance of `frames` frames; the network has a `.shape` with `input_channels` and `bins`.

    For a network of a genotype or a hand-designed one; a supernet computes its edges together: see `supernet_macs`.
    """
    device = next(network.parameters()).device
    shape: Any = network.shape
    x = torch.zeros(1, shape.input_channels, shape.bins, frames, device=device)
    return counted_macs(network, x, torch.tensor([frames], device=device))


@torch.no_grad()
def counted_macs(module: nn.Module, *inputs: Tensor) -> int:
    """MACs of one pass in evaluation mode, whatever calls the layers."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with _MacCounter() as counter:
            module(*inputs)
    finally:
        for part, mode in modes:
            part.training = mode
    return counter.macs


class _MacCounter(TorchFunctionMode):
    """Watches PyTorch's functions: those of `nn.Module`s and those called by themselves alike."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.macs += _macs_of(func, args, output)
        return output


_RECURRENT = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
_PRODUCTS = (torch.matmul, torch.bmm, torch.mm, Tensor.matmul, Tensor.bmm, Tensor.mm, Tensor.__matmul__)


def _macs_of(func: Any, args: Any, output: Any) -> int:
    if func is torch.conv1d or func is torch.conv2d:
        return int(output.numel() * args[1][0].numel())
    if func is F.linear:
        return int(output.numel() * args[1].shape[1])
    if func in _RECURRENT:
        weights = next(a for a in args if isinstance(a, list))  # third, or fourth for packed sequences
        matrices = sum(w.numel() for w in weights if w.dim() == 2)
        return int(args[0].numel() // args[0].shape[-1] * matrices)
    if func in _PRODUCTS:
        return int(output.numel() * args[0].shape[-1])
    if func is F.scaled_dot_product_attention:
        queries, keys, values = args[:3]
        return int(queries.numel() * keys.shape[-2] + output.numel() * values.shape[-2])
    if func is F.multi_head_attention_forward:  # `nn.MultiheadAttention`: (time, batch, channels), four projections
        (steps, batch, width), seen = args[0].shape, args[1].shape[0]
        return int(2 * batch * width * (width * (steps + seen) + steps * seen))
    if func is torch.einsum:
        labels, sizes = args[0].split("->")[0].replace(",", ""), [size for x in args[1:] for size in x.shape]
        return math.prod(dict(zip(labels, sizes, strict=True)).values())
    return 0


@functools.cache
def operation_costs(
    name: str, kind: str, width: int, size: Size, stride: int = 1, over_time: bool = False, affine: bool = True
) -> Costs:
    """Costs of an operation of a cell, counted on its plain module.

    `kind`: cnn or sequence; `width`: its channels; `size`: bins and frames of its input (a sequence has 1 bin);
    `affine`: its norms have parameters, as in a derived network. Raises EmodartsError for an unknown operation.
    """
    bins, frames = size
    if name not in (CNN_OPERATIONS if kind == "cnn" else SEQUENCE_OPERATIONS):
        raise EmodartsError(f"there is no {kind} operation '{name}', whose costs could be counted")
    with torch.random.fork_rng(devices=[]):
        if kind == "cnn":
            operation = CNN_OPERATIONS[name](width, stride, affine, over_time)
            inputs = torch.zeros(1, width, bins, frames), torch.ones(1, 1, 1, frames)
        else:
            operation = SEQUENCE_OPERATIONS[name](width, affine)
            inputs = torch.zeros(1, frames, width), torch.tensor([frames])
    return Costs(count_parameters(operation), counted_macs(operation, *inputs))


def pooling_costs(shape: NetworkShape, name: str, frames: int) -> Costs:
    """Costs of a pooling over time with its last layer, for utterances of `frames` frames before the stem."""
    with torch.random.fork_rng(devices=[]):
        pooling = PooledClassifier(name, shape.pooled_width, shape.classes)
    frames = stem_resolution(shape.stem_strides, shape.bins, frames)[1]
    inputs = torch.zeros(1, frames, shape.pooled_width), torch.tensor([frames])
    return Costs(count_parameters(pooling), counted_macs(pooling, *inputs))


@dataclass(frozen=True, eq=False)
class CostTable:
    """What each operation costs on each edge, summed over the cells of a kind: N, R, S -> `(edges, operations)`.

    With P, where the pooling over time is searched: its poolings, each with its last layer, `(1, poolings)`.
    `most_expensive`: the cost of the supernet where each edge has its most expensive operation.
    """

    costs: dict[str, Tensor]
    most_expensive: float

    @classmethod
    def of(
        cls,
        shape: NetworkShape,
        cnn_operations: Sequence[str],
        sequence_operations: Sequence[str],
        frames: int,
        unit: str = "macs",
        device: str | torch.device = "cpu",
    ) -> "CostTable":
        """The table of a supernet for utterances of `frames` frames; `unit`: parameters or macs.

        Each cell counts with its own channels and resolution, each edge as in a derived network (norms with
        parameters). Raises EmodartsError for another `unit` or an unknown operation.
        """
        if unit not in Costs._fields:
            raise EmodartsError(f"search.cost={unit}: the cost term is of {' or '.join(Costs._fields)}")
        names = {"N": cnn_operations, "R": cnn_operations, "S": sequence_operations}
        costs = {
            kind: torch.zeros(len(list(edges_of(shape.nodes_of(kind)))), len(names[kind]), dtype=torch.float64)
            for kind in KINDS
        }
        over_time = shape.over_time or shape.frame_layers is not None
        for kind, width, input_size, node_size in _cells(shape, frames):
            for row, (_, source) in enumerate(edges_of(shape.nodes_of(kind))):
                place = (width, input_size, 2 if kind == "R" else 1) if source < 2 else (width, node_size, 1)
                for column, name in enumerate(names[kind]):
                    counted = operation_costs(name, "sequence" if kind == "S" else "cnn", *place, over_time)
                    costs[kind][row, column] += getattr(counted, unit)
        for kind, (rows, names_of_kind) in shape.choices.items():
            costs[kind] = torch.zeros(rows, len(names_of_kind), dtype=torch.float64)  # of layers any costs the same
        if "P" in costs:
            poolings = [pooling_costs(shape, name, frames) for name in POOLING_NAMES]
            costs["P"] += torch.tensor([[getattr(counted, unit) for counted in poolings]])
        most_expensive = sum(float(rows.max(1).values.sum()) for rows in costs.values())
        return cls({kind: rows.to(device) for kind, rows in costs.items()}, most_expensive)

    def expected(self, weights: dict[str, Tensor]) -> Tensor:
        """The expected cost under each kind's mixing weights `(edges, operations)`, differentiable in them.

        `sum_edges sum_o w[e, o] cost(e, o)` as a fraction of `most_expensive`: within [0, 1] for weights that sum to 1
        on each edge (the expected latency of ProxylessNAS, Cai et al. 2019, sec. 3.3).
        """
        scale = max(self.most_expensive, 1.0)  # all operations may be free
        terms = [(w * (self.costs[kind] / scale).to(w)).sum() for kind, w in weights.items()]
        return torch.stack(terms).sum()

    @property
    def total(self) -> int:
        """The cost of all operations of all edges together."""
        return int(sum(float(costs.sum()) for costs in self.costs.values()))


def _cells(shape: NetworkShape, frames: int) -> Iterator[tuple[str, int, Size, Size]]:
    """The cells of a supernet: kind (N, R, S), channels, size of the inputs, size of the nodes."""
    bins, frames = stem_resolution(shape.stem_strides, shape.bins, frames)
    size, channels = (1 if shape.over_time or shape.frame_layers else bins, frames), shape.channels
    for kind in shape.layout:
        nodes = (-(-size[0] // 2), -(-size[1] // 2)) if kind == "R" else size
        channels = 2 * channels if kind == "R" else channels
        yield kind, channels, size, nodes
        size = nodes
    for _ in range(shape.sequence_cells):
        yield "S", shape.sequence_width, (1, size[1]), (1, size[1])


def supernet_macs(
    shape: NetworkShape, cnn_operations: Sequence[str], sequence_operations: Sequence[str], frames: int
) -> int:
    """MACs of a supernet's forward pass for one utterance: all operations of all edges, and what stands around them.

    The latter is counted in a network whose edges are all `none`, which costs nothing.
    """
    node = (Edge("none", 0),)
    bare = Genotype((node,) * shape.nodes, (node,) * shape.nodes, (node,) * shape.sequence_nodes)
    around = count_macs(DiscreteNetwork(shape, bare), frames)
    if shape.choices:  # its pooling is in the table
        around -= pooling_costs(shape, bare.pooling, frames).macs
    return around + CostTable.of(shape, cnn_operations, sequence_operations, frames, "macs").total
