"""docs/search.md says what docs/members.json holds; and what the figures of its benchmark are."""

import json

import pytest

from tests.benchmarks import members

CONDITIONS = json.loads(members.FIGURES.read_text())
RIGHT, WRONG = [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.1, 0.9]], [[0.3, 0.7], [0.7, 0.3], [0.3, 0.7], [0.7, 0.3]]


def test_the_page_says_what_was_measured():
    page = members.PAGE.read_text()
    assert page == members.with_tables(page, CONDITIONS)


@pytest.fixture
def folder(tmp_path):
    """One fold with three repetitions: drawn members are right, own seeds wrong, of ten hand-designed ones the best
    by dev are right.
    """
    about = {"corpus": "demo", "features": "log_mel", "space": "compact", "epochs": 2, "tiny": True, "commit": "abc"}
    judged = {"speakers": ["a", "a", "b", "b"], "labels": [0, 1, 0, 1], "classes": 2}
    write(tmp_path / "about.json", {**about, "folds": [0], "repetitions": 4})
    write(tmp_path / "judged" / "0.json", judged)
    for repetition in range(3):
        pieces = {"search": piece(WRONG, seconds=20), "drawn0": piece(RIGHT)}
        pieces |= {f"{what}{n}": piece(RIGHT) for what in ("drawn", "search", "searches") for n in range(5)}
        pieces |= {f"seeds{n}": piece(WRONG) for n in range(1, 5)}
        pieces |= {f"hand_designed{n}": piece(RIGHT if n % 2 else WRONG, dev=n % 2) for n in range(10)}
        for name, content in pieces.items():
            write(tmp_path / f"0.{repetition}" / f"{name}.json", content)
    return tmp_path


def piece(probabilities, seconds=4, dev=0.5):
    return {"seconds": seconds, "dev": [dev, -1.0], "probabilities": probabilities}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_each_ensemble_is_that_of_its_members(folder):
    rows = members.summarise(folder)["rows"]
    uars = {arm: row["uar"][0] for arm, row in rows.items()}
    assert uars == {"drawn": 1, "seeds": 0, "searches": 1, "hand_designed": 1, "one": 1, "supernet": 0}
    assert {arm: row["seconds"] for arm, row in rows.items()} == {
        **dict.fromkeys(("drawn", "seeds", "searches", "hand_designed"), 40.0),
        "one": 24.0,
        "supernet": 20.0,
    }
    assert rows["seeds"]["members"] == 0.2  # the first is right
    assert (rows["seeds"]["disagreement"], rows["drawn"]["disagreement"]) == (0.4, 0.0)
    assert rows["seeds"]["drawn_minus"][0] == 1
    assert rows["searches"]["drawn_minus"][0] == 0


def test_only_whole_repetitions_count(folder):
    assert members.summarise(folder)["repetitions"] == 3
    (folder / "0.1" / "searches3.json").unlink()
    assert members.summarise(folder)["repetitions"] == 2
    for repetition in (0, 2):
        (folder / f"0.{repetition}" / "hand_designed9.json").unlink()  # the budget pays for it
    assert members.summarise(folder) is None
    assert members.page_lines([]) == ["No figures yet."]


def test_a_table_has_a_row_for_each_ensemble_and_network(folder):
    lines = members.page_lines([members.summarise(folder)])
    assert lines[0].startswith(
        "**demo corpus, log-mel, space compact, tiny networks**: folds 0, 3 repetitions, 2 epochs"
    )
    rows = {cells[1].strip(): cells for cells in (line.split("|") for line in lines if line.startswith("| "))}
    assert [*rows][1:] == [*members.ARMS.values(), *members.SINGLES.values()]
    assert rows[members.ARMS["drawn"]][3].strip() == "reference"
