"""Which configuration is chosen by dev figures: for each fold by itself (nested), or once for all folds (shared).

With rotating folds every speaker is a dev speaker of some fold: the shared choice has seen all test speakers, the
nested one has not seen its own (Cawley & Talbot 2010). Both choices among the same trials show what that is worth: pool
the chosen trials' test predictions and take `optimism`. Trials that a sampler proposed from all folds' figures
(`study_per=sweep`, other samplers than random) have seen them too, which a nested choice among them does not undo.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emodarts.results.statistics.tallies import Floats
from emodarts.results.winners import rank_on_dev


def best(dev: Floats, parameters: Sequence[float]) -> int:
    """The configuration that `rank_on_dev` puts first, by its dev figure `(configurations,)`; NaN is never chosen.

    Raises ValueError where there is nothing else.
    """
    if np.isnan(np.asarray(dev, np.float64)).all():
        raise ValueError("no configuration has a dev figure")
    return int(rank_on_dev(dev, parameters)[0])


def nested_choice(dev: Floats, parameters: Sequence[float]) -> NDArray[np.int64]:
    """The best configuration of each fold by that fold's dev figure alone `(folds,)`; `dev (configurations, folds)`."""
    return np.array([best(column, parameters) for column in np.asarray(dev).T], np.int64)


def shared_choice(dev: Floats, parameters: Sequence[float]) -> int:
    """The configuration with the best mean dev figure over all folds; `dev (configurations, folds)`."""
    return best(np.asarray(dev).mean(1), parameters)
