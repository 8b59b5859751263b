"""Terms that are added to the alphas' loss, and dropout on skip connections: against collapse, and for lower costs.

All terms depend on the alphas alone, so their gradients are the same for first and second order.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from emodarts.networks.costs import CostTable
from emodarts.networks.supernet import Supernet
from emodarts.search.settings import SearchSettings


def beta_decay(alphas: Sequence[Tensor], relaxation: str = "softmax") -> Tensor:
    """`mean over edges of log sum_o exp(alpha_o)`, whose gradient is the mixing weights (Ye et al. 2022).

    It pulls an operation's alpha back in proportion to its weight. Under the sigmoid relaxation the term with that
    gradient is `sum_o log(1 + exp(alpha_o))`.
    """
    if relaxation == "sigmoid":
        return torch.cat([torch.nn.functional.softplus(alpha).sum(1) for alpha in alphas]).mean()
    return torch.cat([alpha.logsumexp(1) for alpha in alphas]).mean()


def beta_decay_weight(settings: SearchSettings, epoch: int) -> float:
    """The weight of beta decay in an epoch (from 0): linearly from 0 to its full size at the last (Ye et al. 2022)."""
    return settings.beta_decay_weight * epoch / max(1, settings.epochs - 1)


def zero_one_loss(weights: Sequence[Tensor]) -> Tensor:
    """`- mean of (weight - 1/2)^2`: least where all weights are 0 or 1 (FairDARTS, Chu et al. 2020)."""
    return -torch.cat([(w - 0.5).square().flatten() for w in weights]).mean()


def skip_dropout(settings: SearchSettings, epoch: int) -> float:
    """The dropout on skip connections in an epoch (from 0): whole in the warm-up, then linearly to 0 behind the last.

    P-DARTS (Chen et al. 2019), which lets it decay from the epoch on in which the alphas first move.
    """
    if settings.regulariser != "skip_dropout":
        return 0.0
    moving = settings.epochs - settings.warmup
    fraction = (settings.epochs - epoch) / moving if moving > 0 else 1.0
    return settings.skip_dropout * min(1.0, fraction)


def penalty(supernet: Supernet, settings: SearchSettings, epoch: int, costs: CostTable | None) -> Tensor | None:
    """The sum of the terms that the settings add to the alphas' loss in an epoch (from 0); None: there are none."""
    all_weights = supernet.mixing_weights()
    weights = {kind: all_weights[kind] for kind in supernet.searched_kinds}
    terms = []
    if settings.regulariser == "beta_decay":
        term = beta_decay(supernet.architecture_parameters(), settings.relaxation)
        terms.append(beta_decay_weight(settings, epoch) * term)
    if settings.relaxation == "sigmoid":
        terms.append(settings.zero_one_weight * zero_one_loss(list(weights.values())))
    if costs is not None:
        terms.append(settings.cost_weight * costs.expected(weights))
    return torch.stack(terms).sum() if terms else None


def cost_table(supernet: Supernet, settings: SearchSettings, frames: int, device: str) -> CostTable | None:
    """The cost of each operation for the cost term; None where that has no weight."""
    if settings.cost_weight == 0:
        return None
    operations = (supernet.cnn_operations, supernet.sequence_operations)
    return CostTable.of(supernet.shape, *operations, frames, settings.cost, device)
