"""The second-order term against autograd's exact product, on a smooth twin of the supernet in float64.

The exact product differentiates twice, which the fast cells do not allow: the smooth twin is the plain one, and the
fast supernet's term is held against the plain one's.
"""

import functools
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from emodarts.networks.network import NetworkShape
from emodarts.networks.operations import CNN_OPERATIONS, AveragePool, MaxPool, frozen_statistics
from emodarts.networks.supernet import Supernet
from emodarts.search import bilevel
from emodarts.search.bilevel import first_order_step, second_order_step, second_order_term, weight_direction
from tests.support.plain import PlainBatchNorm, plain_twin, with_plain_parts

SEQUENCE = ("none", "skip_connect", "lstm_1", "rnn_2", "lstm_attention_1")


def small_supernet():
    """A supernet in float64 whose alphas have left their start."""
    torch.manual_seed(0)
    net = Supernet(NetworkShape(3, 1, 8, 2, 1, 2, 1, 1, 4, 2, (2, 1)), tuple(CNN_OPERATIONS), SEQUENCE)
    with torch.no_grad():
        for alpha in net.architecture_parameters():
            alpha.normal_(0, 0.5)
    return net.double()


def smooth_twin():
    """The plain twin of a small supernet, whose ReLU and max-pool are replaced by smooth ones."""
    net = plain_twin(small_supernet())
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Softplus())
            elif isinstance(child, MaxPool):
                setattr(module, name, AveragePool(child.norm.running_mean.numel(), child.stride))
    net = with_plain_parts(net).double()
    for module in net.modules():
        if isinstance(module, PlainBatchNorm):  # which stands before a ReLU here and there
            module.activation = F.softplus
    return net


