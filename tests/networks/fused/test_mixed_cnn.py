"""The fast cells against the plain ones: outputs, gradients, running statistics, whole supernets and search steps."""

import pytest
import torch
import torch.nn.functional as F

from emodarts.networks.cell import MixedOperation
from emodarts.networks.depthwise import depthwise
from emodarts.networks.fused import stacked_convolutions
from emodarts.networks.fused.cell import FusedCell, FusedOperations
from emodarts.networks.fused.mixture import batch_mixture
from emodarts.networks.masking import image_mask
from emodarts.networks.network import NetworkShape
from emodarts.networks.operations import CNN_OPERATIONS, RunningStatistics, frozen_statistics
from emodarts.networks.sequence import SEQUENCE_OPERATIONS
from emodarts.networks.spaces import SMALL_SEQUENCE_OPERATIONS, SPACES
from emodarts.networks.supernet import Supernet
from emodarts.search import bilevel
from emodarts.search.bilevel import first_order_step, second_order_step
from tests.support.plain import (
    cnn_edges,
    first_order,
    plain_edges,
    plain_gradients,
    plain_twin,
    saved_bytes,
    second_order,
)
from tests.support.unfusing import extract, unfused_supernet

EVERY = tuple(CNN_OPERATIONS)
LENGTHS = torch.tensor([11, 17, 5])
OUTPUTS = {torch.float32: 1e-5, torch.float64: 1e-9}
GRADIENTS = {torch.float32: 1e-4, torch.float64: 1e-9}
DTYPES = pytest.mark.parametrize("dtype", list(OUTPUTS), ids=["float32", "float64"])


def assert_gradients(found, expected, dtype):
    """Relative to each gradient's size; one that is next to nothing beside all of them, to a thousandth of theirs."""
    found, expected = list(found), list(expected)
    whole = sum(float(e.square().sum()) for e in expected) ** 0.5
    for f, e in zip(found, expected, strict=True):
        assert float((f - e).norm()) <= GRADIENTS[dtype] * max(float(e.norm()), 1e-3 * whole, 1e-3)


def inputs(channels, bins, dtype, seed=0, lengths=LENGTHS):
    generator = torch.Generator().manual_seed(seed)
    frames = int(lengths.max())
    mask = image_mask(lengths, frames, dtype)
    return torch.randn(len(lengths), channels, bins, frames, generator=generator, dtype=dtype) * mask, mask


def statistics(module):
    return [(m.running_mean, m.running_var, m.updates) for m in module.modules() if isinstance(m, RunningStatistics)]


