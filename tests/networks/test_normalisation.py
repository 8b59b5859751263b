"""The masked batch norm by itself: gradients of first and second order, and precision."""

import pytest
import torch

from emodarts.networks.masking import image_mask
from emodarts.networks.normalisation import normalise
from emodarts.networks.operations import MaskedBatchNorm
from tests.support.plain import PlainBatchNorm

LENGTHS = torch.tensor([5, 3, 1])


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 2, 5, generator=generator, dtype=torch.float64)
    weight, bias = (torch.randn(2, generator=generator, dtype=torch.float64) for _ in range(2))
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_gradients_of_first_and_second_order(problem, relu, affine, layout):
    x, weight, bias = problem
    mask = image_mask(LENGTHS, 5, x.dtype)

    def output(x, *parameters):
        weight, bias = parameters or (None, None)
        return normalise(x.contiguous(memory_format=layout), mask, weight, bias, 1e-5, relu)[0]

    plain = PlainBatchNorm(2, affine).double()

    def plain_output(x, *parameters):
        return torch.func.functional_call(
            plain, dict(zip(("weight", "bias"), parameters, strict=False)), (x, mask, relu)
        )

    given = (x, weight, bias) if affine else (x,)
    assert torch.autograd.gradcheck(output, given)
    torch.testing.assert_close(output(*given), plain_output(*given), atol=1e-9, rtol=1e-9)
    assert torch.autograd.gradgradcheck(plain_output, given)  # the plain form's: the other has gradients of first order
    with pytest.raises(RuntimeError, match="create_graph=True cannot be used"):
        torch.autograd.grad(output(*given).pow(3).sum(), x, create_graph=True)


def test_running_statistics_are_the_same_by_pythons_numbers(monkeypatch):
    norms = [MaskedBatchNorm(3), MaskedBatchNorm(3)]
    generator = torch.Generator().manual_seed(0)
    for step in range(15):  # a plain mean at first, then one that forgets
        frames = torch.tensor([4, 1 + step % 4])
        mask = image_mask(frames, 4, torch.float32)
        x = torch.randn(2, 3, 1 + step, 4, generator=generator) * mask
        for norm, compiling in zip(norms, (False, True), strict=True):
            monkeypatch.setattr(torch.compiler, "is_compiling", lambda compiling=compiling: compiling)
            norm(x, mask)
    for name, by_numbers in norms[0].named_buffers():
        assert torch.equal(by_numbers, norms[1].get_buffer(name))


@pytest.mark.parametrize("distance", [3, 30, 300])
def test_a_mean_far_from_zero_costs_no_digits(distance):
    """Means of so many standard deviations, as in the stem of near-constant features; against float64."""
    x = distance + torch.randn(8, 4, 8, 50, generator=torch.Generator().manual_seed(0))
    mask, direction = torch.ones(8, 1, 1, 50), torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    results = []
    for dtype in (torch.float32, torch.float64):
        given = x.to(dtype).requires_grad_()
        y, _, variance, _ = normalise(given, mask.to(dtype), None, None, 1e-5)
        results.append((y, variance, torch.autograd.grad(y, given, direction.to(dtype))[0]))
    for found, expected in zip(*results, strict=True):
        error = (found.double() - expected).norm() / expected.norm()
        assert error < 3e-6 * distance  # the mean itself is that well known


def test_what_stands_at_padding_does_not_matter(problem):
    x = problem[0].detach()
    mask = image_mask(LENGTHS, 5, x.dtype)
    y, mean, variance, count = normalise(x, mask, None, None, 1e-5)
    other = normalise(x + 100 * (1 - mask), mask, None, None, 1e-5)
    for found, expected in zip(other, (y, mean, variance, count), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    assert count == LENGTHS.sum() * 2
    assert (y * (1 - mask)).abs().sum() == 0


def test_statistics_stay_in_full_precision_under_autocast():
    x = 30 + torch.randn(8, 4, 4, 20, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(8, 1, 1, 20)
    exact = normalise(x.bfloat16().float(), mask, None, None, 1e-5)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = normalise(x.bfloat16(), mask, None, None, 1e-5)[0]
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)
