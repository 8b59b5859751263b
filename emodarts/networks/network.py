"""The network around the cells: stem, CNN cells, sequence cells, pooling, head; as supernet and as discrete network.

Input `(batch, channels, frequency, time)` and lengths `(batch,)` in frames; output logits `(batch, classes)`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from emodarts.errors import EmodartsError
from emodarts.networks.cell import BuildOperation, DerivedCell, Preprocess
from emodarts.networks.genotype import KINDS, Genotype
from emodarts.networks.masking import strided_lengths, strided_mask, time_mask
from emodarts.networks.operations import CNN_OPERATIONS, ReluConvNorm
from emodarts.networks.sequence import SEQUENCE_OPERATIONS
from emodarts.networks.stem import LayerWeighting, build_stem, stem_resolution


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of a network. `channels` are those of a node in the first cell; they double in each reduction cell.

    `over_time` is for features whose bins have no order (embeddings, functionals): the stem projects a frame's values
    to its channels, and the cells run on one bin, with kernels over time alone; the stride in frequency is ignored.
    """

    classes: int
    input_channels: int
    bins: int
    cells: int
    nodes: int
    channels: int
    sequence_cells: int
    sequence_nodes: int
    sequence_width: int
    stem_channels: int
    stem_strides: tuple[int, int]  # frequency, time
    dropout: float = 0.0
    layer_weighting: bool = False  # the input channels are an encoder's layers, and one learned mean of them goes on
    over_time: bool = False
    frequency_pooling: str = "flatten"  # before the sequence cells: bins become channels; mean: their mean goes on
    sequence_shortcut: bool = False  # pooling over time reads the sequence cells' input beside their output

    @property
    def layout(self) -> str:
        """Kinds of the CNN cells, N or R: reductions at one and two thirds, as in DARTS (4 cells: NRRN)."""
        reductions = {self.cells // 3, 2 * self.cells // 3} if self.cells > 2 else {self.cells - 1} - {0}
        return "".join("R" if cell in reductions else "N" for cell in range(self.cells))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of cell that the network has: of N, R, S."""
        return tuple(k for k in KINDS if k in self.layout or (k == "S" and self.sequence_cells))

    def to_json(self) -> str:
        """A JSON text with all sizes and the layout; `from_json` gives an equal shape."""
        return json.dumps({**asdict(self), "layout": self.layout}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "NetworkShape":
        """The shape of a text that `to_json` wrote. Raises EmodartsError for that of another version of emodarts."""
        try:
            content = json.loads(text)
            layout = content.pop("layout")
            shape = cls(**{**content, "stem_strides": tuple(content["stem_strides"])})
        except (ValueError, KeyError, TypeError) as error:
            raise EmodartsError(f"not a network of this version of emodarts: {error}") from error
        if shape.layout != layout:
            raise EmodartsError(f"a network of cells {layout} cannot be built: this version makes {shape.layout}")
        return shape

    def nodes_of(self, kind: str) -> int:
        """The nodes of a kind of cell."""
        return self.sequence_nodes if kind == "S" else self.nodes


class LinearNorm(nn.Module):
    """A linear layer and a layer norm, frame by frame."""

    def __init__(self, inputs: int, width: int, affine: bool):
        super().__init__()
        self.linear = nn.Linear(inputs, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=affine)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, inputs)` -> `(batch, time, channels)`, zero at padding."""
        return self.norm(self.linear(x)) * time_mask(lengths, x.shape[1])[:, :, None]


class AttentiveStatistics(nn.Module):
    """Attention-weighted mean and standard deviation over real frames (Okabe et al. 2018)."""

    def __init__(self, width: int):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, channels)` -> `(batch, 2 * channels)`."""
        mask = time_mask(lengths, x.shape[1])[:, :, None]
        weights = self.score(x).masked_fill(~mask, float("-inf")).softmax(1)
        mean = (weights * x).sum(1)
        variance = (weights * (x - mean[:, None]).square()).sum(1)
        return torch.cat([mean, (variance + 1e-5).sqrt()], 1)


BuildCell = Callable[[str, BuildOperation, Preprocess], nn.Module]  # (kind: N, R or S, ...) -> cell


class Network(nn.Module):
    """What the supernet and the discrete network share: all but the cells, which `build_cell` makes in their order.

    `nodes` and `sequence_nodes` are those of a CNN and of a sequence cell; `affine`: norms in cells have parameters.
    """

    def __init__(self, shape: NetworkShape, build_cell: BuildCell, nodes: int, sequence_nodes: int, affine: bool):
        super().__init__()
        self.shape = shape
        self.layer_weighting = LayerWeighting(shape.input_channels) if shape.layer_weighting else None
        inputs = 1 if shape.layer_weighting else shape.input_channels
        self.stem = build_stem(inputs, shape.bins, shape.stem_channels, shape.stem_strides, shape.over_time)
        self.cells = nn.ModuleList()
        before, previous, channels, reduced = shape.stem_channels, shape.stem_channels, shape.channels, False
        bins = 1 if shape.over_time else stem_resolution(shape.stem_strides, shape.bins, 0)[0]
        for kind in shape.layout:
            channels, bins = (2 * channels, -(-bins // 2)) if kind == "R" else (channels, bins)
            states = (
                ReluConvNorm(before, channels, 2 if reduced else 1, affine),
                ReluConvNorm(previous, channels, 1, affine),
            )

            def build(name: str, stride: int, channels: int = channels) -> nn.Module:
                return CNN_OPERATIONS[name](channels, stride, affine, shape.over_time)

            self.cells.append(build_cell(kind, build, states))
            before, previous, reduced = previous, nodes * channels, kind == "R"
        width = shape.sequence_width
        previous *= bins if shape.frequency_pooling == "flatten" else 1
        self.to_sequence = LinearNorm(previous, width, affine=True)
        self.sequence_cells = nn.ModuleList()
        before, previous = width, width
        for _ in range(shape.sequence_cells):
            linear = LinearNorm(before, width, affine), LinearNorm(previous, width, affine)
            self.sequence_cells.append(
                build_cell("S", lambda name, stride: SEQUENCE_OPERATIONS[name](width, affine), linear)
            )
            before, previous = previous, sequence_nodes * width
        self._has_shortcut = shape.sequence_shortcut and shape.sequence_cells > 0
        pooled = previous + width if self._has_shortcut else previous
        self.pool = AttentiveStatistics(pooled)
        self.head = nn.Sequential(nn.Dropout(shape.dropout), nn.Linear(2 * pooled, shape.classes))

    def classify(self, x: Tensor, lengths: Tensor, arguments: Mapping[str, Tensor | float]) -> Tensor:
        """Logits `(batch, classes)`; `arguments` has the mixing weights or the drop-path of each kind of cell."""
        if self.layer_weighting is not None:
            x = self.layer_weighting(x)
        x, mask, lengths = self.stem(x, lengths)
        states, masks = (x, x), (mask, mask)
        for kind, cell in zip(self.shape.layout, self.cells, strict=True):
            inner = strided_mask(mask, 2) if kind == "R" else mask
            out = cell(states, (masks[0], mask, inner), arguments[kind])
            lengths = strided_lengths(lengths, 2) if kind == "R" else lengths
            states, masks, mask = (states[1], out), (mask, inner), inner
        x = states[1]
        frames = (
            x.mean(2).transpose(1, 2) if self.shape.frequency_pooling == "mean" else x.permute(0, 3, 1, 2).flatten(2)
        )
        sequence = self.to_sequence(frames, lengths)
        states = (sequence, sequence)
        for cell in self.sequence_cells:
            states = (states[1], cell(states, (lengths, lengths, lengths), arguments["S"]))
        pooled = torch.cat([sequence, states[1]], 2) if self._has_shortcut else states[1]
        logits: Tensor = self.head(self.pool(pooled, lengths))
        return logits


class DiscreteNetwork(Network):
    """The network of a genotype, trained from scratch."""

    def __init__(self, shape: NetworkShape, genotype: Genotype):
        cells = genotype.cells

        def build_cell(kind: str, build: BuildOperation, preprocess: Preprocess) -> nn.Module:
            return DerivedCell(cells[kind], build, preprocess, kind == "R")

        super().__init__(shape, build_cell, len(genotype.normal), len(genotype.sequence), affine=True)
        self.drop_path = 0.0

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(batch, classes)` of `(batch, channels, frequency, time)`."""
        return self.classify(x, lengths, dict.fromkeys(KINDS, self.drop_path))
