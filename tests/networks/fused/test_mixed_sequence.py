"""The joint sequence edges against the plain ones, made of the modules that `extract` gives."""

import pytest
import torch
from torch import nn

from emodarts.errors import EmodartsError
from emodarts.networks.fused.recurrence import LayerGroup, recurrence
from emodarts.networks.names import family_of
from emodarts.networks.sequence import SEQUENCE_OPERATIONS, SelfAttention
from emodarts.networks.spaces import SMALL_SEQUENCE_OPERATIONS, SPACES
from tests.support.plain import plain_edges, plain_gradients, sequence_edges

ALL = tuple(SEQUENCE_OPERATIONS)
MIXTURES = {
    "emodarts": SPACES["emodarts"].sequence_operations,
    "modern": SPACES["modern"].sequence_operations,
    "small": SMALL_SEQUENCE_OPERATIONS,
    "all": ALL,
}
LENGTHS = torch.tensor([7, 1, 4, 6])


def problem(operations, width, edges, dtype, lengths=LENGTHS, seed=0):
    torch.manual_seed(seed)
    fast = sequence_edges(operations, width, edges).to(dtype)
    frames = int(lengths.max()) + 2  # padding that no utterance fills
    real = (torch.arange(frames) < lengths[:, None])[:, :, None]
    x = (torch.randn(len(lengths), frames, width, dtype=dtype) * real).requires_grad_()
    weights = torch.rand(edges, len(operations), dtype=dtype).requires_grad_()
    return fast, plain_edges(fast), x, weights, real


def assert_close(found, expected, tolerance, name=""):
    distance = float((found - expected).detach().norm())
    assert distance <= tolerance * max(float(expected.detach().norm()), 1e-12), f"{name}: off by {distance}"


def check(operations, width, edges, dtype, lengths=LENGTHS, training=True):
    outputs, relative = (1e-5, 1e-4) if dtype == torch.float32 else (1e-9, 1e-9)
    fast, plain, x, weights, real = problem(operations, width, edges, dtype, lengths)
    fast.train(training)
    plain.train(training)
    found, expected = (e(x, lengths, weights) for e in (fast, plain))
    assert (found * ~real).abs().max() == 0
    torch.testing.assert_close(found, expected, atol=outputs, rtol=outputs)
    seed = torch.randn_like(found)
    ours = torch.autograd.grad(found, [x, weights, *fast.parameters()], seed)
    theirs = torch.autograd.grad(expected, [x, weights, *plain.parameters()], seed)
    for name, a, b in zip(("x", "weights"), ours, theirs, strict=False):
        assert_close(a, b, relative, name)
    of_fast, names = plain_gradients(fast, ours[2:], plain_edges), [name for name, _ in plain.named_parameters()]
    assert list(of_fast) == names
    for name, gradient in zip(names, theirs[2:], strict=True):
        assert_close(of_fast[name], gradient, relative, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in ALL if name != "none"])
