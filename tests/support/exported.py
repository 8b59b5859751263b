"""Small networks to be exported, and padded batches of sounds."""

import torch

from emodarts.export.graph import Member
from emodarts.features.normalisation import Standardiser
from emodarts.networks.genotype import Edge, Genotype
from emodarts.networks.network import NetworkShape
from emodarts.networks.operations import MaskedBatchNorm

SHAPE = NetworkShape(
    classes=4, input_channels=1, bins=12, cells=2, nodes=2, channels=4, sequence_cells=1, sequence_nodes=2,
    sequence_width=8, stem_channels=4, stem_strides=(2, 2),
)  # fmt: skip


def genotype(cnn="sep_conv_3x3", sequence="lstm_1"):
    """A node that reads both inputs, and one that reads an input and the first node; all by one operation."""

    def cell(name):
        return (Edge(name, 0), Edge(name, 1)), (Edge(name, 0), Edge(name, 2))

    return Genotype(cell(cnn), cell(cnn), cell(sequence))


def member(network, shape=SHAPE, seed=0):
    """A network with weights and running statistics that matter, standardised by something."""
    rng = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, MaskedBatchNorm):
            module.running_mean.normal_(0, 0.3, generator=rng)
            module.running_var.uniform_(0.5, 2, generator=rng)
    values = shape.bins * shape.input_channels
    statistics = torch.randn(values, generator=rng), 0.5 + torch.rand(values, generator=rng)
    return Member(network.eval(), Standardiser(*statistics))


def padded(found):
    lengths = torch.tensor([len(x) for x in found])
    rows = torch.full((len(found), int(lengths.max())), 0.5)  # what pads does not count, whatever it is
    for row, x in zip(rows, found, strict=True):
        row[: len(x)] = torch.from_numpy(x)
    return rows, lengths
