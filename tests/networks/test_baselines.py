"""Hand-designed networks: shapes, masks and sizes."""

from dataclasses import replace

import pytest
import torch

from emodarts.errors import EmodartsError
from emodarts.networks.baselines import DESIGNS, build_network
from emodarts.networks.costs import count_macs, count_parameters
from emodarts.networks.masking import image_mask
from emodarts.networks.network import NetworkShape

SPECTRA = NetworkShape(4, 1, 16, 3, 2, 4, 1, 1, 8, 4, (8, 2))
EMBEDDINGS = replace(SPECTRA, input_channels=3, bins=20, over_time=True, layer_weighting=True)
FUNCTIONALS = replace(SPECTRA, bins=88, over_time=True)
LENGTHS = torch.tensor([23, 40, 1])


def inputs(shape, frames=40):
    x = torch.randn(3, shape.input_channels, shape.bins, frames, generator=torch.Generator().manual_seed(0))
    return x * image_mask(LENGTHS, frames, x.dtype)


@pytest.mark.parametrize("shape", [SPECTRA, EMBEDDINGS, FUNCTIONALS], ids=["spectra", "embeddings", "functionals"])
@pytest.mark.parametrize("system", DESIGNS)
def test_a_prediction_does_not_depend_on_its_batch(system, shape):
    torch.manual_seed(0)
    network = build_network(system, shape)
    x = inputs(shape)
    network(x, LENGTHS).square().sum().backward()
    # A bias before a softmax over time cannot matter; everything else learns.
    idle = [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert set(idle) <= {"pool.score.2.bias"}
    network.eval()
    together = network(x, LENGTHS)
    assert together.shape == (3, 4)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = network(x[row : row + 1, ..., :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("system", "matters"),
    [(s, s not in ("temporal_attention", "linear_probe")) for s in DESIGNS],
)
def test_time_order_matters_to_all_but_the_heads(system, matters):
    torch.manual_seed(0)
    network = build_network(system, SPECTRA).eval()
    x, lengths = torch.randn(2, 1, 16, 40), torch.tensor([40, 40])
    assert ((network(x, lengths) - network(x.flip(3), lengths)).abs().max() > 1e-4) == matters


def test_a_linear_probe_is_linear_in_the_mean_of_the_frames():
    network = build_network("linear_probe", SPECTRA).eval()
    x = inputs(SPECTRA)
    means = torch.stack([x[row, 0, :, :length].mean(1) for row, length in enumerate(LENGTHS.tolist())])
    torch.testing.assert_close(network(x, LENGTHS), network.head[1](means))


def test_sizes_at_the_defaults():
    """About the size of what a search finds, so that a comparison is one of architectures."""
    shape = replace(SPECTRA, bins=64, channels=16, sequence_width=64)
    network = build_network("cnn_lstm_attention", shape)
    assert 60_000 < count_parameters(network) < 120_000
    lstm = 2 * 4 * 32 * (48 + 32) * 16  # two directions, four gates, 16 of 125 frames
    assert count_macs(network, 125) > lstm


def test_an_unknown_system_is_refused():
    with pytest.raises(EmodartsError, match=r"system=transformer is unknown: cnn, lstm, "):
        build_network("transformer", SPECTRA)
