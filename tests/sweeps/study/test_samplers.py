"""Who proposes configurations: seeded, inside the bounds, the same after a rebuild from plain rows."""

import warnings

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from emodarts.errors import EmodartsError
from emodarts.records import TrialRecord
from sweeps.settings import Settings, SweepSettings
from sweeps.study import importances, samplers
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
SAMPLERS = [
    ("tpe", ["dev_uar"]),
    ("random", ["dev_uar"]),
    ("cmaes", ["dev_uar"]),
    ("gp", ["dev_uar"]),
    ("nsga2", ["dev_uar", "parameters"]),
    ("tpe", ["dev_uar", "parameters"]),
]


def made(sampler, objectives, space=DIMENSIONS, **more):
    settings = SweepSettings(sampler=sampler, objectives=objectives, space=space, trials=40, **more)
    found = SearchSpace.of(Settings(sweep=settings))
    return OptunaStudy("study", settings, found, {})


def worth(parameters, objectives):
    """Best in the middle of the dimensions; the second objective wants few nodes."""
    distance = (np.log10(parameters["search.learning_rate"]) + 2.5) ** 2 + 10 * (
        parameters["training.dropout"] - 0.2
    ) ** 2
    return (-float(distance), float(parameters.get("search.nodes", 1)))[: len(objectives)]


def record(number, parameters, objectives):
    return TrialRecord("x", "study", number, 0, parameters, "complete", values=worth(parameters, objectives))


def run(proposals, count):
    done = []
    for number in range(proposals.count, proposals.count + count):
        done.append(record(number, proposals.ask(), proposals.settings.objectives))
        proposals.tell(done[-1])
    return done


@pytest.mark.parametrize(("sampler", "objectives"), SAMPLERS)
def test_a_rebuilt_study_proposes_what_the_undisturbed_one_does(sampler, objectives):
    whole, rebuilt = made(sampler, objectives), made(sampler, objectives)
    done = run(whole, 24)
    for trial in done:
        rebuilt.add(trial, {})
    following = [(whole.ask(), rebuilt.ask()) for _ in range(2)]
    assert all(a == b for a, b in following)
    for parameters in [t.parameters for t in done] + [a for a, _ in following]:
        assert ("search.beta_decay_weight" in parameters) == (parameters["search.regulariser"] == "beta_decay")
        for name, distribution in whole.space.active(parameters).items():
            assert distribution._contains(distribution.to_internal_repr(parameters[name]))
    assert len({str(t.parameters) for t in done}) > 12


def test_cma_es_comes_nearer_than_chance():
    numeric = {"search": {"learning_rate": DIMENSIONS["search"]["learning_rate"]}, "training": DIMENSIONS["training"]}

    def best(sampler, seed):
        return max(t.values[0] for t in run(made(sampler, ["dev_uar"], numeric, seed=seed), 80)[40:])

    by_cma, by_chance = ([best(sampler, seed) for seed in range(5)] for sampler in ("cmaes", "random"))
    assert np.median(by_cma) > 0.5 * np.median(by_chance)  # both are negative: less than half the distance


def test_generations_of_nsga_are_told_by_the_number():
    proposals = made("nsga2", ["dev_uar", "parameters"])
    run(proposals, 25)
    study = proposals.study
    sampler = samplers.make_sampler(proposals.settings, 0)
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    assert [sampler.get_trial_generation(study, t) for t in trials] == [t.number // 10 for t in trials]
    assert {t.number for t in sampler.get_parent_population(study, 2)} <= set(range(20))


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"sampler": "cmaes", "objectives": ["dev_uar", "parameters"]}, "cmaes has one objective"),
        ({"sampler": "cmaes", "space": {"search": {"seqnn": {"choices": ["all", "lstm"]}}}}, "needs a numeric"),
        ({"sampler": "cmaes", "pruner": "asha"}, "asha leaves few"),
        ({"sampler": "nsga2", "trials": 30}, "is for several objectives"),
        ({"sampler": "nsga2", "objectives": ["dev_uar", "parameters"], "trials": 10}, "at random"),
        ({"sampler": "gp", "trials": 501}, "up to 500 trials"),
    ],
)
def test_a_sampler_that_does_not_fit_is_refused(sweep, message):
    settings = SweepSettings(**{"space": DIMENSIONS, **sweep})
    with pytest.raises(EmodartsError, match=message):
        samplers.check_sampler(settings, SearchSpace.of(Settings(sweep=settings)))


def test_importances_find_what_matters():
    proposals = made("random", ["dev_uar"])
    assert importances.fanova_importances(proposals.study, proposals.space, 0) == {}
    run(proposals, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error", optuna.exceptions.ExperimentalWarning)
        found = importances.fanova_importances(proposals.study, proposals.space, 0)
    assert max(found, key=found.get) == "search.learning_rate"
    assert "search.beta_decay_weight" not in found  # it is not in every configuration
    assert sum(found.values()) == pytest.approx(1)
