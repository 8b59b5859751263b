"""The fixed architecture at the parameters of a hand-designed network."""

from dataclasses import replace

import pytest
import torch

from emodarts.errors import EmodartsError
from emodarts.networks.baselines import build_network
from emodarts.networks.costs import count_parameters
from emodarts.networks.genotype import Genotype
from emodarts.networks.matching import match_parameters
from emodarts.networks.network import DiscreteNetwork, NetworkShape
from emodarts.search.scope import fixed_cells
from emodarts.search.settings import SearchSettings

SHAPE = NetworkShape(4, 1, 64, 3, 2, 16, 1, 1, 64, 16, (8, 2), frequency_pooling="mean", sequence_shortcut=True)


def fixed(space):
    return Genotype.from_cells(fixed_cells(SearchSettings(space=space)))


@pytest.mark.parametrize(
    ("space", "system"), [("compact", "cnn_lstm_attention"), ("emodarts", "cnn_lstm_attention"), ("modern", "cnn")]
)
def test_parameters_are_within_five_per_cent(space, system):
    state = torch.get_rng_state()
    matched = match_parameters(SHAPE, fixed(space), system)
    assert torch.equal(torch.get_rng_state(), state)
    assert replace(matched, channels=16, sequence_width=64) == SHAPE
    target = count_parameters(build_network(system, SHAPE))
    assert count_parameters(DiscreteNetwork(matched, fixed(space))) == pytest.approx(target, rel=0.05)
    plain = count_parameters(DiscreteNetwork(SHAPE, fixed(space)))
    assert plain > 1.5 * target, "there was something to match"


def test_what_cannot_be_matched_is_refused():
    with pytest.raises(EmodartsError, match=r"search.match_parameters=linear_probe has 260 parameters.*change search"):
        match_parameters(SHAPE, fixed("compact"), "linear_probe")