def test_an_operation_is_the_plain_one(name, dtype):
    check((name, "skip_connect") if name != "skip_connect" else (name,), 8, 2, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("edges", [1, 5])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_mixture_is_the_plain_one(mixture, edges, dtype):
    check(MIXTURES[mixture], 8, edges, dtype)


@pytest.mark.parametrize(
    ("operations", "width", "edges", "lengths"),
    [
        (MIXTURES["emodarts"], 2, 3, LENGTHS),
        (MIXTURES["emodarts"], 4, 4, torch.tensor([5])),  # a batch of one
        (ALL, 4, 2, torch.tensor([1, 1])),  # fewer frames than layers
        (ALL, 4, 2, torch.tensor([2])),
        (("lstm_3", "rnn_attention_2", "gru_1"), 6, 2, LENGTHS),
    ],
    ids=["width-2", "one-utterance", "one-frame", "two-frames", "some"],
)
def test_edge_cases(operations, width, edges, lengths):
    check(operations, width, edges, torch.float64, lengths)


def test_evaluation_without_gradients():
    fast, plain, x, weights, _ = problem(ALL, 8, 3, torch.float64)
    fast.eval(), plain.eval()
    with torch.no_grad():
        found, expected = (e(x, LENGTHS, weights) for e in (fast, plain))
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
    assert not any(module.training for module in plain.modules())


def test_it_starts_as_the_plain_edges_would():
    torch.manual_seed(0)
    fast = sequence_edges(ALL, 8, 2)
    torch.manual_seed(0)
    drawn = nn.ModuleList(SEQUENCE_OPERATIONS[name](8, False) for _ in range(2) for name in ALL)
    for a, b in zip(plain_edges(fast).parameters(), drawn.parameters(), strict=True):
        assert torch.equal(a, b)
    assert sum(p.numel() for p in fast.parameters()) == sum(p.numel() for p in drawn.parameters())


def test_the_alphas_alone_need_no_gradient_of_the_weights(monkeypatch):
    from emodarts.networks.fused import recurrence as module

    fast, plain, x, weights, _ = problem(MIXTURES["emodarts"], 8, 2, torch.float64)
    asked = []
    whole = module._WeightGradient.backward
    monkeypatch.setattr(
        module._WeightGradient, "backward", staticmethod(lambda ctx, g: asked.append(1) or whole(ctx, g))
    )
    first = fast(x, LENGTHS, weights).unflatten(2, (2, 8)).sum(2)  # a second cell on top makes the states matter
    found = torch.autograd.grad(fast(first, LENGTHS, weights).square().sum(), weights)[0]
    assert not asked
    first = plain(x, LENGTHS, weights).unflatten(2, (2, 8)).sum(2)
    expected = torch.autograd.grad(plain(first, LENGTHS, weights).square().sum(), weights)[0]
    assert_close(found, expected, 1e-9)
    torch.autograd.grad(fast(x, LENGTHS, weights).sum(), list(fast.parameters()))
    assert asked


def test_a_gradient_of_the_plain_form_can_be_differentiated_again_and_one_of_the_fused_form_is_refused():
    """The plain form's second derivative is the central difference of the fused form's first."""
    operations = ("lstm_2", "gru_2", "rnn_1", "lstm_attention_2", "self_attention_4")
    fast, plain, x, weights, _ = problem(operations, 4, 2, torch.float64)

    def gradient(edges, x, create_graph=False):
        loss = edges(x, LENGTHS, weights).pow(3).sum()
        return torch.autograd.grad(loss, [x, weights], create_graph=create_graph)

    direction, eps = torch.randn_like(x), 1e-5
    product = sum((g * v).sum() for g, v in zip(gradient(plain, x, True), (direction, weights.detach()), strict=True))
    curvature = torch.autograd.grad(product, x)[0]
    sides = []
    for step in (eps, -eps):
        with torch.no_grad():
            weights.mul_(1 + step)
        sides.append(gradient(fast, (x + step * direction).detach().requires_grad_())[0])
        with torch.no_grad():
            weights.div_(1 + step)
    assert_close((sides[0] - sides[1]) / (2 * eps), curvature, 1e-6)
    with pytest.raises(RuntimeError, match="create_graph=True cannot be used"):
        gradient(fast, x, True)


def test_a_graph_can_be_used_twice():
    fast, _, x, weights, _ = problem(MIXTURES["small"], 4, 1, torch.float64)
    loss = fast(x, LENGTHS, weights).square().sum()
    first = torch.autograd.grad(loss, list(fast.parameters()), retain_graph=True)
    torch.autograd.grad(loss, x, retain_graph=True)
    for a, b in zip(torch.autograd.grad(loss, list(fast.parameters())), first, strict=True):
        assert torch.equal(a, b)


def test_skip_dropout_is_of_each_edge_and_in_training_only():
    fast, _, x, _, real = problem(("none", "skip_connect", "rnn_1"), 8, 3, torch.float64)
    one = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand(3, 3)
    fast.skip_dropout = 0.5
    a, b, c = fast(x, LENGTHS, one).detach().chunk(3, 2)
    assert not torch.equal(a, b)
    assert not torch.equal(b, c)
    kept = a != 0
    torch.testing.assert_close(a[kept], 2 * x.detach()[kept])  # what stays is scaled up
    assert 0.3 < float(kept[real.expand_as(kept)].double().mean()) < 0.7
    fast.eval()
    assert torch.equal(fast(x, LENGTHS, one), x.repeat(1, 1, 3))


def test_an_operation_without_a_joint_form_stays_a_module_an_edge(monkeypatch):
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.randn(()))

        def forward(self, x, lengths):
            return self.factor * x

    monkeypatch.setitem(SEQUENCE_OPERATIONS, "scale_1", lambda width, affine: Scale())
    check(("none", "lstm_1", "scale_1", "gru_1"), 4, 3, torch.float64)


