"""docs/ranking.md says what docs/ranking.json holds; and what the scores of its benchmark are."""

import json
import math

import numpy as np
import pytest
import torch

from emodarts.networks.network import DiscreteNetwork
from emodarts.search.candidates import CandidateSpace
from emodarts.search.loop import SupernetSearch
from tests.benchmarks import rank_correlation, ranking
from tests.support.toys import noise, task

CONDITIONS = json.loads(ranking.FIGURES.read_text())


def test_the_page_says_what_was_measured():
    page = ranking.PAGE.read_text()
    assert page == ranking.with_tables(page, CONDITIONS)
    for condition in CONDITIONS:
        for tau in condition["taus"].values():
            assert tau["tau"] is None or tau["low"] <= tau["tau"] <= tau["high"]


def test_a_method_ranks_if_its_interval_is_above_0_and_it_beats_the_number_of_parameters():
    def condition(tau, low, parameters):
        return {"taus": {"spos": {"tau": tau, "low": low}, "parameters": {"tau": parameters, "low": 0.0}}}

    assert ranking.verdict(condition(0.5, 0.1, 0.3)) == "Ranks by the rule above: SPOS, inherited weights."
    for failing in (condition(0.5, -0.1, 0.3), condition(0.5, 0.1, 0.6), condition(None, None, 0.3)):
        assert ranking.verdict(failing) == "No method ranks by the rule above."


def test_tau_is_kendalls_with_an_interval_that_holds_it(monkeypatch):
    monkeypatch.setattr(rank_correlation, "RESAMPLES", 100)
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    perfect = ranking.kendall([(x, x)])
    assert (perfect["tau"], perfect["low"]) == (1.0, 1.0)
    assert ranking.kendall([(x, -x)])["tau"] == -1.0
    noisy = ranking.kendall([(x, x + rng.normal(size=30))])
    assert 0 < noisy["low"] < noisy["tau"] < noisy["high"] < 1
    assert ranking.kendall([(x, x), (x, -x)])["tau"] == 0.0
    assert ranking.kendall([(np.ones(5), np.arange(5))]) == {"tau": None, "low": None, "high": None}
    assert ranking.ranks([[0.5, -1.0], [0.5, -0.9], [0.2, 0.0], [0.5, -1.0]]) == [1, 2, 0, 1]


def test_the_derived_architecture_is_the_likeliest():
    made = task(*noise(), nodes=2, epochs=1)
    supernet = SupernetSearch(made).supernet
    with torch.no_grad():
        for alpha in supernet.alphas.values():
            alpha.mul_(1000)
            alpha[:, 0] = -5.0  # `none`, which no architecture has
    space, rng = CandidateSpace.of(made.settings, made.shape), np.random.default_rng(0)
    derived = ranking.likelihood(supernet, supernet.derive())
    drawn = [space.draw(rng) for _ in range(50)]
    same_inputs = [
        g for g in drawn if [e.source for e in g.normal[1]] == [e.source for e in supernet.derive().normal[1]]
    ]
    assert same_inputs
    assert all(ranking.likelihood(supernet, g) <= derived + 1e-6 for g in same_inputs)


def test_synaptic_flow_is_that_of_its_equation():
    """For a stack of linear layers sum |w dR/dw| is, for each layer, the product of all absolute weights."""

    class Stack(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(3, 4, bias=False), torch.nn.Linear(4, 2, bias=False)
            self.shape = type("Shape", (), {"input_channels": 1, "bins": 3})()

        def forward(self, x, lengths):
            return self.second(self.first(x[:, 0].transpose(1, 2).mean(1)))

    network = Stack()
    absolute = [p.detach().abs().double() for p in network.parameters()]
    product = float((absolute[1] @ absolute[0]).sum())
    assert ranking.synflow(network, 5) == pytest.approx(math.log(2 * product))


def test_architectures_are_distinct_and_the_same_for_any_count():
    space = CandidateSpace.of(task(*noise()).settings)
    few, many = list(ranking.draw_distinct(space, 5)), list(ranking.draw_distinct(space, 12))
    assert many[:5] == few
    assert len(set(many)) == 12
    assert all(isinstance(DiscreteNetwork(task(*noise()).shape, g), torch.nn.Module) for g in few[:1])
