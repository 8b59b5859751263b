import json
from dataclasses import replace

import pytest
import torch

from emodarts.errors import EmodartsError
from emodarts.networks.costs import count_macs
from emodarts.networks.genotype import Edge, Genotype
from emodarts.networks.masking import image_mask, time_mask
from emodarts.networks.network import DiscreteNetwork, NetworkShape
from emodarts.networks.operations import CNN_OPERATIONS, MaskedBatchNorm, frozen_statistics
from emodarts.networks.sequence import SEQUENCE_OPERATIONS, operations_of
from emodarts.networks.supernet import Supernet, derive_cell

SHAPE = NetworkShape(4, 1, 16, 3, 2, 4, 1, 2, 8, 4, (2, 2))
LENGTHS = torch.tensor([23, 40, 17])


def inputs(channels=1, bins=16, frames=40, seed=0):
    x = torch.randn(3, channels, bins, frames, generator=torch.Generator().manual_seed(seed))
    return x * image_mask(LENGTHS, frames, x.dtype)


def supernet(seed=0):
    torch.manual_seed(seed)
    return Supernet(SHAPE, tuple(CNN_OPERATIONS), tuple(SEQUENCE_OPERATIONS))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", CNN_OPERATIONS)
def test_cnn_operation(name, stride):
    torch.manual_seed(0)
    x = inputs(channels=4, bins=7).requires_grad_()
    mask = image_mask(LENGTHS, 40, x.dtype)
    operation = CNN_OPERATIONS[name](4, stride, False)
    y = operation(x, mask)
    assert y.shape == (3, 4, -(-7 // stride), -(-40 // stride))
    assert y.isfinite().all()
    out = mask[..., ::stride]
    assert (y * (1 - out)).abs().sum() == 0
    if name != "none":
        y.square().sum().backward()
        assert x.grad.abs().sum() > 0
        operation.eval()
        for row, length in enumerate(LENGTHS.tolist()):
            alone = operation(x[row : row + 1, ..., :length], mask[row : row + 1, ..., :length])
            torch.testing.assert_close(
                alone, operation(x, mask)[row : row + 1, ..., : alone.shape[3]], atol=1e-5, rtol=1e-5
            )


@pytest.mark.parametrize("name", SEQUENCE_OPERATIONS)
def test_sequence_operation(name):
    torch.manual_seed(0)
    mask = time_mask(LENGTHS, 40)[:, :, None]
    x = (torch.randn(3, 40, 8) * mask).requires_grad_()
    operation = SEQUENCE_OPERATIONS[name](8, True)
    y = operation(x, LENGTHS)
    assert y.shape == x.shape
    assert (y * ~mask).abs().sum() == 0
    if name == "none":
        return
    (y * torch.randn_like(y)).sum().backward()
    assert x.grad.abs().sum() > 0
    for row, length in enumerate(LENGTHS.tolist()):
        alone = operation(x[row : row + 1, :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(alone, y[row : row + 1, :length], atol=1e-5, rtol=1e-5)


def test_masked_batch_norm_is_batch_norm_of_the_real_frames():
    torch.manual_seed(0)
    x = inputs(channels=4).double()
    mask = image_mask(LENGTHS, 40, x.dtype)
    ours, plain = MaskedBatchNorm(4).double(), torch.nn.BatchNorm1d(4).double()
    real = mask.expand(-1, 1, 16, -1)[:, 0].bool()
    flat = x.permute(0, 2, 3, 1)[real]
    torch.testing.assert_close(ours(x, mask).permute(0, 2, 3, 1)[real], plain(flat), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(ours.running_var, flat.var(0))  # the first batch counts whole
    before = ours.running_mean.clone()
    with frozen_statistics(ours):
        ours(x + mask, mask)
    assert torch.equal(ours.running_mean, before)


@pytest.mark.parametrize("discrete", [False, True])
def test_a_prediction_does_not_depend_on_its_batch(discrete):
    network = supernet()
    network(inputs(seed=1), LENGTHS)  # some running statistics
    if discrete:
        network = DiscreteNetwork(SHAPE, network.derive())
        network(inputs(seed=1), LENGTHS)
    network.eval()
    x = inputs()
    together = network(x, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = network(x[row : row + 1, ..., :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-5, rtol=1e-5)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(network(x[order], LENGTHS[order]), together[order], atol=1e-5, rtol=1e-5)


def test_time_order_matters():
    network = supernet().eval()
    x = torch.randn(2, 1, 16, 40)
    lengths = torch.tensor([40, 40])
    shuffled = x[..., torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    assert (network(x, lengths) - network(shuffled, lengths)).abs().max() > 1e-4


def test_layout_of_the_paper():
    assert replace(SHAPE, cells=4).layout == "NRRN"


def test_families():
    names = tuple(SEQUENCE_OPERATIONS)
    assert operations_of("lstm", names) == ("none", "skip_connect", "lstm_1", "lstm_2", "lstm_3", "lstm_4")
    assert operations_of("all", names) == names


def test_derivation_keeps_the_two_strongest_inputs_without_none():
    operations = ("none", "a", "b")
    weights = torch.tensor([[0.9, 0.06, 0.04], [0.1, 0.2, 0.7], [0.8, 0.05, 0.15], [0.0, 0.5, 0.5], [0.3, 0.1, 0.6]])
    cell = derive_cell(weights, operations)
    assert [[(e.operation, e.source) for e in node] for node in cell] == [
        [("a", 0), ("b", 1)],
        [("a", 1), ("b", 2)],
    ]


def test_genotype_survives_json_and_refuses_what_is_none():
    genotype = supernet().derive()
    text = genotype.to_json()
    assert Genotype.from_json(text) == genotype
    assert Genotype.from_json(text).to_json() == text
    with pytest.raises(EmodartsError, match="version 99"):
        Genotype.from_json(json.dumps({**json.loads(text), "version": 99}))
    for bad in ("[]", "{}", "not json", text.replace("skip_connect", "rm -rf").replace("conv", "konv")):
        with pytest.raises(EmodartsError):
            Genotype.from_json(bad)
    with pytest.raises(EmodartsError, match="cannot read state 2"):
        Genotype(((Edge("skip_connect", 2),),), (), ())


def test_macs_of_an_lstm_follow_the_closed_form():
    edges = ((Edge("lstm_1", 0), Edge("skip_connect", 1)),)
    without = Genotype((), (), ((Edge("skip_connect", 0), Edge("skip_connect", 1)),))
    shape = replace(SHAPE, cells=0)
    frames, width = 20, shape.sequence_width  # 40 frames, stem stride 2
    added = count_macs(DiscreteNetwork(shape, replace(without, sequence=edges)), 40)
    added -= count_macs(DiscreteNetwork(shape, without), 40)
    assert added == frames * 4 * (width * width + width * width)