def test_frozen_weights_get_no_gradient_and_x_does():
    fast, plain, x, weights, _ = problem(ALL, 4, 1, torch.float64)
    fast.requires_grad_(False)
    found, expected = (torch.autograd.grad(e(x, LENGTHS, weights).square().sum(), x)[0] for e in (fast, plain))
    assert_close(found, expected, 1e-9)


@pytest.mark.parametrize(("mode", "layer"), [("LSTM", nn.LSTM), ("RNN_TANH", nn.RNN)])
def test_chains_of_different_depth_are_stacks_of_torch(mode, layer):
    """The recurrence by itself, against stacked layers of torch with the blocks in the order of `recurrent_cells`."""
    torch.manual_seed(0)
    stacks = [layer(3, 3, depth).double() for depth in (3, 1)]
    order = torch.arange(len(stacks[0].weight_hh_l0)).view(-1, 3)[[0, 1, 3, 2] if mode == "LSTM" else [0]].flatten()
    rows = [(stacks[0], 0), (stacks[1], 0), (stacks[0], 1), (stacks[0], 2)]
    parts = [[getattr(m, f"{n}_l{d}") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")] for m, d in rows]
    weight = torch.stack([torch.cat(p[:2], 1)[order].T for p in parts])
    bias = torch.stack([(p[2] + p[3])[order] for p in parts])
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    (found,) = recurrence(mode, [LayerGroup(x[None], weight, bias, (2, 1, 1))])
    torch.testing.assert_close(found, torch.stack([stack(x)[0] for stack in stacks]))


def test_self_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = SelfAttention(4, 8, False), nn.MultiheadAttention(8, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.queries_keys_values.weight)
        theirs.in_proj_bias.copy_(ours.queries_keys_values.bias)
        theirs.out_proj.weight.copy_(ours.projection.weight)
        theirs.out_proj.bias.copy_(ours.projection.bias)
    x, padding = torch.randn(4, 7, 8), torch.arange(7) >= LENGTHS[:, None]
    expected = nn.functional.layer_norm(theirs(x, x, x, key_padding_mask=padding)[0], (8,)) * ~padding[:, :, None]
    torch.testing.assert_close(ours(x, LENGTHS), expected, atol=1e-5, rtol=1e-5)


def test_widths_that_cannot_be_divided():
    with pytest.raises(EmodartsError, match="divisible by 4, not 6"):
        sequence_edges(("self_attention_4",), 6, 1)
    with pytest.raises(EmodartsError, match="even width, not 5"):
        sequence_edges(("bigru_1",), 5, 1)


def test_families_of_the_modern_operations():
    assert [family_of(n) for n in ("gru_2", "bilstm_1", "bigru_1", "self_attention_4")] == [
        "gru",
        "bilstm",
        "bigru",
        "self_attention",
    ]
