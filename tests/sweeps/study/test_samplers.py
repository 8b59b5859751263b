"""Who proposes configurations: seeded, inside the bounds, the same after a rebuild from plain rows."""

import warnings
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from emodarts.errors import EmodartsError
from emodarts.records import TrialRecord
from sweeps.settings import Settings, SweepSettings
from sweeps.study import importances, samplers
from sweeps.study.search_space import SearchSpace
from tests.support.contracts import SamplerContract
from tests.support.optuna_studies import DIMENSIONS, complete_trial, make_study, run_trials


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
    sampler = samplers.make_sampler(proposals.settings, proposals.space, 0)
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
        samplers.check_sampler(settings, SearchSpace.of(Settings(sweep=settings, system="emodarts")))


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


NUMERIC = {"training": {"dropout": {"low": 0.0, "high": 0.5}, "batch_size": {"low": 8, "high": 64}}}
SIX = {
    "training": {
        name: {"low": 0.2, "high": 0.5} for name in ("dropout", "mixup", "weight_decay", "label_smoothing", "width")
    }
    | {"batch_size": {"low": 8, "high": 64}},
}
ONE_VALUE = {**SIX["training"], "batch_size": {"low": 8, "high": 8}}
WITH_CHOICE = {**SIX, "search": {"seqnn": {"choices": ["all", "lstm"]}}}
CONDITIONAL = {
    "training": {"dropout": {"low": 0.1, "high": 0.5, "when": {"search.nodes": [2, 3]}}},
    "search": {"nodes": {"low": 1, "high": 3}},
}


@pytest.mark.parametrize(
    ("sweep", "sampler"),
    [
        ({"space": SIX}, "cmaes"),
        ({"space": WITH_CHOICE}, "cmaes"),
        ({"space": SIX, "constraints": ["parameters<=1000"]}, "gp"),
        ({"space": WITH_CHOICE, "warm_start": ["results/x"]}, "tpe"),
        ({"space": SIX, "objectives": ["dev_uar", "parameters"]}, "gp"),
        ({"space": SIX, "pruner": "asha"}, "tpe"),
        ({"space": SIX, "inner": 3}, "tpe"),
        ({"space": {"training": ONE_VALUE}}, "tpe"),  # five vary
        ({"space": DIMENSIONS}, "tpe"),  # three of five are numeric and always there
        ({"space": CONDITIONAL}, "tpe"),
        ({"space": NUMERIC}, "gp"),
        ({"space": NUMERIC, "trials": 251}, "cmaes"),
        ({"space": NUMERIC, "trials": 251, "constraints": ["parameters<=1000"]}, "tpe"),
        ({"space": NUMERIC, "trials": 251, "objectives": ["dev_uar", "parameters"]}, "nsga2"),
        ({"space": NUMERIC, "sampler": "random"}, "random"),
        ({"space": {}}, "tpe"),
    ],
)
def test_auto_goes_by_the_space_and_the_trials(sweep, sampler):
    settings = SweepSettings(**sweep)
    assert samplers.choose_sampler(settings, SearchSpace.of(Settings(sweep=settings, system="emodarts"))) == sampler


@pytest.mark.parametrize(("trials", "startup"), [(1, 4), (16, 4), (24, 6), (40, 10), (1000, 10)])
def test_start_up_is_a_quarter_of_the_trials(trials, startup):
    assert SweepSettings(trials=trials).startup == startup
    assert SweepSettings(trials=trials, startup_trials=7).startup == 7


def test_a_model_proposes_after_the_start_up_trials():
    """The first four proposals are those of chance, the fifth is not."""
    by_tpe, by_chance = (run_trials(make_study(name, ["dev_uar"], startup_trials=4), 5) for name in ("tpe", "random"))
    assert [t.parameters for t in by_tpe[:4]] == [t.parameters for t in by_chance[:4]]
    assert by_tpe[4].parameters != by_chance[4].parameters


def test_proposals_keep_away_from_what_runs():
    """Constant liar: a configuration that runs counts as a bad one, so that none is proposed twice."""
    study = make_study("tpe", ["dev_uar"], startup_trials=4)
    run_trials(study, 6)
    running = [study.ask() for _ in range(6)]
    assert len({str(parameters) for parameters in running}) == 6


TPE, CMA = {"sampler": "tpe"}, {"sampler": "cmaes"}


