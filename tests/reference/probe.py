"""Which rounding this machine's kernels have: hashes of small fixed computations, of the kinds that units are made of.

Figures that are equal to the digit are promised on one family of CPU alone: kernels for other vector widths add in
another order.
"""

import hashlib
import importlib.metadata
from collections.abc import Callable

import numpy as np
import scipy.linalg
import soxr
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PACKAGES = ("torch", "torchaudio", "numpy", "scipy", "scikit-learn", "optuna", "cmaes", "soxr")
_FORWARD_BACKWARD: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "convolution": lambda: (nn.Conv2d(4, 8, 3, padding=1), torch.randn(16, 4, 8, 20)),
    "strided convolution": lambda: (nn.Conv2d(1, 4, 3, (8, 4), 1), torch.randn(16, 1, 32, 20)),
    "depthwise convolution": lambda: (nn.Conv2d(4, 4, 5, padding=4, dilation=2, groups=4), torch.randn(16, 4, 8, 20)),
    "pointwise convolution": lambda: (nn.Conv2d(4, 8, 1, bias=False), torch.randn(16, 4, 8, 20)),
    "batch norm": lambda: (nn.BatchNorm2d(4), torch.randn(16, 4, 8, 20)),
    "linear": lambda: (nn.Linear(32, 8), torch.randn(16, 10, 32)),
    "layer norm": lambda: (nn.LayerNorm(16), torch.randn(16, 10, 16)),
    "softmax and logarithm": lambda: (nn.LogSoftmax(1), torch.randn(16, 8)),
    "exponentials": lambda: (nn.Sequential(nn.Tanh(), nn.Sigmoid(), nn.GELU()), torch.randn(16, 32)),
    "attention": lambda: (_Attention(), torch.randn(16, 10, 8)),
    "lstm": lambda: (_First(nn.LSTM(8, 8, 2, batch_first=True, bidirectional=True)), torch.randn(16, 10, 8)),
    "rnn": lambda: (_First(nn.RNN(8, 8, 2, batch_first=True)), torch.randn(16, 10, 8)),
    "gru": lambda: (_First(nn.GRU(8, 8, 1, batch_first=True)), torch.randn(16, 10, 8)),
}


class _First(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


def rounding() -> dict[str, str]:
    """Hashes of the results, by what was computed; random numbers of the caller are left as they are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            hashes = {name: _hash(*_forward_backward(make)) for name, make in _FORWARD_BACKWARD.items()}
            hashes["pooling"] = _hash(*_pooled())
            hashes["bfloat16"] = _hash(*_bfloat16())
            hashes["matrix product"] = _hash(*_products())
            hashes["spectrum"] = _hash(*_spectrum())
            hashes["optimiser"] = _hash(*_optimised())
    finally:
        torch.set_num_threads(threads)
    hashes["numpy"] = _hash(*_by_numpy())
    return hashes


def differing(recorded: dict[str, str]) -> list[str]:
    """What this machine rounds otherwise than the one that made the record."""
    present = rounding()
    return [name for name in present if present[name] != recorded.get(name)]


def versions() -> dict[str, str]:
    """Versions of the packages that compute."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _forward_backward(make: Callable[[], tuple[nn.Module, Tensor]]) -> list[Tensor]:
    torch.manual_seed(0)
    module, x = make()
    x.requires_grad_()
    y = module(x)
    (y.square().mean() + y.mean()).backward()
    return [y, x.grad, *(p.grad for p in module.parameters())]


def _pooled() -> list[Tensor]:
    torch.manual_seed(0)
    x = torch.randn(16, 4, 8, 20, requires_grad=True)
    y = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) + F.max_pool2d(x, 3, 1, 1)
    y.std(unbiased=False).backward()
    return [y, x.grad]


def _bfloat16() -> list[Tensor]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 8 * 20, 4))
    x = torch.randn(16, 4, 8, 20)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x)
    y.float().square().mean().backward()
    return [y.float(), *(p.grad for p in module.parameters())]


def _products() -> list[Tensor]:
    torch.manual_seed(0)
    shapes = ((16, 4, 8), (48, 32, 20), (200, 129, 32), (1, 64, 4))
    pairs = [(torch.randn(rows, inner), torch.randn(inner, columns)) for rows, inner, columns in shapes]
    return [a @ b for a, b in pairs] + [(a.double() @ b.double()).sum() for a, b in pairs]


def _spectrum() -> list[Tensor]:
    torch.manual_seed(0)
    sound = torch.randn(1, 9600)
    power = torch.stft(sound, 512, 320, window=torch.hann_window(512), return_complex=True).abs().square()
    return [power, torch.log(torch.rand(32, 257) @ power + 1e-6)]


def _optimised() -> list[Tensor]:
    torch.manual_seed(0)
    weights = nn.Parameter(torch.randn(40, 7))
    optimiser = torch.optim.AdamW([weights], 3e-3, fused=True)
    for _ in range(3):
        weights.grad = torch.cos(weights.detach())
        torch.nn.utils.clip_grad_norm_([weights], 1.0)
        optimiser.step()
    return [weights]


def _by_numpy() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000)
    square = rng.normal(size=(12, 12))
    return [
        np.sin(x),
        np.exp(x),
        np.log(np.abs(x)),
        np.float64(x.mean()),
        np.float64(x.std()),
        square @ square,
        scipy.linalg.cholesky(square @ square.T + np.eye(12)),
        soxr.resample(x.astype(np.float32), 44100, 16000),
    ]


def _hash(*results: Tensor | np.ndarray) -> str:
    mark = hashlib.sha256()
    for result in results:
        mark.update((result.detach().numpy() if isinstance(result, Tensor) else np.asarray(result)).tobytes())
    return mark.hexdigest()[:16]
