"""Each axis of the search does what its paper says."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from emodarts.errors import EmodartsError
from emodarts.features.batches import training_batches
from emodarts.networks.costs import CostTable
from emodarts.networks.genotype import Edge
from emodarts.networks.network import NetworkShape
from emodarts.networks.operations import frozen_statistics
from emodarts.networks.supernet import Supernet, derive_cell, discrete_weights
from emodarts.search import loop, supernet_trainer
from emodarts.search.loop import search
from emodarts.search.regularisers import beta_decay, beta_decay_weight, skip_dropout, zero_one_loss
from emodarts.search.selection import PerturbationSelector
from emodarts.search.settings import SearchSettings
from emodarts.search.stopping import dominant_eigenvalue, eigenvalue_rose, hessian_vector_product, skips_rose
from emodarts.search.supernet_trainer import SupernetTrainer
from emodarts.training.prediction import DevFigures
from tests.support.commands import settings as composed
from tests.support.plain import plain_twin
from tests.support.toys import PLAIN, SIZES, noise, task

CNN = ("none", "skip_connect", "avg_pool_3x3", "sep_conv_3x3")
SEQUENCE = ("none", "skip_connect", "lstm_1")
SHAPE = NetworkShape(3, 1, 4, 2, 2, 4, 1, 1, 4, 4, (1, 1))
X, LENGTHS = torch.randn(4, 1, 4, 9, generator=torch.Generator().manual_seed(0)), torch.full((4,), 9)
Y = torch.tensor([0, 1, 2, 0])


def supernet(seed=0, cnn=CNN, sequence=SEQUENCE, shape=SHAPE, **options):
    torch.manual_seed(seed)
    return Supernet(shape, cnn, sequence, **options)


def searched(**settings):
    return search(task(*noise(), **{**PLAIN, "epochs": 4, **settings}))


def after(**settings):
    """The supernet after a search, and what was found."""
    kept = []
    original = loop.SupernetSearch.choose
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.SupernetSearch, "choose", lambda run, state: kept.append(run) or original(run, state))
        found = searched(**settings)
    return kept[0].supernet, found


# Level


def test_one_pass_moves_alphas_and_weights_as_two_optimisers_would_by_themselves():
    made = task(*noise(), **{**PLAIN, "optimisation": "single", "cost_weight": 0.0})
    s = made.settings
    batch = next(training_batches(made.train_part, 16, made.crop, np.random.default_rng(0), "cpu", made.batches))
    net = supernet(shape=made.shape)
    twin = copy.deepcopy(net)
    trainer = SupernetTrainer(net, made)
    net.train()
    told = trainer.single_level_step(batch)

    alphas, weights = twin.architecture_parameters(), twin.weight_parameters()
    optimisers = (
        torch.optim.AdamW(weights, s.learning_rate, weight_decay=s.weight_decay),
        torch.optim.Adam(alphas, s.alpha_learning_rate, betas=(0.5, 0.999), weight_decay=s.alpha_weight_decay),
    )
    loss = F.cross_entropy(twin.train()(batch.inputs, batch.lengths), batch.labels, trainer.train_loss.class_weights)
    loss.backward()
    for parameters in (alphas, weights):  # each has a norm of its own
        nn.utils.clip_grad_norm_(parameters, s.gradient_clip)
    for optimiser in optimisers:
        optimiser.step()
    assert told == (loss.item(), loss.item())
    for (name, ours), theirs in zip(net.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=name)
    assert not torch.equal(net.alphas["N"], net.start_N)


def test_a_single_level_learns_from_all_of_train_by_one_pass(monkeypatch):
    passes, seen = [], []
    weight_loss, alpha_loss = SupernetTrainer._weight_loss, SupernetTrainer._alpha_loss
    monkeypatch.setattr(SupernetTrainer, "_weight_loss", lambda *a: passes.append(0) or weight_loss(*a))
    monkeypatch.setattr(SupernetTrainer, "_alpha_loss", lambda *a: passes.append(1) or alpha_loss(*a))
    draw = supernet_trainer.training_batches
    monkeypatch.setattr(supernet_trainer, "training_batches", lambda part, *a: seen.append(part) or draw(part, *a))
    given = task(*noise(), **{**PLAIN, "optimisation": "single", "epochs": 4, "warmup_epochs": 1})
    found = search(given)
    assert seen == [given.train_part] * 4
    assert len(given.train_part.utterances) == 32
    assert passes == [0] * 4 * 2  # batches of 16, once each
    assert found.epochs[0].alpha_loss is None
    assert all(e.alpha_loss == e.train_loss for e in found.epochs[1:])
    assert found.epochs[0].alphas_moved == 0 < found.epochs[1].alphas_moved < found.epochs[3].alphas_moved


# Relaxation


@pytest.mark.parametrize("relaxation", ["softmax", "sigmoid"])
def test_weights_compete_under_softmax_and_not_under_sigmoid(relaxation):
    net = supernet(relaxation=relaxation)
    before = net.mixing_weights()
    with torch.no_grad():
        net.alphas["N"][1, 2] += 1.0
    changed = {kind: (net.mixing_weights()[kind] - w).abs() > 1e-6 for kind, w in before.items()}
    others = changed["N"].sum() - changed["N"][1, 2].int()
    assert changed["N"][1, 2]
    assert others == (len(CNN) - 1 if relaxation == "softmax" else 0)
    assert not changed["R"].any()
    assert not changed["S"].any()


def test_the_zero_one_loss_pushes_weights_apart():
    alphas = torch.tensor([0.4, -0.4, 2.0], requires_grad=True)
    for _ in range(400):
        (gradient,) = torch.autograd.grad(zero_one_loss([alphas.sigmoid()]), alphas)
        alphas = (alphas - 3.0 * gradient).detach().requires_grad_()
    assert alphas.sigmoid().detach().round(decimals=1).tolist() == [1.0, 0.0, 1.0]
    assert float(zero_one_loss([torch.tensor([0.0, 1.0])])) == -0.25


def test_zero_one_weight_decides_the_search_more_clearly():
    loose, _ = after(relaxation="sigmoid", zero_one_weight=0.0, alpha_weight_decay=0.0)
    pushed, _ = after(relaxation="sigmoid", zero_one_weight=100.0, alpha_weight_decay=0.0)
    assert _from_half(pushed) > 1.3 * _from_half(loose)


def _from_half(net):
    return float(torch.cat([(w - 0.5).abs().flatten() for w in net.mixing_weights().values()]).detach().mean())


# Regularisers


def test_the_gradient_of_beta_decay_is_the_mixing_weights():
    alphas = [torch.randn(5, 4, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)]
    for relaxation in ("softmax", "sigmoid"):
        leaves = [a.clone().requires_grad_() for a in alphas]
        found = torch.autograd.grad(beta_decay(leaves, relaxation), leaves)
        for gradient, alpha in zip(found, alphas, strict=True):
            weights = alpha.softmax(1) if relaxation == "softmax" else alpha.sigmoid()
            torch.testing.assert_close(gradient, weights / 7)  # the mean over 7 edges


def test_beta_decay_grows_with_the_epochs():
    s = SearchSettings(**{**PLAIN, "regulariser": "beta_decay", "beta_decay_weight": 8.0, "epochs": 5})
    assert [beta_decay_weight(s, epoch) for epoch in range(5)] == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_beta_decay_keeps_alphas_together():
    free, _ = after(epochs=6, alpha_learning_rate=0.1)
    decayed, _ = after(epochs=6, alpha_learning_rate=0.1, regulariser="beta_decay", beta_decay_weight=50.0)
    for kind in free.searched_kinds:
        spread = [float(net.alphas[kind].detach().std(1).mean()) for net in (free, decayed)]
        assert spread[1] < 0.6 * spread[0]


def test_skip_dropout_decays_to_nothing():
    s = SearchSettings(**{**PLAIN, "regulariser": "skip_dropout", "skip_dropout": 0.5, "epochs": 4})
    assert [skip_dropout(s, epoch) for epoch in range(5)] == [0.5, 0.375, 0.25, 0.125, 0.0]
    warm = replace(s, warmup_epochs=2, epochs=6)
    assert [skip_dropout(warm, epoch) for epoch in range(7)] == [0.5, 0.5, 0.5, 0.375, 0.25, 0.125, 0.0]
    assert skip_dropout(replace(s, regulariser="none"), 0) == 0.0


@pytest.mark.parametrize("kind", ["cnn", "sequence"])
def test_skip_dropout_drops_values_of_skips_alone_and_in_training_alone(kind):
    net = supernet()
    net.set_skip_dropout(0.4)
    cell = net.cells[0] if kind == "cnn" else net.sequence_cells[0]
    edges, names = cell.sources[0], CNN if kind == "cnn" else SEQUENCE
    x = torch.rand(6, 4, 8, 8) + 1 if kind == "cnn" else torch.rand(6, 40, 4) + 1
    extent = torch.ones(6, 1, 1, 8) if kind == "cnn" else torch.full((6,), 40)
    count, axis = (SHAPE.nodes, 1) if kind == "cnn" else (SHAPE.sequence_nodes, 2)

    def through(operation):
        weights = F.one_hot(torch.full((count,), names.index(operation)), len(names)).float()
        return torch.stack(edges(x, extent, weights).chunk(count, axis))

    dropped = through("skip_connect")
    zero = dropped == 0
    assert float(zero.float().mean()) == pytest.approx(0.4, abs=0.05)
    torch.testing.assert_close(dropped[~zero], x.expand_as(dropped)[~zero] / 0.6)
    assert count == 1 or not torch.equal(zero[0], zero[1])  # each edge by itself
    other = through("sep_conv_3x3" if kind == "cnn" else "lstm_1")
    assert float((other == 0).float().mean()) < 0.01
    net.eval()
    torch.testing.assert_close(through("skip_connect"), x.expand_as(dropped))


# Stopping


def test_two_skips_end_the_search_with_the_genotype_before(monkeypatch):
    planted = iter([0, 1, 1, 2, 0, 0, 0])
    monkeypatch.setattr(loop, "most_skip_connections", lambda net, genotype: next(planted))
    derived = []
    original = Supernet.derive
    monkeypatch.setattr(Supernet, "derive", lambda net: derived.append(original(net)) or derived[-1])
    found = searched(epochs=7, stop="skips", alpha_learning_rate=0.3)
    assert len(found.epochs) == 4
    assert found.epoch == 2
    assert found.genotype in derived
    assert [g for g in derived if g == found.genotype]


def test_the_rule_of_two_skips():
    assert skips_rose([0, 1, 2], 2)
    assert skips_rose([0, 3], 2)
    assert not skips_rose([0, 1], 2)
    assert not skips_rose([2], 2)  # by chance, before the alphas have said anything
    assert not skips_rose([2, 2, 3], 2)
    assert skips_rose([2, 1, 2], 2)


def test_the_rule_of_the_eigenvalue():
    flat = [1.0, 1.1, 0.9, 1.0, 1.0, 1.05]
    assert not eigenvalue_rose(flat, 2, 0.75)
    assert eigenvalue_rose([*flat, 2.0, 2.0], 2, 0.75)
    assert not eigenvalue_rose([1.0, 5.0], 2, 0.75)  # nothing yet to compare with
    assert eigenvalue_rose([-1.0, -1.0, -3.0, -3.0], 2, 0.75)  # size, not sign
    assert not eigenvalue_rose([1.0, 1.0, 4 / 3, 4 / 3], 2, 0.75)
    assert eigenvalue_rose([1.0, 1.0, 1.34, 1.34], 2, 0.75)


def test_a_planted_rise_ends_the_search_some_epochs_back(monkeypatch):
    planted = iter([1.0, 1.0, 1.0, 1.0, 9.0, 9.0])
    monkeypatch.setattr(loop, "dominant_eigenvalue", lambda *_: next(planted))
    found = searched(epochs=9, stop="eigenvalue", stop_window=2, warmup_epochs=1)
    assert len(found.epochs) == 1 + 5
    assert found.epoch == 3


@pytest.mark.parametrize(("derive_at", "epoch"), [("last", 7), ("best_dev", 6)])
def test_the_epoch_of_the_genotype_follows_its_rule(monkeypatch, derive_at, epoch):
    """Figures of the supernet on dev choose nothing, unless they are asked to."""
    planted = iter([0.9, 0.2, 0.2, 0.2, 0.2, 0.2, 0.8, 0.4])
    monkeypatch.setattr(loop, "figures_of", lambda *_: DevFigures(loss=1.0, uar=next(planted), war=0.5))
    found = searched(epochs=8, derive_at=derive_at)
    assert found.epoch == epoch
    assert [e.dev_uar for e in found.epochs][epoch] == (0.4 if derive_at == "last" else 0.8)


@pytest.fixture(scope="module")
def smooth():
    """Alphas of a small supernet without kinks in float64, and the loss of them."""
    net = supernet(3, ("none", "skip_connect", "avg_pool_3x3"), shape=replace(SHAPE, cells=1))
    net = plain_twin(net).double()
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Softplus())
    with torch.no_grad():
        for alpha in net.architecture_parameters():
            alpha.normal_(0, 0.5)

    def loss():
        with frozen_statistics(net):
            return F.cross_entropy(net(X.double(), LENGTHS), Y)

    alphas = net.architecture_parameters()
    gradients = torch.cat([g.flatten() for g in torch.autograd.grad(loss(), alphas, create_graph=True)])
    rows = [torch.autograd.grad(g, alphas, retain_graph=True) for g in gradients]
    return alphas, loss, torch.stack([torch.cat([r.flatten() for r in row]) for row in rows])


def test_products_with_the_hessian_are_exact(smooth):
    alphas, loss, hessian = smooth
    vector = torch.randn(len(hessian), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before = [a.detach().clone() for a in alphas]
    found = hessian_vector_product(alphas, loss, vector, 1e-4)
    torch.testing.assert_close(found, hessian @ vector, rtol=1e-5, atol=1e-9)
    assert all(torch.equal(a, b) for a, b in zip(alphas, before, strict=True))


def test_the_dominant_eigenvalue_is_the_exact_one(smooth):
    alphas, loss, hessian = smooth
    values = torch.linalg.eigvalsh(hessian)
    exact = float(values[values.abs().argmax()])
    assert dominant_eigenvalue(alphas, loss, radius=1e-4, steps=len(hessian)) == pytest.approx(exact, rel=1e-6)
    assert dominant_eigenvalue(alphas, loss) == pytest.approx(exact, rel=0.01)  # as it is used


def test_a_flat_loss_has_no_curvature():
    alpha = torch.zeros(3, 2, requires_grad=True)
    assert dominant_eigenvalue([alpha], lambda: (3 * alpha).sum()) == pytest.approx(0.0, abs=1e-4)


# Selection


class Weighed:
    """A supernet whose loss is a sum over what is taken away, whatever its alphas say."""

    def __init__(self, shape, worth):
        self.net, self.worth = supernet(shape=shape), worth
        with torch.no_grad():
            for kind in "NRS":
                self.net.alphas[kind].zero_()
                self.net.alphas[kind][:, 1] = 3.0  # the alphas are all for skip_connect

    def loss(self):
        weights = self.net.mixing_weights()
        return -float(sum((weights[kind] * worth).sum() for kind, worth in self.worth.items()))


def test_perturbation_keeps_what_hurts_when_it_is_gone():
    shape = replace(SHAPE, cells=1, nodes=2)
    worth = {"N": torch.zeros(5, 4), "S": torch.zeros(2, 3)}
    best = [3, 2, 3, 1, 3]
    for row, column in enumerate(best):
        worth["N"][row, column] = 100.0 + row
    worth["N"][0, 0] = 1e4  # `none` is never chosen
    worth["S"][:, 2] = 100.0
    toy = Weighed(shape, worth)
    assert {e.operation for node in toy.net.derive().normal for e in node} == {"skip_connect"}
    tuned = []
    selector = PerturbationSelector(
        toy.net, toy.loss, lambda: tuned.append(_copies(toy.net.mixing_weights())), np.random.default_rng(0)
    )
    found = selector.select()
    assert found.normal == (
        (Edge("sep_conv_3x3", 0), Edge("avg_pool_3x3", 1)),
        (Edge("skip_connect", 1), Edge("sep_conv_3x3", 2)),  # the three are worth 102, 103, 104: the two dearest
    )
    assert [e.operation for e in found.sequence[0]] == ["lstm_1", "lstm_1"]
    assert len(tuned) == 5 + 2 + 1  # after each edge, and after the one node with more than two inputs
    decided = [sum(int((t[kind] == 1).any(1).sum()) for kind in "NS") for t in tuned]
    assert decided == [*range(1, 8), 6]


def _copies(weights):
    return {kind: w.detach().clone() for kind, w in weights.items()}


def test_perturbation_runs_in_a_search_and_looks_at_the_alpha_half_alone(monkeypatch):
    seen = []
    original = loop.training_batches
    monkeypatch.setattr(loop, "training_batches", lambda part, *rest: seen.append(part) or original(part, *rest))
    given = task(*noise(), **{**PLAIN, "epochs": 2, "selection": "perturbation", "perturbation_steps": 1})
    found = search(given)
    assert seen == [given.alpha_part]
    assert found.epoch == 1
    assert found.dev_probabilities.shape == (len(given.dev.utterances), 3)


# Cost, warm-up


@pytest.mark.parametrize("cost", ["parameters", "macs"])
def test_the_cost_term_makes_the_expected_network_cheaper(cost):
    expected = []
    for weight in (0.0, 20.0):
        net, _ = after(cost=cost, cost_weight=weight, alpha_learning_rate=0.1)
        table = CostTable.of(net.shape, net.cnn_operations, net.sequence_operations, 8, cost)
        expected.append(float(table.expected(net.mixing_weights())))
    assert expected[1] < 0.8 * expected[0]


def test_alphas_wait_for_the_weights():
    found = searched(epochs=4, warmup_epochs=2)
    assert [e.alphas_moved for e in found.epochs[:2]] == [0.0, 0.0]
    assert [e.alpha_loss for e in found.epochs[:2]] == [None, None]
    assert all(e.alphas_moved > 0 and e.alpha_loss > 0 for e in found.epochs[2:])
    assert SearchSettings(epochs=15, warmup_epochs=None).warmup == 4
    assert SearchSettings(epochs=1, warmup_epochs=None).warmup == 0


def test_figures_of_an_epoch():
    found = searched(epochs=3, alpha_learning_rate=0.2)
    moved = [e.alphas_moved for e in found.epochs]
    assert 0 < moved[0] < moved[-1]
    assert all(0 <= e.discretised_dev_uar <= 1 for e in found.epochs)
    assert all(0 < e.entropy < np.log(4) and 0 <= e.top2_margin <= 1 for e in found.epochs)
    assert len({e.macs for e in found.epochs}) == 1


def test_a_supernet_mixed_by_a_genotype_is_its_network():
    """Only the kept edges count: what flows over another one changes nothing."""
    net = supernet()
    with torch.no_grad():
        for alpha in net.alphas.values():
            alpha.normal_()
    genotype = net.derive()
    weights = net.discrete_weights(genotype)
    assert {kind: int(w.sum()) for kind, w in weights.items()} == {"N": 4, "R": 4, "S": 2}
    assert net.derive(weights) == genotype
    with net.override_weights(weights):
        assert net.derive() == genotype
        assert net.searched_kinds == ()
    assert net.searched_kinds == ("N", "R", "S")
    cell = ((Edge("lstm_1", 0), Edge("skip_connect", 1)),)
    assert derive_cell(discrete_weights(cell, SEQUENCE), SEQUENCE) == cell


# Settings


AXES = {
    "optimisation": ["bilevel", "single"],
    "space": ["emodarts", "modern", "compact"],
    "relaxation": ["softmax", "sigmoid"],
    "regulariser": ["none", "beta_decay", "skip_dropout"],
    "selection": ["magnitude", "perturbation"],
    "stop": ["none", "skips", "eigenvalue"],
    "derive_at": ["last", "best_dev"],
    "warmup_epochs": [0, 2],
    "proposals": [1, 5],
    "cost": ["parameters", "macs"],
    "cost_weight": [0.5],
    "method": ["darts", "spos", "frozen", "random_architecture", "random_search", "evolution", "fixed", "sampler"],
    "scope": ["joint", "cnn_only", "seqnn_only"],
    "precision": ["float32", "bfloat16"],
    "compile": ["none", "default", "reduce-overhead"],
}


@pytest.mark.parametrize(("axis", "value"), [(axis, v) for axis, values in AXES.items() for v in values])
def test_each_value_is_one_switch(axis, value):
    two_levels = ["search.optimisation=bilevel"] if value in ("perturbation", "eigenvalue") else []
    assert getattr(composed(f"search.{axis}={value}", *two_levels).search, axis) == value


def test_searching_in_turn_is_a_switch():
    assert composed("search.scope=one_after_the_other", "search.stop=none").search.searches_parts_in_turn


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"relaxation": "gumbel"}, "search.relaxation=gumbel is out of range: softmax | sigmoid"),
        ({"space": "nasnet"}, "search.space=nasnet is out of range: emodarts | modern"),
        ({"cnn_operations": ["none"]}, "none alone"),
        ({"cnn_operations": ["none", "conv_9x9"]}, "search.cnn_operations"),
        ({"sequence_operations": ["lstm_1", "lstm_1"]}, "each once"),
        ({"space": "modern", "seqnn": "rnn"}, "search.seqnn=rnn is out of range: all | lstm | gru"),
        ({"sequence_width": 6, "space": "modern"}, "search.sequence_width=6 .* self_attention_4"),
        ({"epochs": 3, "warmup_epochs": 3}, "the alphas would never move"),
        ({"scope": "one_after_the_other", "epochs": 4, "warmup_epochs": 3}, "the alphas would never move in 3 epochs"),
        ({"scope": "one_after_the_other", "stop": "skips"}, "set search.stop=none"),
        ({"scope": "one_after_the_other", "method": "evolution"}, "no meaning for search.method=evolution"),
        ({"scope": "seqnn_only", "sequence_cells": 0}, "needs a sequence part"),
        ({"optimisation": "bilevel", "unrolled": True, "precision": "bfloat16"}, "set search.precision=float32"),
        ({"optimisation": "upper"}, "search.optimisation=upper is out of range: single | bilevel"),
        ({"optimisation": "single", "unrolled": True}, "set search.unrolled=false, or search.optimisation=bilevel"),
        ({"method": "fixed", "scope": "cnn_only"}, "search.scope=cnn_only means nothing"),
        ({"match_parameters": "resnet"}, "search.match_parameters=resnet is out of range: cnn | lstm"),
        ({"selection": "perturbation"}, "selection=perturbation measures .* set search.optimisation=bilevel"),
        ({"stop": "eigenvalue"}, "stop=eigenvalue measures .* set search.optimisation=bilevel"),
        ({"population": 2, "tournament": 3}, "search.tournament=3"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(EmodartsError, match=message.replace("|", r"\|")):
        SearchSettings(**{"warmup_epochs": 0, **given})


# Together


@pytest.mark.slow
def test_all_axes_go_together():
    """Combinations that are allowed run, and find an architecture."""
    values = itertools.product(("softmax", "sigmoid"), ("beta_decay", "skip_dropout"), ("skips", "eigenvalue"))
    for relaxation, regulariser, stop in values:
        axes = {
            "relaxation": relaxation,
            "regulariser": regulariser,
            "stop": stop,
            "stop_window": 1,
        }
        found = searched(epochs=2, cost_weight=0.1, **axes)
        assert len(found.genotype.normal) == SIZES["nodes"]


def test_what_is_searched_does_not_change_the_supernet_it_was_given():
    net = supernet()
    before = copy.deepcopy(net.state_dict())
    with net.override_weights(net.discrete_weights(net.derive())):
        net.eval()(X, LENGTHS)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
