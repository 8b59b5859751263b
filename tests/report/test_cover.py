"""The cover: three sentences that hold no more than the tables do."""

from dataclasses import replace

import pytest

from emodarts.report.page import build_page
from emodarts.results import reader
from tests.support.made_results import Made, write

MADE = Made("c-1", "c", {"emodarts": 0.8, "svm": 0.4}, folds=4, speakers=3, takes=5, trials=3, seeds=3)


def cover(root, made):
    write(root, made)
    return build_page(reader.open(root))


@pytest.mark.slow
def test_what_was_searched_what_it_reached_and_whether_to_believe_it(tmp_path):
    page = cover(tmp_path, MADE)
    searched, reached, believed = page.cover
    assert searched == (
        "A network was searched for 4 classes (angry, happy, neutral, sad) of c, from log-mel features; of 3 "
        "configurations a fold the best on dev was taken."
    )
    table = next(t for t in page.tables_and_figures() if t.name.startswith("systems-"))
    uar, rival = table.rows[0][1], next(row for row in table.rows if row[0] == "svm")
    assert reached.startswith(
        f"On 12 speakers that it never heard emodarts reached a UAR of {uar.value:.3f}".replace("0.", ".")
    )
    assert f"of svm ({rival[9]}); guessing reaches .250." in reached
    assert believed.startswith("It can be believed as far as the interval says: nothing of these speakers chose")


def test_doubts_are_said(tmp_path):
    few = replace(MADE, name="d-1", speakers=1, seeds=1, trials=1, skills={"svm": 0.5}, protocol_caveat="dev is shared")
    searched, reached, believed = cover(tmp_path, few).cover
    assert searched.startswith("svm was trained for 4 classes")
    assert searched.endswith("one configuration a fold.")
    assert "beside" not in reached, reached
    assert believed == (
        "Believe the interval, and not more: the protocol is weak (dev is shared); 4 speakers are few; 1 seed of 3 "
        "that a claim about the method takes."
    )


def test_a_shared_choice_heads_nothing(tmp_path):
    assert cover(tmp_path, replace(MADE, shared=True, seeds=1)).cover == ()
