"""docs/sweeps.md says what docs/outer_loop.json holds, and what is simulated is what the page says."""

import json

from sweeps.settings import SweepSettings
from sweeps.study.samplers import choose_sampler
from tests.benchmarks import outer_loop

RESULT = json.loads(outer_loop.FIGURES.read_text())


def test_the_page_says_what_was_simulated():
    page = outer_loop.PAGE.read_text()
    assert page == outer_loop.with_table(page, RESULT)


def test_all_conditions_are_there_with_their_studies():
    places = {(c["slots"], c["trials"]) for c in RESULT["conditions"]}
    assert places == {(slots, trials) for slots in (1, 8) for trials in (10, 40, 100)}
    assert {c["studies"] for c in RESULT["conditions"]} == {200}


def test_a_study_has_eight_dimensions_and_a_choice_so_that_auto_is_tpe():
    space = outer_loop.space_of(SweepSettings(space=outer_loop.SPACE))
    assert len(space.free) == 8
    assert choose_sampler(SweepSettings(space=outer_loop.SPACE), space) == "tpe"


def test_a_study_is_the_same_every_time_and_blind_while_nothing_has_ended():
    """Ten proposals, eight at once: all are those of chance, and so is what is chosen."""
    function = next(iter(outer_loop.FUNCTIONS.values()))
    by_model, again, by_chance = (
        outer_loop.run_study(sampler, function, 1, 8, 10, False) for sampler in ("auto", "auto", outer_loop.RANDOM)
    )
    assert by_model == again == by_chance
