"""When a search ends before its last epoch, and how many epochs it then goes back.

A rule looks at one figure an epoch, from the epoch on in which the alphas first move, and names the epoch whose
genotype is taken.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from emodarts.networks.genotype import Genotype
from emodarts.networks.supernet import Supernet
from emodarts.search.bilevel import Loss, first_order_step
from emodarts.search.settings import SearchSettings

LANCZOS_STEPS = 10


def epochs_back(settings: SearchSettings) -> int:
    """How many epochs before the one that ends the search the rule takes its genotype from."""
    return {"none": 0, "skips": 1, "eigenvalue": settings.stop_window}[settings.stop]


def should_stop(settings: SearchSettings, figures: Sequence[float]) -> bool:
    """Whether the rule of the settings ends the search, after these figures (one an epoch, the last one now)."""
    if settings.stop == "skips":
        return skips_rose(figures, settings.stop_skips)
    if settings.stop == "eigenvalue":
        return eigenvalue_rose(figures, settings.stop_window, settings.stop_ratio)
    return False


def skips_rose(figures: Sequence[float], limit: int) -> bool:
    """Whether a cell of the derived genotype now has `limit` skip connections, and none had the epoch before.

    DARTS+ (Liang et al. 2019) with its limit of two. Alphas near their start derive cells by chance, so a
    search that begins with so many skips goes on: there is no better genotype to go back to.
    """
    return len(figures) > 1 and figures[-1] >= limit > figures[-2]


def eigenvalue_rose(figures: Sequence[float], window: int, ratio: float) -> bool:
    """Whether the smoothed eigenvalue of `window` epochs ago is below `ratio` times the present one.

    R-DARTS (Zela et al. 2020) with a window of 5 and a ratio of 0.75; means over the last `window` epochs,
    or as many as there are.
    """
    if len(figures) <= window:
        return False
    sizes = np.abs(np.asarray(figures))
    earlier, present = (sizes[max(0, end - window) : end].mean() for end in (len(sizes) - window, len(sizes)))
    return bool(earlier < ratio * present)


def most_skip_connections(supernet: Supernet, genotype: Genotype) -> int:
    """The most skip connections in one cell of the kinds that are searched."""
    counts = supernet.count_skip_connections(genotype)
    return max((counts[kind] for kind in supernet.searched_kinds if kind in counts), default=0)


def dominant_eigenvalue(
    parameters: Sequence[Tensor], loss: Loss, steps: int = LANCZOS_STEPS, radius: float = 1e-2, seed: int = 0
) -> float:
    """The eigenvalue of largest size of the Hessian of `loss` with respect to `parameters`.

    By `steps` Lanczos iterations (Golub & Van Loan 2013, sec. 10.1; orthogonalised in full) on products of the Hessian
    with a vector, each a central difference of two gradients. The loss must be the same each time it is called.
    """
    size = sum(p.numel() for p in parameters)
    start = torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(parameters[0])
    basis = [start / start.norm()]
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    for step in range(min(steps, size)):
        product = hessian_vector_product(parameters, loss, basis[-1], radius)
        diagonal.append(float(product @ basis[-1]))
        if not np.isfinite(diagonal[-1]):
            raise FloatingPointError("the curvature of the alphas' loss is not finite: the search diverged")
        for _ in range(2):  # once leaves rounding errors that come back as false copies of eigenvalues
            for vector in basis:
                product = product - (product @ vector) * vector
        norm = float(product.norm())
        if norm <= 1e-6 * max(map(abs, diagonal)) or step + 1 == min(steps, size):
            break
        off_diagonal.append(norm)
        basis.append(product / norm)
    tridiagonal = np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)
    values = np.linalg.eigvalsh(tridiagonal)
    return float(values[np.abs(values).argmax()])


def hessian_vector_product(parameters: Sequence[Tensor], loss: Loss, vector: Tensor, radius: float) -> Tensor:
    """`H v` as `[grad(p + eps v) - grad(p - eps v)] / (2 eps)`, eps = radius / ||v||; flat. The parameters stay."""
    eps = radius / float(vector.norm())
    originals = [p.detach().clone() for p in parameters]
    shifts = _unflatten(vector, parameters)
    sides = []
    try:
        for sign in (1, -1):
            _set(parameters, [p + sign * eps * s for p, s in zip(originals, shifts, strict=True)])
            gradients, _ = first_order_step(parameters, loss)
            sides.append(torch.cat([g.flatten() for g in gradients]))
    finally:
        _set(parameters, originals)
    return (sides[0] - sides[1]) / (2 * eps)


def _unflatten(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    pieces = vector.split([p.numel() for p in like])
    return [piece.view_as(p) for piece, p in zip(pieces, like, strict=True)]


@torch.no_grad()
def _set(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
