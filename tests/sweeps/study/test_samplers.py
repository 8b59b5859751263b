"""Who proposes configurations: seeded, inside the bounds, the same after a rebuild from plain rows."""

import warnings

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from emodarts.errors import EmodartsError
from sweeps.settings import Settings, SweepSettings
from sweeps.study import importances, samplers
from sweeps.study.search_space import SearchSpace
from tests.support.contracts import SamplerContract
from tests.support.optuna_studies import DIMENSIONS, make_study, run_trials


class TestTpe(SamplerContract):
    sampler = "tpe"


class TestTpeOfTwoObjectives(SamplerContract):
    sampler, objectives = "tpe", ("dev_uar", "parameters")


class TestRandom(SamplerContract):
    sampler = "random"


class TestCmaEs(SamplerContract):
    sampler = "cmaes"


@pytest.mark.slow
class TestGaussianProcess(SamplerContract):
    sampler = "gp"


class TestNsga2(SamplerContract):
    sampler, objectives = "nsga2", ("dev_uar", "parameters")


@pytest.mark.slow
def test_cma_es_comes_nearer_than_chance():
    numeric = {"search": {"learning_rate": DIMENSIONS["search"]["learning_rate"]}, "training": DIMENSIONS["training"]}

    def best(sampler, seed):
        return max(t.values[0] for t in run_trials(make_study(sampler, ["dev_uar"], numeric, seed=seed), 80)[40:])

    by_cma, by_chance = ([best(sampler, seed) for seed in range(5)] for sampler in ("cmaes", "random"))
    assert np.median(by_cma) > 0.5 * np.median(by_chance)  # both are negative: less than half the distance


def test_generations_of_nsga_are_told_by_the_number():
    proposals = make_study("nsga2", ["dev_uar", "parameters"])
    run_trials(proposals, 25)
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
    proposals = make_study("random", ["dev_uar"])
    assert importances.fanova_importances(proposals.study, proposals.space, 0) == {}
    run_trials(proposals, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error", optuna.exceptions.ExperimentalWarning)
        found = importances.fanova_importances(proposals.study, proposals.space, 0)
    assert max(found, key=found.get) == "search.learning_rate"
    assert "search.beta_decay_weight" not in found  # it is not in every configuration
    assert sum(found.values()) == pytest.approx(1)
