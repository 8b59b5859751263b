from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from emodarts.networks.costs import count_parameters
from emodarts.networks.genotype import Genotype
from emodarts.networks.names import CNN_OPERATION_NAMES, SEQUENCE_OPERATION_NAMES
from emodarts.networks.network import DiscreteNetwork, NetworkShape
from emodarts.networks.operations import CNN_OPERATIONS
from emodarts.networks.sequence import SEQUENCE_OPERATIONS
from emodarts.networks.spaces import SPACES
from emodarts.networks.stem import TimeStem
from emodarts.networks.supernet import Supernet

SPECTRUM = NetworkShape(4, 1, 16, 3, 2, 4, 1, 2, 8, 6, (4, 2))
EMBEDDING = replace(SPECTRUM, input_channels=4, bins=768, layer_weighting=True, over_time=True)
FUNCTIONALS = replace(SPECTRUM, bins=88, over_time=True)
LENGTHS = {SPECTRUM: [23, 40, 17], EMBEDDING: [23, 40, 17], FUNCTIONALS: [1, 1, 1]}
INPUTS = pytest.mark.parametrize("shape", LENGTHS, ids=["spectrum", "embedding", "functionals"])
NAMES = pytest.mark.parametrize("name", SPACES)


def batch(shape, seed=0):
    lengths = torch.tensor(LENGTHS[shape])
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, shape.input_channels, shape.bins, int(lengths.max()), generator=generator)
    return x * (torch.arange(x.shape[3]) < lengths[:, None])[:, None, None], lengths


def supernet(shape, name, seed=0):
    torch.manual_seed(seed)
    return Supernet(shape, SPACES[name].cnn_operations, SPACES[name].sequence_operations)


def assert_independent_of_the_batch(network, shape):
    x, lengths = batch(shape)
    together = network(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = network(x[row : row + 1, ..., :length], lengths[row : row + 1])
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-5, rtol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-5


@NAMES
def test_a_space_is_made_of_known_operations(name):
    chosen = SPACES[name]
    for operations, fixed, registry in (
        (chosen.cnn_operations, chosen.fixed_cnn_operation, CNN_OPERATIONS),
        (chosen.sequence_operations, chosen.fixed_sequence_operation, SEQUENCE_OPERATIONS),
    ):
        assert set(operations) <= set(registry)
        assert len(set(operations)) == len(operations)
        assert {"none", "skip_connect", fixed} <= set(operations)


def test_the_published_space_has_420_alphas():
    paper = NetworkShape(4, 1, 8, 4, 4, 2, 1, 4, 2, 2, (1, 1))
    assert sum(alpha.numel() for alpha in supernet(paper, "emodarts").architecture_parameters()) == 420


@INPUTS
@NAMES
def test_supernet_learns_and_does_not_mix_utterances(name, shape):
    network = supernet(shape, name)
    x, lengths = batch(shape, seed=1)
    F.cross_entropy(network(x, lengths), torch.tensor([0, 1, 2])).backward()
    for kind, alpha in network.alphas.items():
        assert alpha.grad is not None
        assert alpha.grad.isfinite().all()
        assert (alpha.grad.abs().sum(1) > 0).all(), f"an edge of {kind} is not reached"
    assert_independent_of_the_batch(network.eval(), shape)


@pytest.mark.slow
@INPUTS
@NAMES
def test_every_operation_stands_in_a_derived_network(name, shape):
    chosen = SPACES[name]
    rounds = max(len(chosen.cnn_operations), len(chosen.sequence_operations)) - 1
    for number in range(rounds):
        network = supernet(shape, name)
        with torch.no_grad():
            for alpha in network.alphas.values():
                alpha[:, 1 + number % (alpha.shape[1] - 1)] = 9.0
        genotype = network.derive()
        assert Genotype.from_json(genotype.to_json()) == genotype
        derived = DiscreteNetwork(shape, genotype)
        x, lengths = batch(shape, seed=1)
        derived(x, lengths).square().sum().backward()
        idle = [n for n, p in derived.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        # The last cell's first input may be unused by what was derived; nothing else may be.
        assert not [n for n in idle if "preprocess" not in n]
        assert_independent_of_the_batch(derived.eval(), shape)


def test_the_stem_over_time_is_a_projection_of_each_frames_values():
    sizes = replace(EMBEDDING, stem_channels=16)
    learned, stacked = (supernet(s, "modern") for s in (sizes, replace(sizes, layer_weighting=False)))
    assert learned.stem.projection.weight.shape == (16, 768, 1, 1)
    assert stacked.stem.projection.weight.shape == (16, 4 * 768, 1, 1)
    assert count_parameters(learned) < 12_500 + count_parameters(supernet(replace(sizes, bins=1), "modern"))
    wide = supernet(replace(sizes, stem_strides=(1, 2)), "modern")
    assert {n: p.shape for n, p in wide.named_parameters()} == {n: p.shape for n, p in learned.named_parameters()}


def test_bins_over_time_have_no_order():
    network = supernet(FUNCTIONALS, "modern").eval()
    x, lengths = batch(FUNCTIONALS)
    order = torch.randperm(88, generator=torch.Generator().manual_seed(0))
    before = network(x, lengths)
    with torch.no_grad():
        network.stem.projection.weight.copy_(network.stem.projection.weight[:, order])
    torch.testing.assert_close(network(x[:, :, order], lengths), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_stem_over_time_keeps_every_stride_th_frame(stride):
    shape = replace(EMBEDDING, stem_strides=(8, stride))
    network = supernet(shape, "modern")
    x, lengths = batch(EMBEDDING)
    features, mask, left = network.stem(network.layer_weighting(x), lengths)
    assert features.shape == (3, shape.stem_channels, 1, -(-40 // stride))
    assert left.tolist() == [-(-length // stride) for length in LENGTHS[EMBEDDING]]
    assert mask.sum((1, 2, 3)).tolist() == left.tolist()
    assert not (features * (1 - mask)).any()


def test_the_stem_over_time_is_not_linear():
    stem = TimeStem(5, 8, stride=2).eval()  # its norms pass everything on, as nothing was seen
    x, lengths = torch.randn(1, 1, 5, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([12])
    assert (stem(x, lengths)[0] + stem(-x, lengths)[0]).abs().max() > 1e-2


def test_what_is_known_without_torch_is_what_is_there():
    assert tuple(CNN_OPERATIONS) == CNN_OPERATION_NAMES
    assert tuple(SEQUENCE_OPERATIONS) == SEQUENCE_OPERATION_NAMES
