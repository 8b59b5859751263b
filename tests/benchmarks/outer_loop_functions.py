"""Functions of a configuration for simulated studies (`outer_loop.py`), measured as a dev part measures.

Each gives the UAR that a configuration's network has on speakers at large. What a study sees is its UAR on one dev
part: 8 utterances of each of 7 classes (a fold of EmoDB), some harder than others, the same for all configurations, and
the luck of each training. That is a standard error of about .05, for configurations that differ by about as much.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

CLASSES, UTTERANCES = 7, 8  # of a dev part: utterances of each class
_DIFFICULTY_SD = 1.2  # of the utterances' margins, in standard deviations of a training's luck
CHANCE = 1 / CLASSES

# Settings by their names; what the simulated network makes of them is in the functions alone.
SPACE: dict[str, dict[str, Any]] = {
    "training": {
        "learning_rate": {"low": 3e-4, "high": 3e-2, "log": True},
        "weight_decay": {"low": 1e-4, "high": 1e-1, "log": True},
        "batch_size": {"low": 8, "high": 64, "log": True},
        "dropout": {"low": 0.0, "high": 0.6},
        "drop_path": {"low": 0.0, "high": 0.3},
        "label_smoothing": {"low": 0.0, "high": 0.2},
    },
    "search": {
        "nodes": {"low": 1, "high": 4},
        "regulariser": {"choices": ["none", "beta_decay", "skip_dropout"]},
    },
}
Position = dict[str, float]  # by name without the group: 0 to 1 within the bounds


def positions(parameters: dict[str, Any]) -> Position:
    """Where a configuration lies within the bounds, 0 to 1 (on a logarithmic scale where the dimension has one)."""
    place = {}
    for path, value in parameters.items():
        group, name = path.split(".")
        dimension = SPACE[group][name]
        if "choices" in dimension:
            place[name] = dimension["choices"].index(value) / (len(dimension["choices"]) - 1)
            continue
        low, high, x = dimension["low"], dimension["high"], value
        low, high, x = (np.log(v) for v in (low, high, x)) if dimension.get("log") else (low, high, x)
        place[name] = float((x - low) / (high - low))
    return place


def few_matter(x: Position) -> float:
    """Two of the dimensions matter, each with its best inside."""
    return 0.76 - 0.35 * (x["learning_rate"] - 0.7) ** 2 - 0.25 * (x["dropout"] - 0.35) ** 2


def all_matter(x: Position) -> float:
    """Each dimension matters a little."""
    best = {"learning_rate": 0.6, "weight_decay": 0.3, "batch_size": 0.25, "dropout": 0.7, "drop_path": 0.5}
    best |= {"label_smoothing": 0.6, "nodes": 0.67, "regulariser": 0.5}
    return 0.76 - 0.12 * sum((x[name] - place) ** 2 for name, place in best.items())


def ridge(x: Position) -> float:
    """Learning rate and batch size go together; weight decay matters a little."""
    return 0.75 - 0.45 * (x["learning_rate"] - 0.8 * x["batch_size"] - 0.1) ** 2 - 0.1 * (x["weight_decay"] - 0.5) ** 2


def cliff(x: Position) -> float:
    """A high learning rate diverges; below, higher is better, and regularisation helps a little."""
    if x["learning_rate"] > 0.8 - 0.3 * x["batch_size"]:
        return CHANCE + 0.05
    return 0.62 + 0.14 * x["learning_rate"] + 0.04 * x["dropout"] * (1 - x["drop_path"])


def by_category(x: Position) -> float:
    """The best learning rate depends on the choice, and so does the level."""
    level, best = {0.0: (0.68, 0.3), 0.5: (0.71, 0.5), 1.0: (0.74, 0.8)}[x["regulariser"]]
    return level - 0.35 * (x["learning_rate"] - best) ** 2 - 0.04 * (x["nodes"] - 0.33) ** 2


def nothing_matters(x: Position) -> float:
    """All configurations are alike: whatever is chosen is luck."""
    return 0.7


FUNCTIONS: dict[str, Callable[[Position], float]] = {
    function.__name__: function for function in (few_matter, all_matter, ridge, cliff, by_category)
}
CONTROL = nothing_matters  # no part of the comparison


class DevPart:
    """One dev part: what a study sees of configurations. `seed` draws its utterances and the luck of each training."""

    def __init__(self, seed: int):
        self.difficulties: NDArray[np.float64] = np.random.default_rng([seed, 0]).normal(
            0.0, _DIFFICULTY_SD, (CLASSES, UTTERANCES)
        )
        self.seed = seed

    def measure(self, uar: float, trial: int) -> float:
        """The UAR of a network here whose UAR at large is `uar`; `trial` names the training."""
        ability = norm.ppf(min(max(uar, 0.01), 0.99)) * np.sqrt(1 + _DIFFICULTY_SD**2)
        luck = np.random.default_rng([self.seed, 1, trial]).normal(0.0, 1.0, self.difficulties.shape)
        return float((ability - self.difficulties + luck > 0).mean(1).mean())
