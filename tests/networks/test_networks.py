import copy
import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from emodarts.errors import EmodartsError
from emodarts.networks import baselines
from emodarts.networks.genotype import Edge, Genotype
from emodarts.networks.masking import image_mask, time_mask
from emodarts.networks.names import operations_of
from emodarts.networks.network import DiscreteNetwork, NetworkShape
from emodarts.networks.operations import (
    CNN_OPERATIONS,
    MaskedBatchNorm,
    PointwiseConvolution,
    SqueezeExcite,
    frozen_statistics,
)
from emodarts.networks.sequence import SEQUENCE_OPERATIONS
from emodarts.networks.supernet import Supernet, derive_cell
from tests.support.networks import LENGTHS, SHAPE, inputs


def supernet(seed=0, **changes):
    torch.manual_seed(seed)
    return Supernet(replace(SHAPE, **changes), tuple(CNN_OPERATIONS), tuple(SEQUENCE_OPERATIONS))


@pytest.mark.parametrize("name", CNN_OPERATIONS)
def test_over_time_is_the_middle_row_of_the_kernel(name):
    # One bin: the other rows of a k x k kernel only ever see the padding above and below.
    torch.manual_seed(0)
    plain, over_time = (CNN_OPERATIONS[name](4, 1, False, flag) for flag in (False, True))
    weights = plain.state_dict()
    for key, weight in weights.items():
        if weight.dim() == 4 and weight.shape[2] > 1:
            weights[key] = weight[:, :, weight.shape[2] // 2 :][:, :, :1]
    over_time.load_state_dict(weights)
    x, mask = inputs(channels=4, bins=1), image_mask(LENGTHS, 40, torch.float32)
    torch.testing.assert_close(over_time(x, mask), plain(x, mask), atol=1e-6, rtol=1e-5)


def test_a_halved_skip_over_time_reads_every_frame():
    torch.manual_seed(0)
    x = inputs(channels=4, bins=1).requires_grad_()
    skip = CNN_OPERATIONS["skip_connect"](4, 2, False, True).eval()
    skip(x, image_mask(LENGTHS, 40, x.dtype)).square().sum().backward()
    positive = (x > 0) & time_mask(LENGTHS, 40)[:, None, None]
    assert torch.equal(x.grad != 0, positive)


def test_time_convolution_leaves_the_bins_apart():
    torch.manual_seed(0)
    x = inputs(channels=4, bins=7)
    mask = image_mask(LENGTHS, 40, x.dtype)
    operation = CNN_OPERATIONS["time_conv_7"](4, 1, False, False).eval()
    changed = x.clone()
    changed[:, :, 3] += mask[:, :, 0]
    moved = (operation(changed, mask) - operation(x, mask)).abs().sum((0, 1, 3))
    assert moved[3] > 0
    assert moved.sum() == moved[3]


def test_squeeze_excite_scales_by_what_the_mean_of_the_real_frames_says():
    torch.manual_seed(0)
    gate = SqueezeExcite(8)
    x = inputs(channels=8, bins=5)
    means = torch.stack([row[..., :length].mean((1, 2)) for row, length in zip(x, LENGTHS.tolist(), strict=True)])
    expected = torch.sigmoid(gate.excite(torch.relu(gate.squeeze(means))))
    gated = gate(x, image_mask(LENGTHS, 40, x.dtype))
    torch.testing.assert_close(gated, x * expected[:, :, None, None])


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


@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("discrete", [False, True])
def test_a_prediction_does_not_depend_on_its_batch(discrete, shortcut):
    network = supernet(sequence_shortcut=shortcut)
    network(inputs(seed=1), LENGTHS)  # some running statistics
    if discrete:
        network = DiscreteNetwork(network.shape, network.derive())
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


@pytest.mark.parametrize(("cells", "shortcut", "reads"), [(1, True, True), (1, False, False), (0, True, True)])
def test_with_the_shortcut_pooling_reads_what_sequence_cells_let_through_or_not(cells, shortcut, reads):
    shape = replace(SHAPE, sequence_cells=cells, sequence_nodes=1, sequence_shortcut=shortcut)
    normal, nothing = ((Edge(name, 0), Edge(name, 1)) for name in ("skip_connect", "none"))
    torch.manual_seed(0)
    network = DiscreteNetwork(shape, Genotype((normal,), (normal,), (nothing,))).eval()
    assert torch.equal(network(inputs(seed=1), LENGTHS), network(inputs(seed=2), LENGTHS)) != reads


def test_the_shortcut_takes_nothing_from_the_sequence_cells():
    network = supernet(sequence_shortcut=True)
    network(inputs(), LENGTHS).sum().backward()
    assert network.alphas["S"].grad.abs().sum() > 0
    assert network.pool.score[0].in_features == SHAPE.sequence_width * (1 + SHAPE.sequence_nodes)


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
    with pytest.raises(EmodartsError, match="normal cell has 1 nodes and the reduction cell 0"):
        Genotype(((Edge("skip_connect", 1),),), (), ())
    with pytest.raises(EmodartsError, match="unknown pooling 'max'"):
        Genotype((), (), (), "max")


@pytest.mark.parametrize("inputs", [1, 2, 4, 6, 8, 12])
@pytest.mark.parametrize("over_time", [False, True])
def test_strided_pointwise_convolutions_have_the_gradients_of_double_precision(inputs, over_time):
    """torch's own are wrong, or crash, on CPUs: channels-last with few input channels (oneDNN issue 6035)."""
    torch.manual_seed(inputs)
    layer = PointwiseConvolution(inputs, 8, (1, 2) if over_time else (2, 2))
    x = torch.randn(3, inputs, 4, 21).contiguous(memory_format=torch.channels_last).requires_grad_()
    found = layer(x)
    found.square().sum().backward()
    weight, y = layer.weight.detach().double().requires_grad_(), x.detach().double().requires_grad_()
    wanted = F.conv2d(y.contiguous(), weight, stride=layer.strides)
    wanted.square().sum().backward()
    for one, other in ((found, wanted), (layer.weight.grad, weight.grad), (x.grad, y.grad)):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 4, 8, 12])
