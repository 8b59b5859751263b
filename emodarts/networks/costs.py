"""Parameters and multiply-accumulates (MACs): counted in a network, in closed form, expected under mixing weights.

What counts as a MAC: convolutions, linear and recurrent layers, attention's two products (scores, weighted sum of the
values) and the mean of an encoder's layers; each for the real frames of one utterance. Norms, activations, pooling and
other work value by value do not count. Common counters give 0 for recurrent layers.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from emodarts.errors import EmodartsError
from emodarts.networks.cell import edges_of
from emodarts.networks.genotype import Edge, Genotype
from emodarts.networks.network import DiscreteNetwork, Network, NetworkShape
from emodarts.networks.stem import stem_layers


class Costs(NamedTuple):
    """Trained numbers, and MACs for one utterance."""

    parameters: int
    macs: int


# Counted


def count_parameters(network: nn.Module) -> int:
    """Trained numbers, alphas not counted."""
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("alphas."))


def sequence_share(network: Network) -> float:
    """The share of the parameters behind the CNN cells: fold, sequence cells, pooling over time, head."""
    behind = (network.fold, network.sequence_cells, network.pool, network.head)
    return sum(count_parameters(part) for part in behind) / count_parameters(network)


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
        with _Counter() as counter:
            module(*inputs)
    finally:
        for part, mode in modes:
            part.training = mode
    return counter.macs


class _Counter(TorchFunctionMode):
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
    if func is F.multi_head_attention_forward:  # `nn.MultiheadAttention`: (time, batch, width), four projections
        (steps, batch, width), seen = args[0].shape, args[1].shape[0]
        return int(2 * batch * width * (width * (steps + seen) + steps * seen))
    if func is torch.einsum:
        terms = args[0].split("->")[0].split(",")
        sizes = {
            label: n for term, x in zip(terms, args[1:], strict=True) for label, n in zip(term, x.shape, strict=True)
        }
        return math.prod(sizes.values())
    return 0


# In closed form

# name -> (extent of the kernel, depthwise-separable convolutions one after the other)
_CONVOLUTIONS = {
    "sep_conv_3x3": (3, 2),
    "sep_conv_5x5": (5, 2),
    "dil_conv_3x3": (3, 1),
    "dil_conv_5x5": (5, 1),
    "time_conv_7": (7, 1),
    "se_conv_3x3": (3, 1),
}
_FREE = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect")  # the last only with stride 1
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
_SEQUENCE_NAME = re.compile(r"(?P<bi>bi)?(?P<kind>lstm|gru|rnn)(?P<attention>_attention)?_(?P<layers>[1-9])")


def operation_costs(
    name: str,
    kind: str,
    width: int,
    resolution: tuple[int, int],
    stride: int = 1,
    over_time: bool = False,
    affine: bool = True,
) -> Costs:
    """Costs of an operation of a cell in closed form.

    `kind`: cnn or sequence; `width`: its channels; `resolution`: bins and frames of its input (a sequence has 1 bin);
    `affine`: its norms have parameters, as in a derived network. Raises EmodartsError for an unknown operation.
    """
    if kind == "cnn":
        return _cnn_costs(name, width, resolution, stride, over_time, affine)
    return _sequence_costs(name, width, resolution[1], affine)


def recurrent_costs(kind: str, inputs: int, width: int, frames: int) -> Costs:
    """One direction of one layer: with m inputs and n states, `g (n m + n^2 + 2 n)` parameters for g gates.

    The textbook has one bias a gate and state, PyTorch two. LSTM 4 gates, GRU 3, RNN 1.
    """
    matrices = _GATES[kind] * (width * inputs + width * width)
    return Costs(matrices + _GATES[kind] * 2 * width, frames * matrices)


def _cnn_costs(
    name: str, channels: int, resolution: tuple[int, int], stride: int, over_time: bool, affine: bool
) -> Costs:
    positions = _ceil(resolution[0], stride) * _ceil(resolution[1], stride)
    norm = 2 * channels if affine else 0
    if name in _FREE and (name != "skip_connect" or stride == 1):
        return Costs(0, 0)
    if name == "skip_connect":
        return Costs(channels * channels + norm, positions * channels * channels)
    if name == "conv_3x3":
        weights = (3 if over_time else 9) * channels * channels
        return Costs(weights + norm, positions * weights)
    if name not in _CONVOLUTIONS:
        raise EmodartsError(f"no costs are known of the CNN operation '{name}'")
    extent, layers = _CONVOLUTIONS[name]
    kernel = extent if over_time or name == "time_conv_7" else extent * extent
    weights = layers * (kernel * channels + channels * channels)
    gate = _gate_costs(channels) if name == "se_conv_3x3" else Costs(0, 0)
    return Costs(weights + layers * norm + gate.parameters, positions * weights + gate.macs)


def _gate_costs(channels: int) -> Costs:
    between = max(2, channels // 4)
    return Costs(2 * channels * between + channels + between, 2 * channels * between)


def _sequence_costs(name: str, width: int, frames: int, affine: bool) -> Costs:
    norm = Costs(2 * width if affine else 0, 0)
    if name in ("none", "skip_connect"):
        return Costs(0, 0)
    if name.startswith("self_attention_"):
        return _sum([_attention_costs(width, frames), norm])
    match = _SEQUENCE_NAME.fullmatch(name)
    if match is None:
        raise EmodartsError(f"no costs are known of the sequence operation '{name}'")
    both = bool(match["bi"] or match["attention"])
    layer = recurrent_costs(match["kind"], width, width // 2 if both else width, frames)
    attention = [_attention_costs(width, frames)] if match["attention"] else []
    return _sum([layer] * int(match["layers"]) * (2 if both else 1) + attention + [norm])


def _attention_costs(width: int, frames: int) -> Costs:
    """Queries, keys, values and the projection; scores and the weighted sum, by all heads together."""
    return Costs(4 * width * width + 4 * width, frames * 4 * width * width + 2 * frames * frames * width)


def _sum(costs: Sequence[Costs]) -> Costs:
    return Costs(sum(c.parameters for c in costs), sum(c.macs for c in costs))


def _ceil(size: int, stride: int) -> int:
    return -(-size // stride)


# Expected under mixing weights


@dataclass(frozen=True, eq=False)
class CostTable:
    """What each operation costs on each edge, summed over the cells of a kind: N, R, S -> `(edges, operations)`.

    `dearest`: the cost of the supernet where each edge has its dearest operation.
    """

    costs: dict[str, Tensor]
    dearest: float

    @classmethod
    def of(
        cls,
        shape: NetworkShape,
        cnn_operations: Sequence[str],
        sequence_operations: Sequence[str],
        frames: int,
        of: str = "macs",
        device: str | torch.device = "cpu",
    ) -> "CostTable":
        """The table of a supernet for utterances of `frames` frames; `of`: parameters or macs.

        Each cell counts with its own channels and resolution, each edge as in a derived network (norms with
        parameters). Raises EmodartsError for another `of` or an operation without a closed form.
        """
        if of not in Costs._fields:
            raise EmodartsError(f"search.cost={of}: the cost term is of {' or '.join(Costs._fields)}")
        names = {"N": cnn_operations, "R": cnn_operations, "S": sequence_operations}
        nodes = {"N": shape.nodes, "R": shape.nodes, "S": shape.sequence_nodes}
        costs = {
            kind: torch.zeros(len(list(edges_of(nodes[kind]))), len(names[kind]), dtype=torch.float64, device=device)
            for kind in "NRS"
        }
        for cell in _cells(shape, frames):
            rows = [[getattr(cell.costs(name, source), of) for name in names[cell.kind]] for _, source in cell.edges]
            costs[cell.kind] += torch.tensor(rows, dtype=torch.float64, device=device)
        return cls(costs, sum(float(rows.max(1).values.sum()) for rows in costs.values()))

    def expected(self, weights: dict[str, Tensor]) -> Tensor:
        """The expected cost under each kind's mixing weights `(edges, operations)`, differentiable in them.

        `sum_edges sum_o w[e, o] cost(e, o)` as a share of `dearest`: within [0, 1] for weights that sum to 1 on each
        edge (the expected latency of ProxylessNAS, Cai et al. 2019, sec. 3.3).
        """
        unit = max(self.dearest, 1.0)  # all operations may be free
        terms = [(w * (self.costs[kind] / unit).to(w)).sum() for kind, w in weights.items()]
        return torch.stack(terms).sum()

    @property
    def total(self) -> int:
        """The cost of all operations of all edges together."""
        return int(sum(float(costs.sum()) for costs in self.costs.values()))


@dataclass(frozen=True)
class _Cell:
    """A cell of a supernet: its kind (N, R, S), edges (node, source), width, and its inputs' bins and frames."""

    kind: str
    edges: tuple[tuple[int, int], ...]
    width: int
    resolution: tuple[int, int]
    over_time: bool

    def costs(self, name: str, source: int) -> Costs:
        """Costs of an operation on an edge from state `source`: in a reduction cell, strided from its two inputs."""
        kind = "sequence" if self.kind == "S" else "cnn"
        strided = self.kind == "R" and source < 2
        return operation_costs(name, kind, self.width, self._at(source), 2 if strided else 1, self.over_time)

    def _at(self, source: int) -> tuple[int, int]:
        bins, frames = self.resolution
        return (_ceil(bins, 2), _ceil(frames, 2)) if self.kind == "R" and source >= 2 else (bins, frames)


