from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from emodarts.errors import EmodartsError
from emodarts.networks.costs import (
    CostTable,
    count_macs,
    count_parameters,
    counted_macs,
    operation_costs,
    supernet_macs,
)
from emodarts.networks.genotype import Edge, Genotype
from emodarts.networks.network import DiscreteNetwork, NetworkShape
from emodarts.networks.operations import CNN_OPERATIONS
from emodarts.networks.sequence import SEQUENCE_OPERATIONS
from emodarts.networks.spaces import SMALL_SEQUENCE_OPERATIONS, SPACES
from emodarts.networks.supernet import Supernet
from tests.support.closed_form_costs import closed_form_costs, recurrent_costs

SHAPE = NetworkShape(4, 2, 19, 3, 1, 4, 2, 1, 8, 6, (4, 2))
OVER_TIME = replace(SHAPE, over_time=True, layer_weighting=True)
SMALL = NetworkShape(  # the defaults of SearchSettings and FeatureSettings
    4, 1, 64, 3, 2, 8, 1, 1, 32, 16, (8, 4), frequency_pooling="mean", sequence_shortcut=True
)
FRAMES = 41
MODERN = SPACES["modern"]


def sequence_fraction(network):
    """The fraction of the parameters behind the CNN cells: fold, sequence cells, pooling over time, head."""
    behind = (network.to_sequence, network.sequence_cells, network.pool, network.head)
    return sum(count_parameters(part) for part in behind) / count_parameters(network)


