"""The outer search space: bounds, conditions, and what is refused."""

import optuna
import pytest

from emodarts.errors import EmodartsError
from emodarts.search.settings import SearchSettings
from sweeps.settings import Settings, SweepSettings
from sweeps.study.search_space import SearchSpace

WHEN = {"low": 0.1, "high": 1.0, "log": True, "when": {"search.regulariser": "beta_decay"}}


def space_of(space, **search):
    return SearchSpace.of(
        Settings(system="emodarts", search=SearchSettings(**search), sweep=SweepSettings(space=space))
    )


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"search": {"nodes": {"low": 1}}}, "needs low and high"),
        ({"search": {"nodes": {"low": 3, "high": 1}}}, "sweep.space.search.nodes"),
        ({"search": {"seqnn": {"choices": ["lstm", "gru"]}}}, "search.seqnn=gru is out of range"),
        ({"search": {"method": {"choices": ["darts", "frozen"]}}}, "search.method: it names the system"),
        ({"search": {"scope": "cnn_only"}}, "search.scope: it names the system"),
        ({"search": {"warmup": 3}}, "there is no setting search.warmup"),
        (
            {"search": {"space": {"choices": ["emodarts", "modern"]}, "seqnn": {"choices": ["all", "rnn"]}}},
            "search.seqnn=rnn is out of range",
        ),
        ({"search": {"nodes": {"low": 1, "high": 2.5}}}, "whole number"),
        ({"search": {"learning_rate": {"low": 0.1, "high": 1, "log": "no"}}}, "log is true or false"),
        ({"search": {"nodes": {"low": 1, "high": 4, "step": 0}}}, "step is above 0"),
        ({"search": {"nodes": {"choices": [2, 2]}}}, "names a choice twice"),
        ({"search": {"beta_decay_weight": WHEN}}, "search.regulariser is never beta_decay"),
        (
            {"search": {"nodes": {"low": 1, "high": 2, "when": {"search.colour": 1}}}},
            "there is no setting search.colour",
        ),
        (
            {
                "search": {
                    "nodes": {"low": 1, "high": 2, "when": {"search.cells": 2}},
                    "cells": {"low": 2, "high": 3, "when": {"search.nodes": 1}},
                }
            },
            "conditions of each other",
        ),
        ({"corpus": {"name": "x"}}, "a dimension is a setting of search, training, batches"),
    ],
)
def test_a_wrong_space_is_refused(space, message):
    with pytest.raises(EmodartsError, match=message):
        SearchSpace.of(Settings(system="emodarts", sweep=SweepSettings(space=space)))


def test_the_default_is_brought_inside_the_bounds():
    space = SearchSpace.of(
        Settings(system="emodarts", sweep=SweepSettings(space={"search": {"nodes": {"low": 3, "high": 4}}}))
    )
    assert space.default_parameters() == {"search.nodes": 3}


def test_families_are_those_of_the_operations():
    dimension = {"search": {"seqnn": {"choices": "families"}}}

    def choices(**search):
        space = SearchSpace.of(
            Settings(system="emodarts", search=SearchSettings(**search), sweep=SweepSettings(space=dimension))
        )
        return space.free["search.seqnn"].choices

    assert choices() == ("all", "lstm", "rnn", "lstm_attention", "rnn_attention")
    assert choices(space="modern") == ("all", "lstm", "gru", "bilstm", "bigru", "self_attention")
    assert choices(sequence_operations=["none", "skip_connect", "rnn_2"]) == ("all", "rnn")


def test_a_dimension_under_a_condition_is_there_only_when_it_holds():
    regularisers = {"choices": ["none", "beta_decay"]}
    space = space_of({"search": {"beta_decay_weight": WHEN, "regulariser": regularisers}})
    assert list(space.free) == ["search.regulariser", "search.beta_decay_weight"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space.suggest(study.ask()) for _ in range(20)]
    assert {tuple(sorted(d)) for d in drawn} == {
        ("search.regulariser",),
        ("search.beta_decay_weight", "search.regulariser"),
    }
    assert all(("search.beta_decay_weight" in d) == (d["search.regulariser"] == "beta_decay") for d in drawn)
    for parameters in drawn:
        assert set(space.distributions_of(parameters)) == set(parameters)
        assert space.apply(parameters).search.regulariser == parameters["search.regulariser"]


def test_conditions_on_what_is_fixed_or_set():
    fixed = space_of({"search": {"beta_decay_weight": WHEN, "regulariser": "beta_decay"}})
    assert "search.beta_decay_weight" in fixed.default_parameters()
    there = space_of({"search": {"beta_decay_weight": WHEN}}, regulariser="beta_decay")
    assert "search.beta_decay_weight" in there.default_parameters()
    nested = {"search": {"beta_decay_weight": {**WHEN, "when": {"search": {"regulariser": ["beta_decay"]}}}}}
    assert space_of(nested, regulariser="beta_decay").conditions == there.conditions


def test_the_default_is_a_value_that_can_be_drawn():
    space = space_of({"search": {"nodes": {"low": 1, "high": 5, "step": 2}}})
    default = space.default_parameters()
    optuna.trial.create_trial(params=default, distributions=space.free, value=0.5)
    assert default["search.nodes"] in (1, 3)


def test_dimensions_are_free_by_name():
    dropout, depth, masks = {"low": 0.1, "high": 0.2}, {"low": 2, "high": 5}, {"low": 0, "high": 3}
    given = {
        "space": {"search": {"nodes": {"low": 1, "high": 2}, "cells": 3}, "training": {"dropout": dropout}},
        "bounds": {"training": {"depth": depth}, "batches": {"time_masks": masks}},
    }

    def space(**more):
        return SearchSpace.of(Settings(system="emodarts", sweep=SweepSettings(**given, **more)))

    assert set(space().free) == {"search.nodes", "training.dropout"}
    named = space(dimensions=["training.depth", "batches.time_masks", "search.nodes"])
    assert set(named.free) == {"training.depth", "batches.time_masks", "search.nodes"}
    assert named.fixed == {"search.cells": 3}
    assert named.default_parameters() == {"batches.time_masks": 0, "search.nodes": 2, "training.depth": 3}
    applied = named.apply({"training.depth": 5, "batches.time_masks": 2, "search.nodes": 1})
    assert (applied.training.depth, applied.batches.time_masks, applied.search.nodes) == (5, 2, 1)
    with pytest.raises(EmodartsError, match=r"training\.momentum has no bounds: name one of batches\.time_masks, "):
        space(dimensions=["training.momentum"])


def test_a_dimension_that_does_nothing_is_refused():
    momentum = {"training": {"momentum": {"low": 0.5, "high": 0.9}}}
    with pytest.raises(EmodartsError, match=r"momentum does nothing with training\.optimiser=adamw"):
        space_of(momentum)
    both = {"training": {**momentum["training"], "optimiser": {"choices": ["adamw", "sgd"]}}}
    assert "training.momentum" in space_of(both).free