def problem_of(net):
    """Weights, alphas and the losses of both halves as functions."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 1, 8, 12, dtype=torch.float64, generator=generator)
    lengths = torch.tensor([12, 10, 12, 9, 11, 12])
    for row, length in enumerate(lengths):
        x[row, ..., length:] = 0
    y = torch.tensor([0, 1, 2, 0, 1, 2])

    def loss(part):
        with frozen_statistics(net):
            return F.cross_entropy(net(x[part], lengths[part]), y[part])

    weights, alphas = net.weight_parameters(), net.architecture_parameters()
    return weights, alphas, lambda: loss(slice(0, 3)), lambda: loss(slice(3, 6))


@pytest.fixture(scope="module")
def problem():
    return problem_of(smooth_twin())


def exact_term(weights, alphas, weight_loss, vector):
    gradients = torch.autograd.grad(weight_loss(), weights, create_graph=True, allow_unused=True)
    product = sum((g * v).sum() for g, v in zip(gradients, vector, strict=True) if g is not None)
    return torch.autograd.grad(product, alphas)


def distance(found, expected):
    flat = [torch.cat([t.flatten() for t in terms]) for terms in (found, expected)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


def validation_gradient(problem):
    weights, _, _, alpha_loss = problem
    gradients = torch.autograd.grad(alpha_loss(), weights, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, weights, strict=True)]


def test_the_term_by_itself_equals_the_exact_product(problem):
    weights, alphas, weight_loss, _ = problem
    vector = validation_gradient(problem)
    before = [w.detach().clone() for w in weights]
    term = second_order_term(weights, alphas, weight_loss, vector, radius=1e-4)
    assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))  # put back to the bit
    exact = exact_term(weights, alphas, weight_loss, vector)
    assert distance(term, exact) < 1e-4
    # The formula of the published scripts divides by 2 and multiplies by eps: it must fail the same test.
    eps = 1e-4 / float(torch.sqrt(sum(v.square().sum() for v in vector)))
    published = [t * 2 * eps / 2 * eps for t in term]
    assert distance(published, exact) > 0.9
    # What the default radius leaves is the central difference's truncation: it falls with the radius squared.
    errors = [distance(second_order_term(weights, alphas, weight_loss, vector, r), exact) for r in (1e-3, 1e-4)]
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.05)


def test_the_whole_step(problem, monkeypatch):
    fine = functools.partial(second_order_term, radius=1e-4)
    monkeypatch.setattr(bilevel, "second_order_term", fine)
    weights, alphas, weight_loss, alpha_loss = problem
    directions = [
        torch.zeros_like(w) if g is None else g
        for g, w in zip(torch.autograd.grad(weight_loss(), weights, allow_unused=True), weights, strict=True)
    ]
    xi = 0.05
    found, _ = second_order_step(weights, alphas, weight_loss, alpha_loss, directions, xi)
    kept = [w.detach().clone() for w in weights]
    with torch.no_grad():
        for w, d in zip(weights, directions, strict=True):
            w -= xi * d
    gradients = torch.autograd.grad(alpha_loss(), [*weights, *alphas], allow_unused=True)
    with torch.no_grad():
        for w, k in zip(weights, kept, strict=True):
            w.copy_(k)
    vector = [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, weights, strict=False)]
    exact = exact_term(weights, alphas, weight_loss, vector)
    expected = [g - xi * t for g, t in zip(gradients[len(weights) :], exact, strict=True)]
    assert distance(found, expected) < 1e-4


def test_first_order_is_the_plain_gradient(problem):
    _, alphas, _, alpha_loss = problem
    found, _ = first_order_step(alphas, alpha_loss)
    for f, e in zip(found, torch.autograd.grad(alpha_loss(), alphas), strict=True):
        torch.testing.assert_close(f, e)


def test_no_gradient_of_weights_at_rest_is_computed(problem):
    weights, alphas, _, alpha_loss = problem
    wanted = []

    def loss():
        wanted.extend(w.requires_grad for w in weights)
        return alpha_loss()

    found, _ = first_order_step(alphas, loss, weights)
    assert not any(wanted)
    assert all(w.requires_grad for w in weights)
    for f, e in zip(found, torch.autograd.grad(alpha_loss(), alphas), strict=True):
        torch.testing.assert_close(f, e)


class Toy:
    """Losses of two weights and an alpha, which count what lives while they are computed."""

    def __init__(self, monkeypatch):
        self.weights = [torch.randn(3, requires_grad=True), torch.randn(2, requires_grad=True)]
        self.alphas = [torch.randn(2, requires_grad=True)]
        self.losses, self.copies, self.most, self.fails_at = [], [], 0, None
        clone = torch.Tensor.clone
        monkeypatch.setattr(torch.Tensor, "clone", lambda t: self._watched(self.copies, clone(t)))

    def _watched(self, where, tensor):
        where.append(weakref.ref(tensor))
        return tensor

    def __call__(self):
        assert not any(loss() is not None for loss in self.losses)  # none is kept, nor its graph
        self.most = max(self.most, sum(copy() is not None for copy in self.copies))
        if len(self.losses) == self.fails_at:
            raise RuntimeError("out of memory")
        a, b = self.weights
        return self._watched(self.losses, (a.square().sum() + b.pow(3).sum()) * self.alphas[0].prod())

    def step(self):
        return second_order_step(self.weights, self.alphas, self, self, [torch.ones_like(w) for w in self.weights], 0.1)


def test_one_copy_of_the_weights_at_a_time(monkeypatch):
    toy = Toy(monkeypatch)
    toy.step()
    assert len(toy.losses) == 3
    assert toy.most == len(toy.weights)


@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_weights_are_restored_where_a_loss_fails(fails_at, monkeypatch):
    toy = Toy(monkeypatch)
    toy.fails_at, before = fails_at, [w.detach().numpy().copy() for w in toy.weights]
    with pytest.raises(RuntimeError, match="out of memory"):
        toy.step()
    for weight, kept in zip(toy.weights, before, strict=True):
        assert weight.requires_grad
        assert (weight.detach().numpy() == kept).all()


def test_the_fast_supernets_term_is_that_of_the_plain_one():
    fast = small_supernet()
    terms = []
    for net in (fast, plain_twin(fast)):
        weights, alphas, weight_loss, alpha_loss = problem_of(net)
        gradients = torch.autograd.grad(alpha_loss(), weights, allow_unused=True)
        vector = [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, weights, strict=True)]
        terms.append(second_order_term(weights, alphas, weight_loss, vector))
    assert float(torch.cat([t.flatten() for t in terms[1]]).norm()) > 1e-6
    assert distance(*terms) < 1e-7


def test_the_direction_of_w_is_the_step_of_sgd():
    """`w' = w - xi * (momentum * buffer + grad + weight_decay * w)`, as torch's SGD steps, its first step included."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(2))]
    alpha = torch.randn(2)
    sgd = torch.optim.SGD(weights, 0.1, momentum=0.9, weight_decay=0.01)

    def loss():
        return weights[0].pow(3).sum() + (weights[1] * alpha).sin().sum()  # the third one is not used

    for _ in range(3):
        buffers = [sgd.state.get(w, {}).get("momentum_buffer") for w in weights]
        directions = weight_direction(weights, loss, buffers, momentum=0.9, weight_decay=0.01)
        ahead = [w.detach() - 0.1 * d for w, d in zip(weights, directions, strict=True)]
        sgd.zero_grad()
        (loss() + 0 * weights[2].sum()).backward()
        sgd.step()
        for weight, expected in zip(weights, ahead, strict=True):
            torch.testing.assert_close(weight.detach(), expected)
