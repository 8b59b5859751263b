"""docs/sweeps.md says what docs/first_step.json holds, and CMA-ES begins where the rule of its benchmark says."""

import json
from statistics import mean

import numpy as np
import pytest

from sweeps.study import samplers
from sweeps.study.search_space import SearchSpace
from tests.benchmarks import first_step
from tests.support.commands import settings as compose

CONDITIONS = json.loads(first_step.FIGURES.read_text())


@pytest.fixture(scope="module")
def space():
    return SearchSpace.of(compose(f"system={first_step.SYSTEM}"))


def test_the_page_says_what_was_measured():
    page = first_step.PAGE.read_text()
    assert page == first_step.with_tables(page, CONDITIONS)


def test_cma_es_begins_where_configurations_are_worth_more(space):
    """The mean over the conditions, each with equal weight; its first draws lie around that place."""
    worth = {place: mean(condition["means"][place] for condition in CONDITIONS) for place in first_step.PLACES}
    assert len(CONDITIONS) == 4
    assert max(worth, key=worth.get) == first_step.PRESET
    numeric = samplers.numeric_dimensions(space)
    preset, middle = samplers.to_unit_cube(space.default_parameters(), numeric), np.full(len(numeric), 0.5)
    settings = compose(f"system={first_step.SYSTEM}", "sweep.sampler=cmaes").sweep
    study = first_step.optuna.create_study()
    drawn = []
    for seed in range(100):
        study.sampler = samplers.make_sampler(settings, space, seed)
        drawn.append(samplers.to_unit_cube(space.suggest(study.ask()), numeric))
    assert np.linalg.norm(np.mean(drawn, axis=0) - preset) < np.linalg.norm(np.mean(drawn, axis=0) - middle)


@pytest.mark.parametrize("place", first_step.PLACES)
def test_configurations_are_drawn_where_they_are_said_to_be(space, place):
    numeric = samplers.numeric_dimensions(space)
    drawn = [first_step.configuration(space, place, number) for number in range(60)]
    assert all(space.accepts(parameters) for parameters in drawn)
    assert [p["training.sequence_rate"] for p in drawn] == [
        first_step.configuration(space, first_step.EVENLY, number)["training.sequence_rate"] for number in range(60)
    ]
    points = np.array([samplers.to_unit_cube(parameters, numeric) for parameters in drawn])
    preset = samplers.to_unit_cube(space.default_parameters(), numeric)
    to_preset, to_middle = (np.linalg.norm(points.mean(0) - centre) for centre in (preset, 0.5))
    assert (to_preset < to_middle / 2) if place == first_step.PRESET else (to_middle < to_preset / 4)
    spread = points[:, list(numeric).index("training.dropout")].std()
    assert spread == pytest.approx(12**-0.5 if place == first_step.EVENLY else samplers.SIGMA0, abs=0.04)


def test_the_best_by_dev_is_the_mean_over_all_sets_of_nine():
    """Of ten, the best by dev is in nine of ten sets; else it is the second, whom two share."""
    dev = np.array([1.0, 0.9, 0.9] + [0.1] * 7)
    judged = np.array([0.5, 0.8, 0.6] + [0.0] * 7)
    assert first_step.chosen_by_dev(dev, judged) == pytest.approx(0.9 * 0.5 + 0.1 * 0.7)
