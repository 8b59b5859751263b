"""The network around the cells: stem, CNN cells, sequence cells, pooling, head; as supernet and as discrete network.

Input `(batch, channels, frequency, time)` and lengths `(batch,)` in frames; output logits `(batch, classes)`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from emodarts.errors import EmodartsError
from emodarts.networks.cell import BuildOperation, DerivedCell, Preprocess
from emodarts.networks.genotype import KINDS, POOLING, Genotype
from emodarts.networks.masking import strided_lengths, strided_mask, time_mask
from emodarts.networks.names import POOLING_NAMES
from emodarts.networks.operations import CNN_OPERATIONS, ReluConvNorm
from emodarts.networks.pooling import POOLINGS, PooledClassifier, build_head
from emodarts.networks.sequence import SEQUENCE_OPERATIONS
from emodarts.networks.sizes import spread_layers
from emodarts.networks.stem import build_layer_reader, build_stem, stem_resolution


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
    reductions: bool = (
        True  # False: no cell, or block of a hand-designed network, reduces time beyond the stem's stride
    )
    depth: int | None = None  # of a hand-designed network: residual blocks; of an LSTM alone: layers, and two
    # Each cell reads the frames beside the cell before it, over time alone and without reductions, of so many layers of
    # an encoder by a weighting of its own, and the pooling is the genotype's. None: the first cell alone reads them.
    frame_layers: int | None = None
    layer: int | None = None  # with `layer_weighting`: the one layer that is read, in the place of a mean

    @property
    def layout(self) -> str:
        """Kinds of the CNN cells, N or R: reductions at one and two thirds, as in DARTS (4 cells: NRRN), or none."""
        reductions = {self.cells // 3, 2 * self.cells // 3} if self.cells > 2 else {self.cells - 1} - {0}
        reductions = reductions if self.reductions and self.frame_layers is None else set()
        return "".join("R" if cell in reductions else "N" for cell in range(self.cells))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of cell that the network has: of N, R, S."""
        return tuple(k for k in KINDS if k in self.layout or (k == "S" and self.sequence_cells))

    @property
    def choices(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """What is searched beside the operations of cells: alphas in so many rows, and the names of their columns.

        P: the pooling over time; L: an encoder's layers, a row for each cell, the CNN cells first.
        """
        if self.frame_layers is None:
            return {}
        layers = tuple(f"layer {number}" for number in range(self.frame_layers))
        return {"P": (1, POOLING_NAMES)} | ({"L": (self.readers, layers)} if len(layers) > 1 else {})

    @property
    def readers(self) -> int:
        """The cells that read the frames by a weighting of layers of their own."""
        return 0 if self.frame_layers is None else self.cells + self.sequence_cells

    @property
    def pooled_width(self) -> int:
        """The values of a frame that the pooling over time reads."""
        if not self.sequence_cells:
            return self.sequence_width
        return self.sequence_width * (self.sequence_nodes + self.sequence_shortcut)

    def to_json(self) -> str:
        """A JSON text with all sizes and the layout; `from_json` gives an equal shape.

        Sizes that are newer than results of 0.1.0 stand there where they are not at their defaults.
        """
        content = {**asdict(self), "layout": self.layout}
        newer = {"reductions": True, "depth": None, "frame_layers": None, "layer": None}
        return json.dumps({k: v for k, v in content.items() if k not in newer or v != newer[k]}, sort_keys=True)

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


BuildCell = Callable[[str, BuildOperation, Preprocess], nn.Module]  # (kind: N, R or S, ...) -> cell


class Network(nn.Module):
    """What the supernet and the discrete network share: all but the cells, which `build_cell` makes in their order.

    `nodes` and `sequence_nodes` are those of a CNN and of a sequence cell; `affine`: norms in cells have parameters;
    `poolings`: over time, mixed where there are several. Where each cell reads frames, its first input is what a stem
    of its own makes of them, of layers that `weigh_layers` mixes or chooses, and its second the cell before it.
    """

    def __init__(
        self,
        shape: NetworkShape,
        build_cell: BuildCell,
        nodes: int,
        sequence_nodes: int,
        affine: bool,
        poolings: Sequence[str] = (POOLING,),
    ):
        super().__init__()
        self.shape = shape
        over_time, reads_frames = shape.over_time or shape.frame_layers is not None, shape.frame_layers is not None
        weighs = shape.layer_weighting and not reads_frames
        self.layer_weighting = build_layer_reader(shape.input_channels, shape.layer) if weighs else None
        inputs = 1 if weighs else shape.input_channels // (shape.frame_layers or 1)
        about_stem = inputs, shape.bins, shape.stem_channels, shape.stem_strides, over_time
        self.stem = build_stem(*about_stem)
        self.later_stems = nn.ModuleList(build_stem(*about_stem) for _ in range(shape.readers - 1))
        self.cells = nn.ModuleList()
        before, previous, channels, reduced = shape.stem_channels, shape.stem_channels, shape.channels, False
        bins = 1 if over_time else stem_resolution(shape.stem_strides, shape.bins, 0)[0]
        for kind in shape.layout:
            channels, bins = (2 * channels, -(-bins // 2)) if kind == "R" else (channels, bins)
            states = (
                ReluConvNorm(before, channels, 2 if reduced else 1, affine),
                ReluConvNorm(previous, channels, 1, affine),
            )

            def build(name: str, stride: int, channels: int = channels) -> nn.Module:
                return CNN_OPERATIONS[name](channels, stride, affine, over_time)

            self.cells.append(build_cell(kind, build, states))
            before, previous, reduced = before if reads_frames else previous, nodes * channels, kind == "R"
        width = shape.sequence_width
        previous *= bins if shape.frequency_pooling == "flatten" else 1
        self.to_sequence = LinearNorm(previous, width, affine=True)
        self.sequence_cells = nn.ModuleList()
        before, previous = shape.stem_channels if reads_frames else width, width
        for _ in range(shape.sequence_cells):
            linear = LinearNorm(before, width, affine), LinearNorm(previous, width, affine)
            self.sequence_cells.append(
                build_cell("S", lambda name, stride: SEQUENCE_OPERATIONS[name](width, affine), linear)
            )
            before, previous = before if reads_frames else previous, sequence_nodes * width
        self._has_shortcut = shape.sequence_shortcut and shape.sequence_cells > 0
        pooled = previous + width if self._has_shortcut else previous
        if len(poolings) == 1:
            self.pool = POOLINGS[poolings[0]](pooled)
            self.head = build_head(self.pool.outputs, shape.classes, shape.dropout)
        else:
            self.poolings = nn.ModuleDict(
                {name: PooledClassifier(name, pooled, shape.classes, shape.dropout) for name in poolings}
            )

    def weigh_layers(self, x: Tensor, arguments: Mapping[str, Tensor | float]) -> Sequence[Tensor]:
        """`(batch, layers * channels, frequency, time)` -> `(batch, channels, ...)` for each cell that reads frames."""
        return [x] * self.shape.readers

    def pooled_logits(self, frames: Tensor, lengths: Tensor, arguments: Mapping[str, Tensor | float]) -> Tensor:
        """`(batch, time, channels)` -> logits `(batch, classes)`."""
        logits: Tensor = self.head(self.pool(frames, lengths))
        return logits

    def classify(self, x: Tensor, lengths: Tensor, arguments: Mapping[str, Tensor | float]) -> Tensor:
        """Logits `(batch, classes)`; `arguments` has the mixing weights or the drop-path of each kind of cell."""
        if self.layer_weighting is not None:
            x = self.layer_weighting(x)
        read = list(self.weigh_layers(x, arguments))
        later = [stem(frames, lengths)[0] for stem, frames in zip(self.later_stems, read[1:], strict=True)]
        x, mask, lengths = self.stem(read[0] if read else x, lengths)
        states, masks = (x, x), (mask, mask)
        for number, (kind, cell) in enumerate(zip(self.shape.layout, self.cells, strict=True)):
            if read and number:
                states = (later[number - 1], states[1])
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
        for number, cell in enumerate(self.sequence_cells):
            first = later[len(self.cells) - 1 + number][:, :, 0].transpose(1, 2) if read else states[0]
            states = (states[1], cell((first, states[1]), (lengths, lengths, lengths), arguments["S"]))
        pooled = torch.cat([sequence, states[1]], 2) if self._has_shortcut else states[1]
        return self.pooled_logits(pooled, lengths, arguments)


class DiscreteNetwork(Network):
    """The network of a genotype, trained from scratch. Raises EmodartsError for layers that its features have not."""

    def __init__(self, shape: NetworkShape, genotype: Genotype):
        cells = genotype.cells

        def build_cell(kind: str, build: BuildOperation, preprocess: Preprocess) -> nn.Module:
            return DerivedCell(cells[kind], build, preprocess, kind == "R")

        sizes = len(genotype.normal), len(genotype.sequence)
        super().__init__(shape, build_cell, *sizes, affine=True, poolings=(genotype.pooling,))
        self.layer_choices = nn.ModuleList(
            build_layer_reader(shape.input_channels, layer) for layer in layers_of_cells(shape, genotype)
        )
        self.drop_path = 0.0

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(batch, classes)` of `(batch, channels, frequency, time)`."""
        return self.classify(x, lengths, dict.fromkeys(KINDS, self.drop_path))

    def weigh_layers(self, x: Tensor, arguments: Mapping[str, Tensor | float]) -> Sequence[Tensor]:
        """See `Network`: the layer that each cell chose, or its learned weighting."""
        return [choice(x) for choice in self.layer_choices] or super().weigh_layers(x, arguments)


def layers_of_cells(shape: NetworkShape, genotype: Genotype) -> tuple[int | None, ...]:
    """The layer of each cell that reads frames (see `Genotype`); nothing where there is one layer, or none to read.

    A network with more or fewer CNN cells than were searched spreads their layers over its depth; a genotype that
    names no layers has learned weightings. Raises EmodartsError where it names some that the shape has not.
    """
    layers, count = genotype.layers, shape.frame_layers or 0
    if any(layer is not None and layer >= count for layer in layers) or (layers and not count):
        raise EmodartsError(
            f"a genotype whose cells read the layers {list(layers)} (from 0) does not fit features of {count} layers "
            "that cells read: take the features and the search.space that it was found with"
        )
    if count < 2:
        return ()
    return spread_layers(layers, shape.cells, shape.sequence_cells)