@pytest.mark.parametrize(
    ("sweep", "in_flight", "words"),
    [
        (TPE | {"trials": 10}, 1, "5 dimensions; of 10 proposals a study 6 by tpe and 4 blindly"),
        (TPE | {"trials": 10}, 32, "0 by tpe and 10 blindly; for more by tpe: sweep.trials=70 or more, or at most 2"),
        (TPE | {"trials": 40}, 32, "0 by tpe and 40 blindly; for more by tpe: sweep.trials=82 or more, or at most 11 "),
        (TPE | {"trials": 20, "startup_trials": 15}, 1, "5 by tpe and 15 blindly; for more by tpe: sweep.trials=30 or "
         "more, or fewer sweep.startup_trials"),
        ({"trials": 10, "sampler": "random"}, 1, "of 10 proposals a study 10 blindly"),
        ({"trials": 10, "space": {}}, 1, "nothing is free"),
        (CMA | {"trials": 40}, 1, "of 40 proposals a study 33 by cmaes and 7 blindly"),
        (CMA | {"trials": 10, "startup_trials": 9}, 1, "3 by cmaes and 7 blindly; for more by cmaes: sweep.trials=14"),
        ({"trials": 10, "warm_start": ["results/x"]}, 32, "prior trials count as start-up trials of the 10 proposals"),
    ],
)  # fmt: skip
def test_the_start_says_what_is_proposed_blindly(sweep, in_flight, words):
    settings = SweepSettings(**{"space": DIMENSIONS, **sweep})
    space = SearchSpace.of(Settings(sweep=settings, system="emodarts"))
    assert words in samplers.describe_proposals(settings, space, in_flight)


@pytest.mark.parametrize(("trials", "in_flight"), [(10, 1), (12, 4), (30, 8)])
def test_as_many_are_proposed_blindly_as_is_said(trials, in_flight):
    """Blind proposals of TPE are those of random search with the same seed: counted with so many running."""
    proposals = {}
    for sampler in ("tpe", "random"):
        study, running, proposals[sampler] = make_study(sampler, ["dev_uar"]), [], []
        settings = SweepSettings(sampler=sampler, trials=trials, space=DIMENSIONS)
        study.settings = settings
        for number in range(trials):
            if len(running) == in_flight:
                study.tell(running.pop(0))
            proposals[sampler].append(study.ask())
            running.append(complete_trial(number, proposals[sampler][-1], ["dev_uar"]))
    blind = sum(a == b for a, b in zip(*proposals.values(), strict=True))
    told = samplers.describe_proposals(SweepSettings(trials=trials, space=DIMENSIONS, **TPE), study.space, in_flight)
    assert f"and {blind} blindly" in told


ONE = {"training": {"dropout": {"low": 0.0, "high": 0.5}}}
THREE_OF_FOUR = {
    "training": {**NUMERIC["training"], "mixup": {"low": 0.2, "high": 0.2}},
    "search": CONDITIONAL["search"],
}


@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("space", [DIMENSIONS, ONE, THREE_OF_FOUR, WITH_CHOICE])
def test_cma_es_learns_from_complete_generations_as_is_said(space, in_flight):
    """What is proposed while values make no difference, choices too: as many as are said to be blind."""

    def proposals(sign):
        study, running, asked = make_study("cmaes", ["dev_uar"], space=space), [], []
        for number in range(20):
            if len(running) == in_flight:
                study.tell(running.pop(0))
            asked.append(study.ask())
            value = sign * np.sin(number)
            running.append(TrialRecord("x", "study", number, 0, asked[-1], "complete", values=(value,)))
        return study, asked

    (study, by_value), (_, by_its_opposite) = proposals(1), proposals(-1)
    blind = [a == b for a, b in zip(by_value, by_its_opposite, strict=True)].index(False)
    assert f"and {blind} blindly" in samplers.describe_proposals(study.settings, study.space, in_flight)


def test_what_breaks_a_constraint_teaches_the_sampler_to_keep_away():
    """Networks of more than 2 nodes are too large: chance proposes half of them, TPE hardly any after its start."""

    def excess(constraints):
        study = make_study("tpe", ["dev_uar"], startup_trials=10, constraints=constraints)
        proposals = []
        for number in range(40):
            proposals.append(study.ask())
            trial = complete_trial(number, proposals[-1], ["dev_uar"])
            costs = {"parameters": 1000 * proposals[-1]["search.nodes"], "macs": 1}
            study.tell(replace(trial, values=(trial.values[0] + proposals[-1]["search.nodes"],)), costs)
        return sum(p["search.nodes"] > 2 for p in proposals[20:])

    assert excess(["parameters<=2000"]) < 5 < excess([])


@pytest.mark.parametrize("text", ["parameters<100", "parameters", "uar<=1", "parameters<=0", "__import__('os')<=1", ""])
def test_a_constraint_that_cannot_be_read_is_refused(text):
    with pytest.raises(EmodartsError, match=r"sweep\.constraints"):
        SweepSettings(constraints=[text])
