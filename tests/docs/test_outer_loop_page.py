"""docs/sweeps.md says what docs/outer_loop.json holds, and what is simulated is what the page says."""

import json

from sweeps.settings import SweepSettings
from sweeps.study.samplers import choose_sampler, numeric_dimensions
from tests.benchmarks import outer_loop

RESULT = json.loads(outer_loop.FIGURES.read_text())


def test_the_page_says_what_was_simulated():
    page = outer_loop.PAGE.read_text()
    assert page == outer_loop.with_table(page, RESULT)


def test_all_conditions_are_there_with_their_studies():
    places = {(c["slots"], c["trials"]) for c in RESULT["conditions"]}
    assert places == {(slots, trials) for slots in (1, 8) for trials in (10, 40, 100)}
    assert {c["studies"] for c in RESULT["conditions"]} == {1000}


def test_no_two_studies_of_a_condition_share_a_seed():
    seeds = [seed for index in range(len(outer_loop.FUNCTIONS)) for seed in outer_loop.seeds_of(index, 1000, 4000)]
    assert len(seeds) == len(set(seeds)) == 1000


def test_what_is_said_to_be_shown_is_shown():
    """The default is ahead of chance wherever it has four trials a slot, by Holm's correction over these five."""
    p = {(c["slots"], c["trials"]): r["p"] for c in RESULT["conditions"] for r in c["rows"] if is_default(r)}
    judged = sorted(p[place] for place in p if place[1] >= 4 * place[0])
    assert len(judged) == 5
    assert all(value * (5 - rank) < 0.05 for rank, value in enumerate(judged))


def is_default(row):
    return (row["sampler"], row["against"]) == (outer_loop.AUTO, outer_loop.RANDOM)


def test_a_study_has_eight_dimensions_of_which_seven_are_numeric_so_that_auto_is_cma_es():
    space = outer_loop.space_of(SweepSettings(space=outer_loop.SPACE))
    assert (len(space.free), len(numeric_dimensions(space))) == (8, 7)
    assert choose_sampler(SweepSettings(space=outer_loop.SPACE), space) == "cmaes"


FUNCTION = next(iter(outer_loop.FUNCTIONS.values()))


def test_a_study_is_the_same_every_time_and_blind_while_nothing_has_ended():
    """Ten proposals, eight at once: all of TPE's are those of chance, and so is what is chosen."""
    by_model, again, by_chance = (
        outer_loop.run_study(sampler, FUNCTION, 1, 8, 10, False) for sampler in ("tpe", "tpe", outer_loop.RANDOM)
    )
    assert by_model == again == by_chance


def test_what_is_told_nothing_learns_nothing():
    """CMA-ES has heard of a whole generation in thirty trials, not in nine."""
    nine, thirty = (
        [outer_loop.run_study(sampler, FUNCTION, 4, 1, trials, False) for sampler in ("auto", outer_loop.UNTOLD)]
        for trials in (9, 30)
    )
    assert nine[0] == nine[1]
    assert thirty[0] != thirty[1]