def uniform(cnn, sequence, nodes=1, sequence_nodes=1):
    """A genotype with one operation for all CNN edges and one for all sequence edges."""
    cell, sequences = (tuple((Edge(name, 0), Edge(name, 1)) for _ in range(nodes)) for name in (cnn, sequence))
    return Genotype(cell, cell, sequences[:1] * sequence_nodes)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(("bins", "over_time"), [(7, False), (1, True)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", CNN_OPERATIONS)
def test_cnn_operation_costs_what_is_counted(name, stride, bins, over_time, affine):
    operation = CNN_OPERATIONS[name](6, stride, affine, over_time)
    macs = counted_macs(operation, torch.zeros(1, 6, bins, FRAMES), torch.ones(1, 1, 1, FRAMES))
    where = (name, "cnn", 6, (bins, FRAMES), stride, over_time, affine)
    assert operation_costs(*where) == closed_form_costs(*where) == (count_parameters(operation), macs)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("name", SEQUENCE_OPERATIONS)
def test_sequence_operation_costs_what_is_counted(name, affine):
    operation = SEQUENCE_OPERATIONS[name](8, affine)
    macs = counted_macs(operation, torch.zeros(1, FRAMES, 8), torch.tensor([FRAMES]))
    costs = [of(name, "sequence", 8, (1, FRAMES), affine=affine) for of in (operation_costs, closed_form_costs)]
    assert costs == [(count_parameters(operation), macs)] * 2


@pytest.mark.parametrize(("kind", "build", "gates"), [("lstm", nn.LSTM, 4), ("gru", nn.GRU, 3), ("rnn", nn.RNN, 1)])
def test_recurrent_layers_follow_the_textbook(kind, build, gates):
    m, n = 5, 7
    layer = build(m, n, batch_first=True)
    textbook = gates * (n * m + n * n + n)  # one bias; PyTorch keeps a second
    assert count_parameters(layer) == textbook + gates * n == recurrent_costs(kind, m, n, FRAMES).parameters
    macs = counted_macs(layer, torch.zeros(1, FRAMES, m))
    assert macs == FRAMES * gates * (n * m + n * n) == recurrent_costs(kind, m, n, FRAMES).macs
    both = build(m, n, 2, batch_first=True, bidirectional=True)
    assert counted_macs(both, torch.zeros(1, FRAMES, m)) == 2 * macs + FRAMES * 2 * gates * (n * 2 * n + n * n)


def test_layers_count_whoever_calls_them():
    class Attention(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(
                *F.linear(x, torch.ones(24, 8)).view(1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
            )

    class Products(nn.Module):
        def forward(self, x):
            return torch.einsum("btc,dc->btd", torch.bmm(x, x.transpose(1, 2)) @ x, torch.ones(3, 8))

    class Packed(nn.Module):
        def forward(self, x):
            return nn.GRU(8, 3)(nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5]), batch_first=True))[1]

    x = torch.zeros(1, 5, 8)
    assert counted_macs(Packed(), x) == recurrent_costs("gru", 8, 3, 5).macs
    assert counted_macs(nn.MultiheadAttention(8, 2, batch_first=True), x, x, x) == 5 * 4 * 8 * 8 + 2 * 5 * 5 * 8
    assert counted_macs(Attention(), x) == 5 * 8 * 24 + 2 * 5 * 5 * 8
    assert counted_macs(Products(), x) == 2 * 5 * 5 * 8 + 5 * 8 * 3
    grouped = nn.Sequential(nn.Conv2d(4, 8, (3, 1), groups=2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    assert counted_macs(grouped, torch.zeros(1, 4, 6, 5)) == 4 * 5 * 8 * 3 * 2


def test_counting_an_operation_draws_nothing():
    state = torch.get_rng_state()
    operation_costs.cache_clear()
    operation_costs("sep_conv_3x3", "cnn", 4, (3, 5))
    operation_costs("lstm_1", "sequence", 4, (1, 5))
    assert torch.equal(torch.get_rng_state(), state)


def test_counting_leaves_the_network_as_it_was():
    network = DiscreteNetwork(SHAPE, uniform("sep_conv_3x3", "lstm_1"))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.head.eval()
    modes = [part.training for part in network.modules()]
    assert count_macs(network, FRAMES) > 0
    assert [part.training for part in network.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("shape", [SHAPE, OVER_TIME, replace(SHAPE, stem_strides=(6, 3), cells=4, bins=9)])
@pytest.mark.parametrize(
    ("cnn", "sequence"), [("se_conv_3x3", "lstm_attention_1"), ("conv_3x3", "gru_1"), ("skip_connect", "rnn_2")]
)
def test_a_supernet_of_two_inputs_costs_what_its_derived_network_has(shape, cnn, sequence):
    cnns, sequences = SPACES["modern"].cnn_operations, tuple(SEQUENCE_OPERATIONS)
    bare, network = (DiscreteNetwork(shape, uniform(*names)) for names in (("none", "none"), (cnn, sequence)))
    chosen = {"N": cnns.index(cnn), "R": cnns.index(cnn), "S": sequences.index(sequence)}
    for of, count in (("parameters", count_parameters), ("macs", lambda n: count_macs(n, FRAMES))):
        costs = CostTable.of(shape, cnns, sequences, FRAMES, of).costs
        assert sum(costs[kind][:, column].sum() for kind, column in chosen.items()) == count(network) - count(bare)


@pytest.mark.parametrize(
    "shape", [replace(SHAPE, nodes=3, sequence_nodes=2, sequence_shortcut=True), replace(OVER_TIME, nodes=2)]
)
def test_macs_of_a_supernet_are_those_of_the_plain_one(shape):
    operations = (MODERN.cnn_operations, ("none", "lstm_1", "rnn_attention_2"))
    assert supernet_macs(shape, *operations, FRAMES) == count_macs(Supernet(shape, *operations, fused=False), FRAMES)


@pytest.mark.parametrize("of", ["parameters", "macs"])
@pytest.mark.parametrize("name", SPACES)
def test_expected_cost_lies_between_nothing_and_the_dearest(name, of):
    operations = (SPACES[name].cnn_operations, SPACES[name].sequence_operations)
    table = CostTable.of(SMALL, *operations, 125, of)
    even = {kind: torch.full(costs.shape, 1 / costs.shape[1]) for kind, costs in table.costs.items()}
    none = {kind: F.one_hot(torch.zeros(len(w), dtype=torch.int64), w.shape[1]).float() for kind, w in even.items()}
    dearest = {k: F.one_hot(c.argmax(1), c.shape[1]).float() for k, c in table.costs.items()}
    assert float(table.expected(none)) == 0
    assert float(table.expected(dearest)) == pytest.approx(1)
    assert 0 < float(table.expected(even)) < 1


def test_expected_cost_drives_the_alphas_to_what_is_cheap():
    operations = (MODERN.cnn_operations, MODERN.sequence_operations)
    table = CostTable.of(SMALL, *operations, 125, "macs")
    alphas = {kind: torch.zeros(costs.shape, requires_grad=True) for kind, costs in table.costs.items()}
    cost = table.expected({kind: alpha.softmax(1) for kind, alpha in alphas.items()})
    gradients = torch.autograd.grad(cost, list(alphas.values()))
    for gradient, costs in zip(gradients, table.costs.values(), strict=True):
        dearer = costs > costs.mean(1, keepdim=True)
        assert (gradient[dearer] > 0).all()
        assert (gradient[~dearer] < 0).all()


def test_a_supernet_without_costs_has_an_expected_cost_of_zero():
    table = CostTable.of(SHAPE, ("none", "max_pool_3x3"), ("none", "skip_connect"), FRAMES)
    weights = {kind: torch.full(costs.shape, 0.5, requires_grad=True) for kind, costs in table.costs.items()}
    assert table.expected(weights).item() == table.total == 0


def test_unknown_names_are_refused():
    with pytest.raises(EmodartsError, match=r"search\.cost=seconds.*parameters or macs"):
        CostTable.of(SHAPE, ("none",), ("none",), FRAMES, "seconds")
    for kind in ("cnn", "sequence"):
        with pytest.raises(EmodartsError, match="'conv_9x9'"):
            operation_costs("conv_9x9", kind, 8, (8, 8))


@pytest.mark.slow
def test_the_sequence_part_is_a_sane_share_of_the_parameters():
    choices = {
        name: SMALL_SEQUENCE_OPERATIONS if name == "emodarts" else SPACES[name].sequence_operations for name in SPACES
    }
    for name, sequences in choices.items():
        cnns = SPACES[name].cnn_operations
        assert sequence_fraction(Supernet(SMALL, cnns, SPACES[name].sequence_operations)) < 0.85
        for cnn in set(cnns) - {"none"}:
            for sequence in set(sequences) - {"none"}:
                network = DiscreteNetwork(SMALL, uniform(cnn, sequence, nodes=2))
                assert sequence_fraction(network) <= 0.9, (cnn, sequence)
    paper = NetworkShape(4, 1, 128, 4, 4, 8, 4, 4, 128, 24, (1, 1))
    with torch.device("meta"):
        published = Supernet(paper, SPACES["emodarts"].cnn_operations, SPACES["emodarts"].sequence_operations)
    assert sequence_fraction(published) > 0.98
