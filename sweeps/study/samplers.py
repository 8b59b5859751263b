"""Samplers: a new one of Optuna's for each proposal, seeded by names and numbers.

All that a sampler knows is the study, which is rebuilt from the result tables at each start.
"""

import math
import warnings
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from emodarts.errors import EmodartsError
from sweeps.settings import SweepSettings
from sweeps.study.search_space import SearchSpace

POPULATION_SIZE = 10  # of a generation of NSGA-II
_MAX_TRIALS_OF_GP = 500  # of a study: the cost of a Gaussian process grows with their cube
_MAX_TRIALS_OF_AUTO_GP = 250  # as OptunaHub's AutoSampler has it
_FEWEST_OF_AUTO_CMA = 6  # numeric dimensions: with fewer, CMA-ES was not shown to be ahead of chance
SIGMA0 = 1 / 6  # first step size of CMA-ES, in widths of a dimension


def choose_sampler(settings: SweepSettings, space: SearchSpace) -> str:
    """The sampler of a study: `sweep.sampler`, or what `auto` comes to.

    CMA-ES for one objective and many, mostly numeric dimensions, where complete trials tell all: none is pruned or
    raced, no constraints, no prior trials. Else by the rules of OptunaHub's AutoSampler: TPE for choices and
    conditions, a Gaussian process up to 250 trials, NSGA-II for several objectives. Pruned trials teach TPE alone.
    """
    if settings.sampler != "auto":
        return settings.sampler
    several, stopped = len(settings.objectives) > 1, settings.pruner != "none" or settings.inner > 0
    more = stopped or several or bool(settings.constraints or settings.warm_start)  # than CMA-ES can use
    numeric = len(numeric_dimensions(space))
    if not more and numeric >= max(_FEWEST_OF_AUTO_CMA, len(space.free) // 2 + 1):
        return "cmaes"
    if stopped or not 0 < numeric == len(space.free):
        return "tpe"
    if settings.trials <= _MAX_TRIALS_OF_AUTO_GP:
        return "gp"
    return "nsga2" if several else "tpe" if more else "cmaes"


def make_sampler(settings: SweepSettings, space: SearchSpace, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler of a study, for one proposal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # options that Optuna calls experimental
        match choose_sampler(settings, space):
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "cmaes":
                return ReplayedCma(seed, space)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=settings.startup)
            case "nsga2":
                return NSGAIIByTrialNumber(seed=seed, population_size=POPULATION_SIZE)
            case _:  # as Optuna has it; `auto` fits it to few trials as well
                fitted: dict[str, Any] = {"gamma": count_good} if settings.sampler == "auto" else {}
                fitted |= {"n_startup_trials": settings.startup, "constant_liar": True}
                return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, **fitted)


def count_good(trials: int) -> int:
    """How many of so many trials TPE takes for good ones: three tenths, at most 25.

    Of ten trials Optuna takes one, and on a dev part of some fifty utterances the best one is luck.
    """
    return min(math.ceil(0.3 * trials), 25)


def describe_proposals(settings: SweepSettings, space: SearchSpace, in_flight: int) -> str:
    """How many proposals of a study are made with a model and how many blindly, and what to change.

    With `in_flight` trials at once, what is proposed while the model waits for start-up trials to end is blind, too.
    """
    name, trials, dimensions = choose_sampler(settings, space), settings.trials, len(space.free)
    if not dimensions:
        return f"nothing is free, so all {trials} proposals of a study are one configuration"
    if settings.warm_start:
        return f"{dimensions} dimensions; prior trials count as start-up trials of the {trials} proposals a study"
    startup = {"cmaes": count_generation(space), "nsga2": POPULATION_SIZE}.get(name, settings.startup)
    blind = trials if name == "random" else min(trials, startup + in_flight - 1)
    by_model = f"{trials - blind} by {name} and " if name != "random" else ""
    text = f"{dimensions} dimensions; of {trials} proposals a study {by_model}{blind} blindly"
    if name == "random" or 2 * blind <= trials:
        return text
    fewer = trials // 2 - startup + 1  # at once, and half of the proposals are by the model
    advice = [f"sweep.trials={2 * (startup + in_flight - 1)} or more"]
    if 1 <= fewer < in_flight:
        advice.append(f"at most {fewer} of a study at once (resources.max_concurrent_trials)")
    if settings.startup_trials is not None and name not in ("cmaes", "nsga2"):
        advice.append("fewer sweep.startup_trials")
    return f"{text}; for more by {name}: {', or '.join(advice)}"