@DTYPES
@pytest.mark.parametrize("over_time", [False, True], ids=["plane", "over time"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("operations", [EVERY, *((name,) for name in EVERY)], ids=["every", *EVERY])
def test_edges_equal_plain_edges(operations, stride, over_time, dtype):
    check_edges(operations, (6, 3), stride, over_time, dtype)


@DTYPES
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("operations", [EVERY, ("sep_conv_3x3",), ("skip_connect", "dil_conv_5x5")], ids="-".join)
@pytest.mark.parametrize("size", [(16, 4), (33, 2), (6, 1)], ids=str)  # channels, edges: each grouped differently
def test_other_sizes_equal_plain_edges(size, operations, stride, dtype):
    check_edges(operations, size, stride, False, dtype)


@pytest.mark.parametrize("edges", [1, 3])
@pytest.mark.parametrize("over_time", [False, True], ids=["plane", "over time"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_one_utterance_of_few_frames_equals_plain_edges(frames, stride, over_time, edges):
    check_edges(EVERY, (6, edges), stride, over_time, torch.float64, torch.tensor([frames]))


@pytest.mark.parametrize("stride", [1, 2])
def test_discrete_mixing_weights_equal_plain_edges(stride):
    one_hot = torch.eye(len(EVERY), dtype=torch.float64)
    for names in (("skip_connect", "sep_conv_5x5", "none"), ("max_pool_3x3", "dil_conv_3x3", "se_conv_3x3")):
        weights = one_hot[[EVERY.index(name) for name in names]]
        check_edges(EVERY, (6, 3), stride, False, torch.float64, weights=weights)


def check_edges(operations, size, stride, over_time, dtype, lengths=LENGTHS, weights=None):
    """Outputs and gradients of the fast and the plain edges; `size`: channels and edges."""
    torch.manual_seed(0)
    fast = cnn_edges(operations, *size, stride, over_time).to(dtype)
    plain = plain_edges(fast)
    x, mask = inputs(size[0], 1 if over_time else 7, dtype, lengths=lengths)
    x.requires_grad_()
    weights = torch.rand(size[1], len(operations), dtype=dtype) if weights is None else weights
    weights = weights.requires_grad_()
    outputs = [edges(x, mask, weights) for edges in (fast, plain)]
    torch.testing.assert_close(*outputs, atol=OUTPUTS[dtype], rtol=OUTPUTS[dtype])
    if operations == ("none",):
        return
    against = torch.randn_like(outputs[1])
    gradients = [
        torch.autograd.grad(output, [x, weights, *edges.parameters()], against, allow_unused=True)
        for output, edges in zip(outputs, (fast, plain), strict=True)
    ]
    # Gradients at padded frames are of no account: what made the state is masked.
    assert_gradients([gradients[0][0] * mask, gradients[0][1]], [gradients[1][0] * mask, gradients[1][1]], dtype)
    found = plain_gradients(fast, gradients[0][2:], plain_edges)
    assert_gradients(found.values(), gradients[1][2:], dtype)


@DTYPES
@pytest.mark.parametrize("stride", [1, 2])
def test_running_statistics_and_evaluation_mode(stride, dtype):
    torch.manual_seed(0)
    fast = cnn_edges(EVERY, 6, 3, stride).to(dtype)
    plain = plain_edges(fast)
    weights = torch.rand(3, len(EVERY), dtype=dtype)
    for seed in range(3):
        x, mask = inputs(6, 7, dtype, seed)
        for edges in (fast, plain):
            edges(x, mask, weights)
    for found, expected in zip(statistics(plain_edges(fast)), statistics(plain), strict=True):
        for f, e in zip(found, expected, strict=True):
            torch.testing.assert_close(f, e, atol=OUTPUTS[dtype], rtol=OUTPUTS[dtype])
    before = [b.clone() for b in fast.buffers()]
    with frozen_statistics(fast):
        fast(x, mask, weights)
    assert all(torch.equal(b, a) for b, a in zip(before, fast.buffers(), strict=True))
    found, expected = fast.eval()(x, mask, weights), plain.eval()(x, mask, weights)
    torch.testing.assert_close(found, expected, atol=OUTPUTS[dtype], rtol=OUTPUTS[dtype])
    assert (found * (1 - mask[..., ::stride])).abs().sum() == 0


def test_means_far_from_zero_cost_no_digits():
    torch.manual_seed(0)
    mask = (torch.arange(17) < LENGTHS[:, None]).float()[:, None, :, None]
    x = (torch.randn(3, 40, 17, 12) + 300).requires_grad_()  # two edges of six channels
    pointwise, weights = torch.rand(1, 2, 6, 6), torch.ones(1, 2)
    found, mean, variance = batch_mixture([x.clone()], pointwise, weights, mask, 1e-5)
    real = x.detach().double()[mask.bool().expand(-1, 40, -1, 1)[..., 0]].view(-1, 2, 6)
    outputs = torch.einsum("nei,eoi->neo", real, pointwise[0].double())
    exact = outputs.var(0, unbiased=False)
    torch.testing.assert_close(variance[0].double(), exact, atol=0, rtol=1e-3)
    torch.testing.assert_close(mean[0].double(), outputs.mean(0), atol=0, rtol=1e-5)
    single = outputs.float()
    careless = (single * single).mean(0) - single.mean(0) ** 2
    assert float(((careless - exact) / exact).abs().max()) > 1e-2
    normalised = (outputs - outputs.mean(0)) / (exact + 1e-5).sqrt()
    found = found.detach()[mask.bool().expand(-1, 40, -1, 1)[..., 0]].view(-1, 2, 6)
    torch.testing.assert_close(found.double(), normalised, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", list(OUTPUTS))
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 5), (1, 7), (7, 9), (1, 3)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (1, 3), (2, 3), (2, 2), (2, 4)])
def test_depthwise_convolution(kernel, stride, dilation, dtype):
    check_depthwise((2, 4, 6, 11), kernel, stride, dilation, dtype)


def check_depthwise(shape, kernel, stride, dilation, dtype):
    """Output and gradients against PyTorch's own."""
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    weight = torch.randn(4, 1, *kernel, dtype=dtype, requires_grad=True)
    padding = [dilation * (size // 2) for size in kernel]
    expected = F.conv2d(x, weight, None, stride, padding, dilation, groups=4)
    found = depthwise(x, weight, stride, dilation)
    torch.testing.assert_close(found, expected, atol=OUTPUTS[dtype], rtol=OUTPUTS[dtype])
    against = torch.randn_like(expected)
    gradients = [torch.autograd.grad((y * against).sum(), [x, weight]) for y in (found, expected)]
    assert_gradients(*gradients, dtype)


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("columns", [7, 9, 11])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_depthwise_convolution_of_few_frames(stride, dilation, columns, frames):
    check_depthwise((2, 4, 6, frames), (3, columns), stride, dilation, torch.float64)


@pytest.mark.parametrize("stride", [1, 2])
def test_skip_dropout_is_that_of_the_plain_edges(stride, monkeypatch):
    torch.manual_seed(0)
    fast = cnn_edges(EVERY, 6, 3, stride).double()
    x, mask = inputs(6, 7, torch.float64)
    weights = torch.rand(3, len(EVERY), dtype=torch.float64)
    fast.skip_dropout = 0.4
    plain = plain_edges(fast)
    alone = torch.zeros_like(weights)
    alone[:, EVERY.index("skip_connect")] = 1
    skips = fast(x, mask, alone).chunk(3, 1)
    assert not torch.equal(skips[0] == 0, skips[1] == 0)  # each edge drops its own
    # The same values are dropped, at the same place, where chance is taken out.
    monkeypatch.setattr(
        F, "dropout", lambda y, p, training=True: torch.where(y > 0.2, y / (1 - p), 0) if training else y
    )
    torch.testing.assert_close(fast(x, mask, weights), plain(x, mask, weights), atol=1e-9, rtol=1e-9)
    fast.eval(), plain.eval()
    torch.testing.assert_close(fast(x, mask, weights), plain(x, mask, weights), atol=1e-9, rtol=1e-9)


def test_weights_start_as_those_of_the_plain_modules():
    torch.manual_seed(3)
    fast = cnn_edges(EVERY, 4, 3, 2)
    torch.manual_seed(3)
    drawn = [{name: CNN_OPERATIONS[name](4, 2, False, False) for name in EVERY} for _ in range(3)]
    state = torch.get_rng_state()
    for edge, operations in enumerate(drawn):
        for name, operation in operations.items():
            found = extract(fast, edge, name).state_dict()
            assert all(torch.equal(found[key], value) for key, value in operation.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)  # to look at an operation draws nothing


@pytest.mark.parametrize("stride", [1, 2])
def test_what_is_extracted_is_in_the_mode_of_the_edges(stride):
    edges = cnn_edges(EVERY, 4, 1, stride)
    for training in (False, True):
        edges.train(training)
        modules = [module for name in EVERY for module in extract(edges, 0, name).modules()]
        assert all(module.training == training for module in modules)


def problem(dtype, sequence=SMALL_SEQUENCE_OPERATIONS):
    """A supernet with normal and reduction cells, its plain twin, and losses of a network on two batches."""
    torch.manual_seed(0)
    shape = NetworkShape(3, 1, 12, 3, 2, 4, 1, 1, 8, 4, (1, 1))
    fast = Supernet(shape, EVERY, sequence).to(dtype)
    with torch.no_grad():
        for alpha in fast.architecture_parameters():
            alpha.normal_(0, 0.5)
    x = torch.randn(6, 1, 12, 20, dtype=dtype)
    lengths = torch.tensor([20, 13, 17, 20, 8, 15])
    for row, length in enumerate(lengths):
        x[row, ..., length:] = 0
    y = torch.tensor([0, 1, 2, 0, 1, 2])

    def loss(part):
        return lambda network: F.cross_entropy(network(x[part], lengths[part]), y[part])

    return fast, plain_twin(fast), loss(slice(0, 3)), loss(slice(3, 6))


@pytest.mark.slow
@pytest.mark.parametrize("over_time", [False, True])
def test_a_plain_supernet_is_drawn_and_converted_alike(over_time):
    shape = NetworkShape(3, 1, 12, 4, 2, 4, 2, 2, 8, 4, (1, 1), over_time=over_time)
    supernets, states = [], []
    for fused in (True, False):
        torch.manual_seed(5)
        supernets.append(Supernet(shape, EVERY, tuple(SEQUENCE_OPERATIONS), fused=fused))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    fast, plain = supernets
    assert not any(isinstance(m, FusedOperations | FusedCell) for m in plain.modules())
    fast.set_skip_dropout(0.2)
    twin = unfused_supernet(fast).state_dict()
    assert list(twin) == list(plain.state_dict())
    assert all(torch.equal(twin[name], value) for name, value in plain.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])  # to convert draws nothing
    mixed = [m for m in unfused_supernet(fast).modules() if isinstance(m, MixedOperation)]
    assert len(mixed) == (4 + 2) * 5
    assert {m.skip_dropout for m in mixed} == {0.2}
    x, lengths = torch.randn(2, 1, 12, 20), torch.tensor([20, 20])
    fast.set_skip_dropout(0.0)
    torch.testing.assert_close(fast(x, lengths), plain(x, lengths), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@DTYPES
def test_supernet_and_weight_step(dtype):
    fast, plain, weight_loss, _ = problem(dtype)
    losses = weight_loss(fast), weight_loss(plain)
    torch.testing.assert_close(*losses, atol=OUTPUTS[dtype], rtol=OUTPUTS[dtype])
    found = plain_gradients(fast, torch.autograd.grad(losses[0], list(fast.parameters())), plain_twin)
    assert_gradients(found.values(), torch.autograd.grad(losses[1], list(plain.parameters())), dtype)
    for f, p in zip(statistics(plain_twin(fast)), statistics(plain), strict=True):
        torch.testing.assert_close(f, p, atol=OUTPUTS[dtype], rtol=OUTPUTS[dtype])


@pytest.mark.slow
@DTYPES
def test_first_order_alpha_step(dtype):
    fast, plain, _, alpha_loss = problem(dtype)
    weights = fast.weight_parameters()
    found, loss = first_order_step(fast.architecture_parameters(), lambda: alpha_loss(fast), weights)
    assert all(w.requires_grad for w in weights)
    torch.testing.assert_close(loss, alpha_loss(plain).detach(), atol=OUTPUTS[dtype], rtol=OUTPUTS[dtype])
    assert_gradients(found, first_order(plain, alpha_loss), dtype)


@pytest.mark.slow
@DTYPES
def test_second_order_alpha_step(dtype, monkeypatch):
    xi, radius = 0.05, 0.01
    fast, plain, weight_loss, alpha_loss = problem(dtype)
    parts = []  # of each network: the gradients ahead for weights and alphas, and those for the alphas on both sides
    gradients_of = bilevel._gradients
    monkeypatch.setattr(bilevel, "_gradients", lambda *of: parts[-1].append(gradients_of(*of)) or parts[-1][-1])

    def step(net):
        parts.append([])
        weights, alphas = net.weight_parameters(), net.architecture_parameters()
        before = [w.detach().clone() for w in weights]
        with frozen_statistics(net):
            directions = torch.autograd.grad(weight_loss(net), weights)
            found, _ = second_order_step(
                weights, alphas, lambda: weight_loss(net), lambda: alpha_loss(net), directions, xi
            )
        assert all(torch.equal(b, w) for b, w in zip(before, weights, strict=True))
        return found

    found, by_parts, expected = step(fast), step(plain), second_order(plain, weight_loss, alpha_loss, xi)
    (ahead, *sides), (plain_ahead, *plain_sides) = parts
    kinds = len(expected)
    assert_gradients(ahead[-kinds:], plain_ahead[-kinds:], dtype)
    for side, plain_side in zip(sides, plain_sides, strict=True):
        assert_gradients(side, plain_side, dtype)
    # What the sides are off by counts 1 / eps times in their difference: in float32 few of its digits are left.
    eps = radius / float(torch.cat([v.flatten() for v in plain_ahead[:-kinds]]).norm())
    first = first_order(plain, alpha_loss)
    for n, e in enumerate(expected):
        direct, side = float(plain_ahead[n - kinds].norm()), float(plain_sides[0][n].norm())
        tolerance = GRADIENTS[dtype] * (direct + xi / eps * side)
        assert float((found[n] - e).norm()) <= tolerance
        assert float((by_parts[n] - e).norm()) <= tolerance
        assert float((e - first[n]).norm()) > 1e-3 * float(e.norm())  # the second order is there to be seen
        assert dtype == torch.float32 or tolerance < 1e-5 * float(e.norm())


@pytest.mark.slow
def test_at_most_half_is_kept_for_the_backward_pass():
    torch.manual_seed(0)
    shape = NetworkShape(3, 1, 32, 4, 4, 8, 0, 1, 8, 24, (1, 1))
    fast = Supernet(shape, SPACES["emodarts"].cnn_operations, ("none", "skip_connect"))
    x, lengths, y = torch.randn(4, 1, 32, 32), torch.tensor([32, 25, 20, 28]), torch.tensor([0, 1, 2, 0])
    kept = [saved_bytes(net, lambda net: F.cross_entropy(net(x, lengths), y)) for net in (fast, plain_twin(fast))]
    assert kept[0] < 0.5 * kept[1]


def test_what_has_no_joint_form_is_computed_edge_by_edge(monkeypatch):
    monkeypatch.setattr(stacked_convolutions, "STACKED_FORMS", {})
    torch.manual_seed(0)
    slow = cnn_edges(EVERY, 6, 3, 1).double()
    assert not slow.stacked
    plain = plain_edges(slow)
    x, mask = inputs(6, 7, torch.float64)
    weights = torch.rand(3, len(EVERY), dtype=torch.float64)
    torch.testing.assert_close(slow(x, mask, weights), plain(x, mask, weights), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("shape", "over_time"), [((1, 4, 1, 2), True), ((1, 4, 2, 2), False)])
def test_the_smallest_reduction_spoils_no_tensor_that_others_need(shape, over_time):
    """One edge, one utterance, two frames: every other frame of the state is a tensor without gaps."""
    edges = cnn_edges(tuple(CNN_OPERATIONS), 4, 1, 2, over_time=over_time)
    x = torch.randn(shape, requires_grad=True)
    term = edges(x, torch.ones(1, 1, 1, 2), torch.full((1, len(CNN_OPERATIONS)), 0.1))
    term.square().sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "operations", [("skip_connect", "max_pool_3x3", "avg_pool_3x3"), ("skip_connect", "dil_conv_3x3")], ids=len
)
def test_mixing_weights_are_not_rounded_under_autocast(operations, stride, training):
    torch.manual_seed(0)
    edges = cnn_edges(operations, 4, 2, stride).train(training)
    plain = plain_edges(edges)
    x, mask = inputs(4, 7, torch.float32)
    outputs = []
    for weight in (0.1250, 0.1252):  # the same number in bfloat16
        weights = torch.tensor([[weight, 0.2, 0.3][: len(operations)]] * 2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, expected = edges(x, mask, weights), plain(x, mask, weights)
        assert found.dtype == expected.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)  # convolutions are rounded to 8 bits
        outputs.append(found.chunk(2, 1)[0])
    assert not torch.equal(*outputs)
    if stride == 1:  # pools and identities have no convolution that would be rounded
        difference = (outputs[1] - outputs[0])[mask.expand_as(outputs[0]) > 0]
        torch.testing.assert_close(difference, 2e-4 * x[mask.expand_as(x) > 0], atol=1e-6, rtol=1e-2)


def test_figures_of_a_space_with_one_operation_each():
    supernet = Supernet(NetworkShape(2, 1, 8, 1, 1, 4, 1, 1, 4, 4, (1, 1)), ("sep_conv_3x3",), ("lstm_1",))
    assert supernet.alpha_statistics()["top2_margin"] == 0
