"""The space for frames of an encoder: every cell reads the frames, by layers of its own, and pooling is searched."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from emodarts.errors import EmodartsError
from emodarts.networks.costs import CostTable, count_macs, count_parameters, supernet_macs
from emodarts.networks.genotype import Edge, Genotype
from emodarts.networks.names import POOLING_NAMES
from emodarts.networks.network import DiscreteNetwork, NetworkShape, layers_of_cells
from emodarts.networks.pooling import POOLINGS
from emodarts.networks.stem import LayerChoice, LayerWeighting
from emodarts.networks.supernet import Supernet, derive_layers
from tests.support.plain import plain_twin

CNN, SEQUENCE = ("none", "skip_connect", "conv1d_3_d2", "time_conv_7_d2"), ("none", "skip_connect", "bilstm_1")
SHAPE = NetworkShape(
    4, 3, 10, 2, 2, 4, 1, 1, 8, 6, (8, 2), sequence_shortcut=True, frequency_pooling="mean", frame_layers=3
)
ONE_LAYER = replace(SHAPE, frame_layers=1)  # log-mel frames with deltas: three channels, one layer
SHAPES = pytest.mark.parametrize("shape", [SHAPE, ONE_LAYER], ids=["layers", "one-layer"])
LENGTHS = torch.tensor([23, 40, 17])
CELL = (
    (Edge("skip_connect", 0), Edge("conv1d_3_d2", 1)),
    (Edge("skip_connect", 1), Edge("time_conv_7_d2", 2)),
)
GENOTYPE = Genotype(CELL, CELL, ((Edge("skip_connect", 0), Edge("bilstm_1", 1)),), "both", (2, None, 0))


def batch(seed=0):
    x = torch.randn(3, 3, 10, 40, generator=torch.Generator().manual_seed(seed))
    return x * (torch.arange(40) < LENGTHS[:, None])[:, None, None], LENGTHS


def supernet(shape=SHAPE, **options):
    torch.manual_seed(0)
    return Supernet(shape, CNN, SEQUENCE, **options)


def assert_independent_of_the_batch(network):
    network(*batch(1))  # some running statistics
    x, lengths = batch()
    together = network.eval()(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = network(x[row : row + 1, ..., :length], lengths[row : row + 1])
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-5, rtol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", POOLING_NAMES)
def test_poolings_do_not_see_padding_and_are_what_their_names_say(name):
    torch.manual_seed(0)
    pool = POOLINGS[name](6)
    x = torch.randn(3, 40, 6)
    pooled = pool(x, LENGTHS)
    assert pooled.shape == (3, pool.outputs)
    for row, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(pool(x[row : row + 1, :length], LENGTHS[row : row + 1])[0], pooled[row])
    means = torch.stack([x[row, :length].mean(0) for row, length in enumerate(LENGTHS.tolist())])
    assert (name != "attentive_statistics") == torch.allclose(pooled[:, :6], means, atol=1e-6)


@SHAPES
@pytest.mark.parametrize("relaxation", ["softmax", "sigmoid"])
def test_the_fast_supernet_is_the_plain_one(shape, relaxation):
    """Outputs and the gradients of all alphas, where cells read layers and poolings are mixed."""
    fast = supernet(shape, relaxation=relaxation).double()
    plain = plain_twin(fast)
    x, lengths = batch()
    logits = [network(x.double(), lengths) for network in (fast, plain)]
    torch.testing.assert_close(*logits, atol=1e-9, rtol=1e-9)
    kinds = [*shape.kinds, *shape.choices]
    gradients = [
        torch.autograd.grad(F.cross_entropy(y, torch.tensor([0, 1, 2])), [network.alphas[kind] for kind in kinds])
        for y, network in zip(logits, (fast, plain), strict=True)
    ]
    assert kinds == ["N", "S", "P", "L"][: 4 if shape == SHAPE else 3]
    for kind, ours, theirs in zip(kinds, *gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-7)
        assert (ours.abs().sum(1) > 0).all(), kind


def test_a_mixture_is_the_weighted_sum_of_the_poolings_and_of_each_cells_layers():
    network = supernet().eval()
    x, lengths = batch()
    weights = network.mixing_weights()
    frames = torch.randn(3, 20, SHAPE.pooled_width)
    by_hand = sum(
        w * network.poolings[name](frames, lengths // 2) for w, name in zip(weights["P"][0], POOLING_NAMES, strict=True)
    )
    torch.testing.assert_close(network.pooled_logits(frames, lengths // 2, weights), by_hand)
    rows = torch.tensor([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0], [0.7, 0.1, 0.2]])
    for row, read in zip(rows, network.weigh_layers(x, {"L": rows}), strict=True):
        torch.testing.assert_close(read, sum(w * x[:, n : n + 1] for n, w in enumerate(row)))


@SHAPES
def test_nothing_leaks_from_padding_or_from_other_utterances(shape):
    assert_independent_of_the_batch(supernet(shape))
    layers = GENOTYPE.layers if shape == SHAPE else (0, 0, 0)
    for pooling in POOLING_NAMES:
        assert_independent_of_the_batch(DiscreteNetwork(shape, replace(GENOTYPE, pooling=pooling, layers=layers)))


def test_each_cell_reads_the_layer_that_its_genotype_names():
    network = DiscreteNetwork(SHAPE, replace(GENOTYPE, layers=(2, 2, 0))).eval()
    x, lengths = batch()
    logits = network(x, lengths)
    for layer, is_read in enumerate((True, False, True)):
        changed = x.clone()
        changed[:, layer, :, :10] += 1.0
        assert (network(changed, lengths) - logits).abs().max().gt(1e-5) == is_read
    weighing = DiscreteNetwork(SHAPE, GENOTYPE).layer_choices
    assert [type(choice) for choice in weighing] == [LayerChoice, LayerWeighting, LayerChoice]


def test_a_supernet_that_is_set_to_a_genotype_derives_it_again():
    network = supernet()
    weights = network.discrete_weights(GENOTYPE)
    assert network.derive(weights) == replace(GENOTYPE, reduction=network.derive(weights).reduction)
    torch.testing.assert_close(weights["L"][1], network.mixing_weights()["L"][1])  # the cell that weighs all of them


def test_a_layer_is_chosen_where_it_does_most_of_the_work():
    weights = torch.tensor([[0.1, 0.2, 0.7], [0.2, 0.2, 0.6], [0.98, 0.01, 0.01]])
    assert derive_layers(weights) == (2, None, 0)
    assert derive_layers(3 * weights) == (2, None, 0)  # under sigmoid they do not sum to 1
    assert derive_layers(torch.tensor([[0.6, 0.4], [0.2, 0.8]])) == (None, 1)


def test_genotypes_go_to_json_and_back_and_those_of_before_have_the_text_of_before():
    assert Genotype.from_json(GENOTYPE.to_json()) == GENOTYPE
    assert "layers" not in replace(GENOTYPE, layers=()).to_json()
    for changes in ('"layers":[-1]', '"layers":[true]', '"layers":["2"]', '"pooling":"max"'):
        text = GENOTYPE.to_json()
        key = changes.split(":")[0]
        start = text.index(key)
        end = start + (text[start:].index("]") + 1 if "layers" in key else len('"pooling":"both"'))
        with pytest.raises(EmodartsError, match="genotype"):
            Genotype.from_json(text[:start] + changes + text[end:])


def test_shapes_go_to_json_and_back():
    assert NetworkShape.from_json(SHAPE.to_json()) == SHAPE
    assert "frame_layers" not in replace(SHAPE, frame_layers=None).to_json()
    assert SHAPE.layout == "NN"


def test_a_deeper_network_spreads_the_layers_over_its_cells():
    assert layers_of_cells(replace(SHAPE, cells=4), GENOTYPE) == (2, 2, None, None, 0)
    assert layers_of_cells(replace(SHAPE, cells=1), GENOTYPE) == (2, 0)
    assert layers_of_cells(SHAPE, replace(GENOTYPE, layers=())) == (None, None, None)
    for shape in (ONE_LAYER, replace(SHAPE, frame_layers=None)):
        with pytest.raises(EmodartsError, match=r"layers \[2, None, 0\].*does not fit"):
            DiscreteNetwork(shape, GENOTYPE)


@SHAPES
def test_costs_are_those_of_the_plain_supernet_and_of_the_derived_network(shape):
    assert supernet_macs(shape, CNN, SEQUENCE, 41) == count_macs(supernet(shape, fused=False), 41)
    bare, whole = (
        DiscreteNetwork(shape, Genotype(*[((Edge(name, 0), Edge(name, 1)),) * n for name, n in pair], pooling, ()))
        for pair, pooling in (
            ((("none", 2), ("none", 2), ("none", 1)), "mean"),
            ((("conv1d_3_d2", 2), ("conv1d_3_d2", 2), ("bilstm_1", 1)), "both"),
        )
    )
    for unit, count in (("parameters", count_parameters), ("macs", lambda network: count_macs(network, 41))):
        costs = CostTable.of(shape, CNN, SEQUENCE, 41, unit).costs
        read = [row for row, source in enumerate((0, 1, 0, 1, 2)) if source < 2]
        total = costs["N"][read, CNN.index("conv1d_3_d2")].sum()
        total += costs["S"][:, SEQUENCE.index("bilstm_1")].sum() + costs["P"][0, 2] - costs["P"][0, 0]
        assert total == count(whole) - count(bare)