def check_sampler(settings: SweepSettings, space: SearchSpace) -> None:
    """Refuse, with the reason, a sampler that does not fit the objectives or the space. Raises EmodartsError."""
    several, name = len(settings.objectives) > 1, choose_sampler(settings, space)
    if settings.warm_start and several:
        raise EmodartsError("sweep.warm_start compares dev UARs alone: say sweep.objectives=[dev_uar]")
    if name == "cmaes" and several:
        raise EmodartsError("sweep.sampler=cmaes has one objective: take nsga2 or tpe, or sweep.objectives=[dev_uar]")
    if name == "cmaes" and not numeric_dimensions(space):
        raise EmodartsError("sweep.sampler=cmaes needs a numeric dimension that always is there and varies: take tpe")
    if name == "cmaes" and settings.pruner == "asha":
        raise EmodartsError("sweep.sampler=cmaes learns from complete trials alone, and asha leaves few: take tpe")
    if name == "gp" and settings.trials > _MAX_TRIALS_OF_GP:
        raise EmodartsError(f"sweep.sampler=gp is for up to {_MAX_TRIALS_OF_GP} trials a study: take tpe")
    if name == "cmaes" and settings.constraints:
        raise EmodartsError("sweep.sampler=cmaes knows no sweep.constraints: take tpe or gp")
    if name == "nsga2" and settings.trials <= POPULATION_SIZE:
        raise EmodartsError(
            f"sweep.sampler=nsga2 draws its first {POPULATION_SIZE} trials at random, and sweep.trials="
            f"{settings.trials}: take tpe, or more trials"
        )
    if name == "nsga2" and not several:
        raise EmodartsError("sweep.sampler=nsga2 is for several objectives: say sweep.objectives=[dev_uar,parameters]")


class ReplayedCma(optuna.samplers.BaseSampler):
    """CMA-ES (Hansen & Ostermeier 2001) over the numeric dimensions that every configuration has.

    It begins at the preset's own configuration. Its state is replayed from the study at each proposal: complete trials
    in the order of their numbers, a generation at a time. (Optuna's own sampler keeps a pickle in the trials'
    attributes.) TPE proposes the other dimensions, evenly until the first generation has ended.
    """

    def __init__(self, seed: int, space: SearchSpace):
        self._seed, self._space = seed, space
        self._independent_sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=count_generation(space), constant_liar=True
        )

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Numeric dimensions that are always there."""
        return numeric_dimensions(self._space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A draw from the distribution that the complete generations have led to."""
        if not search_space:
            return {}
        from cmaes import CMA  # brings scipy.stats: a quarter of the time that a worker takes to start

        strategy = CMA(
            to_unit_cube(self._space.default_parameters(), search_space),
            SIGMA0,
            bounds=np.tile((0.0, 1.0), (len(search_space), 1)),
            seed=self._seed,
            population_size=count_generation(self._space),
        )
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
        size = strategy.population_size
        for first in range(0, len(complete) - size + 1, size):
            if strategy.should_stop():
                break
            generation = complete[first : first + size]
            strategy.tell([(to_unit_cube(t.params, search_space), sign * float(t.value or 0)) for t in generation])
        return from_unit_cube(strategy.ask(), search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A dimension that is categorical or not always there: by TPE."""
        return self._independent_sampler.sample_independent(study, trial, param_name, param_distribution)


class NSGAIIByTrialNumber(optuna.samplers.NSGAIISampler):
    """NSGA-II (Deb et al. 2002) whose generations are `POPULATION_SIZE` trials each, by their numbers.

    Optuna's keeps the generation in attributes that the tables do not have; by the numbers, a rebuilt study has the
    same generations.
    """

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        """The generation of a trial: its number's, or an earlier one where too few of that have ended."""
        generation = trial.number // POPULATION_SIZE
        while generation > 0 and len(self.get_population(study, generation - 1)) < 2:
            generation -= 1
        return generation

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """The complete trials of a generation."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [t for t in complete if t.number // POPULATION_SIZE == generation]

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """The parents of a generation, selected anew each time: trials of the one before may still come in."""
        return [] if generation == 0 else self.select_parent(study, generation)


def numeric_dimensions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The free dimensions with an order, and more than one value, that every configuration has."""
    always = {path: d for path, d in space.free.items() if path not in space.conditions and not d.single()}
    return {path: d for path, d in always.items() if isinstance(d, IntDistribution | FloatDistribution)}


def count_generation(space: SearchSpace) -> int:
    """Trials of a generation of CMA-ES, before which it has learnt nothing: 4 + 3 ln n (Hansen 2016)."""
    return 4 + int(3 * math.log(max(1, len(numeric_dimensions(space)))))


def _bounds(d: Any) -> tuple[float, float]:
    """The interval of a dimension, of its logarithm under `log`; a whole number reaches half a step to either side."""
    margin = (d.step or 0) / 2 if not d.log else (0.5 if isinstance(d, IntDistribution) else 0.0)
    low, high = d.low - margin, d.high + margin
    return (math.log(low), math.log(high)) if d.log else (low, high)


def to_unit_cube(parameters: dict[str, Any], space: dict[str, Any]) -> np.ndarray:
    """Where a configuration lies within the bounds of numeric dimensions: 0 to 1 in each, on its scale."""
    point = []
    for name, d in space.items():
        low, high = _bounds(d)
        value = parameters[name]
        point.append(((math.log(value) if d.log else value) - low) / (high - low))
    return np.array(point)


def from_unit_cube(point: np.ndarray, space: dict[str, Any]) -> dict[str, Any]:
    """The numeric parameters of a point of the unit cube, at the steps of their dimensions."""
    parameters: dict[str, Any] = {}
    for x, (name, d) in zip(point, space.items(), strict=True):
        low, high = _bounds(d)
        value = low + float(x) * (high - low)
        value = math.exp(value) if d.log else value
        if d.step:
            value = d.low + round((value - d.low) / d.step) * d.step
        value = min(max(value, d.low), d.high)
        parameters[name] = int(value) if isinstance(d, IntDistribution) else value
    return parameters