def _cells(shape: NetworkShape, frames: int) -> Iterator[_Cell]:
    bins = shape.bins
    for stride in stem_layers(shape.stem_strides):
        bins, frames = _ceil(bins, stride[0]), _ceil(frames, stride[1])
    bins = 1 if shape.over_time else bins
    channels, edges = shape.channels, tuple(edges_of(shape.nodes))
    for kind in shape.layout:
        channels = 2 * channels if kind == "R" else channels
        yield _Cell(kind, edges, channels, (bins, frames), shape.over_time)
        bins, frames = (_ceil(bins, 2), _ceil(frames, 2)) if kind == "R" else (bins, frames)
    for _ in range(shape.sequence_cells):
        yield _Cell("S", tuple(edges_of(shape.sequence_nodes)), shape.sequence_width, (1, frames), False)


def supernet_macs(
    shape: NetworkShape, cnn_operations: Sequence[str], sequence_operations: Sequence[str], frames: int
) -> int:
    """MACs of a supernet's forward pass for one utterance: all operations of all edges, and what stands around them.

    The latter is counted in a network whose edges are all `none`, which costs nothing.
    """
    node = (Edge("none", 0),)
    bare = Genotype((node,) * shape.nodes, (node,) * shape.nodes, (node,) * shape.sequence_nodes)
    around = count_macs(DiscreteNetwork(shape, bare), frames)
    return around + CostTable.of(shape, cnn_operations, sequence_operations, frames, "macs").total