@pytest.mark.parametrize("over_time", [False, True])
def test_halving_convolutions_have_the_gradients_of_double_precision(channels, over_time):
    torch.manual_seed(channels)
    operation = CNN_OPERATIONS["conv_3x3"](channels, 2, True, over_time)
    x = torch.randn(3, channels, 1 if over_time else 4, 21).contiguous(memory_format=torch.channels_last)
    mask, precise = image_mask(torch.tensor([21, 9, 1]), 21, x.dtype), copy.deepcopy(operation).double()
    outputs, gradients = [], []
    for module, dtype in ((operation, torch.float32), (precise, torch.float64)):
        leaf = (x * mask).to(dtype).requires_grad_()
        outputs.append(module(leaf, mask.to(dtype)))
        outputs[-1].pow(3).sum().backward()
        gradients.append([leaf.grad, *(p.grad for p in module.parameters())])
    torch.testing.assert_close(outputs[0].double(), outputs[1], rtol=1e-4, atol=1e-5)
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_no_network_has_a_strided_pointwise_convolution_of_torch():
    shape = NetworkShape(4, 1, 16, 3, 2, 4, 1, 1, 8, 4, (8, 2))
    cell = ((Edge("skip_connect", 0), Edge("skip_connect", 1)),) * 2
    skips = Genotype(cell, cell, ((Edge("lstm_1", 0),),))
    made = [*(baselines.build_network(name, shape) for name in baselines.DESIGNS), DiscreteNetwork(shape, skips)]
    layers = [m for network in made for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sum(isinstance(m, PointwiseConvolution) for m in layers) > 10
    for layer in layers:
        assert layer.kernel_size != (1, 1) or layer.stride == (1, 1), layer
