"""Optuna studies of a small space, whose best configuration lies in its middle."""

import numpy as np

from emodarts.records import TrialRecord
from sweeps.settings import Settings, SweepSettings
from sweeps.study.optuna_study import OptunaStudy
from sweeps.study.search_space import SearchSpace

DIMENSIONS = {
    "search": {
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "nodes": {"low": 1, "high": 4},
        "regulariser": {"choices": ["none", "beta_decay"]},
        "beta_decay_weight": {"low": 0.1, "high": 1.0, "when": {"search.regulariser": "beta_decay"}},
    },
    "training": {"dropout": {"low": 0.0, "high": 0.5}},
}


def make_study(sampler, objectives, space=DIMENSIONS, **more):
    settings = SweepSettings(sampler=sampler, objectives=list(objectives), space=space, trials=40, **more)
    return OptunaStudy("study", settings, SearchSpace.of(Settings(sweep=settings, system="emodarts")))


def objective_values(parameters, objectives):
    """Best in the middle of the dimensions; the second objective wants few nodes."""
    distance = (np.log10(parameters["search.learning_rate"]) + 2.5) ** 2 + 10 * (
        parameters["training.dropout"] - 0.2
    ) ** 2
    return (-float(distance), float(parameters.get("search.nodes", 1)))[: len(objectives)]


def complete_trial(number, parameters, objectives):
    values = objective_values(parameters, objectives)
    return TrialRecord("x", "study", number, 0, parameters, "complete", values=values)


def run_trials(study, count):
    """Ask for so many configurations, and tell the study their values; their records."""
    trials = []
    for number in range(study.trial_count, study.trial_count + count):
        trials.append(complete_trial(number, study.ask(), study.settings.objectives))
        study.tell(trials[-1])
    return trials
