"""Spoilt label files give the right row, an error with its place, or a drop with its place; never a wrong row."""

import json
import random

import pytest

from emodarts.corpora.readers import describe
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Dropped
from emodarts.errors import EmodartsError
from tests.support.layouts import msp_podcast
from tests.support.layouts.audio import write_empty
from tests.support.layouts.label_forms import FORMS, PODCAST, Row
from tests.support.layouts.spoilt import ATTRIBUTES, MUTATIONS, Expected, cases, spoil

JSON = "Labels/labels_consensus.json"
RECORDS = {turn.cells[0]: dict(zip(msp_podcast.COLUMNS[1:], turn.cells[1:], strict=True)) for turn in PODCAST}
FIELDS = dict(zip(msp_podcast.COLUMNS[2:5], ATTRIBUTES, strict=True))
TRUTH = FORMS["msp_podcast csv"].truth


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """For each form a corpus whose audio is there; the rows of a reader do not ask what is in the files."""
    roots = {}
    for name, form in FORMS.items():
        roots[name] = tmp_path_factory.mktemp(name.replace(" ", "-"))
        for turn in form.truth:
            write_empty(roots[name] / "audio" / f"{turn}.wav")
        (roots[name] / form.path).parent.mkdir(parents=True, exist_ok=True)
        for path, text in form.neighbours.items():
            (roots[name] / path).write_text(text)
    return roots


@pytest.fixture
def release(tmp_path):
    """An MSP-Podcast release with audio and no labels."""
    for turn in TRUTH:
        write_empty(tmp_path / "Audios" / f"{turn}.wav")
    (tmp_path / "Labels").mkdir()
    return tmp_path


def read(corpus, root):
    """Rows by turn and dropped paths."""
    rows, dropped = {}, set()
    for found in describe(corpus).rows(root, CorpusSettings(name=corpus, root=str(root))):
        if isinstance(found, Dropped):
            assert found.reason
            dropped.add(found.path)
        else:
            turn = found.utterance.removeprefix(f"{corpus}/")
            assert turn not in rows
            values = (found.arousal, found.valence, found.dominance)
            rows[turn] = Row(found.speaker, found.perceived, *values, found.gender, found.split)
    return rows, dropped


def check(corpus, root, path, data, expected):
    """Assert that a label file of these bytes gives what is expected."""
    (root / path).write_bytes(data)
    if expected.error:
        with pytest.raises(EmodartsError) as error:
            read(corpus, root)
        for line in expected.error:
            assert f"{path}:{line}" in str(error.value), data
        return
    rows, dropped = read(corpus, root)
    assert rows.keys() <= expected.rows.keys(), data
    for turn, possible in expected.rows.items():
        assert rows.get(turn) in possible, data
        assert turn in rows or any(place.endswith(f"{turn}.wav") for place in dropped), data
    for line in expected.dropped:
        assert f"{path}:{line}" in dropped, data


@pytest.mark.parametrize("kind", MUTATIONS)
@pytest.mark.parametrize("form", FORMS)
def test_lines(folders, form, kind):
    for data, expected in cases(form, kind):
        check(FORMS[form].corpus, folders[form], FORMS[form].path, data, expected)


def test_there_are_enough_of_them():
    inputs = {(form, data) for form in FORMS for kind in MUTATIONS for data, _ in cases(form, kind)}
    assert len(inputs) >= 1500


def test_json_without_one_of_its_marks(release):
    text = json.dumps(RECORDS, indent=1)
    marks = [at for at, character in enumerate(text) if character in '{}:,"']
    assert len(marks) > 140
    for at in marks:
        (release / JSON).write_text(text[:at] + text[at + 1 :])
        with pytest.raises(EmodartsError, match=r"labels_consensus\.json:\d+: no JSON"):
            read("msp_podcast", release)


@pytest.mark.parametrize("column", msp_podcast.COLUMNS[1:])
@pytest.mark.parametrize(
    "value", [None, True, [], {}, ["N"], 5, 5.0, 0.5, "x", "", "\u0663", float("nan"), float("inf")]
)
def test_json_values(release, column, value):
    for turn in PODCAST:
        record = {**RECORDS[f"{turn.name}.wav"], column: value}
        possible = (None,)
        if column in FIELDS and not (value is True or isinstance(value, list | dict) or value in ("x", "\u0663")):
            number = 5.0 if value in (5, 5.0) else None
            possible = (replaced(turn.name, FIELDS[column], number),)
        elif column == "SpkrID" and value == 5 and isinstance(value, int):
            possible = (replaced(turn.name, "speaker", "msp_podcast/5"),)
        data = json.dumps({**RECORDS, f"{turn.name}.wav": record}).encode()
        expected = Expected({**{t: (row,) for t, row in TRUTH.items()}, turn.name: possible})
        check("msp_podcast", release, JSON, data, expected)
        if possible == (None,):
            assert f"{JSON}:{turn.name}.wav" in read("msp_podcast", release)[1]


def replaced(turn, name, value):
    return Row(**{**vars(TRUTH[turn]), name: value})


@pytest.mark.parametrize("shape", ["columns", "EmoDetail"])
def test_votes(release, shape):
    """A turn has three equal votes; one of them is spoilt."""
    rng = random.Random(shape)
    words = dict(zip("NH", ("Neutral", "Happy"), strict=True))
    header = (
        "FileName,Workers,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom"
        if shape == "columns"
        else "FileName,EmoDetail"
    )
    for field in [name for name in ("name", "word", "value") for _ in range(25)]:
        votes = [[f"{t.name}.wav", f"w{n}", words[t.word], *t.values] for t in PODCAST[:2] for n in range(3)]
        spoilt = rng.randrange(6)
        at = {"name": 0, "word": 2, "value": 3 + rng.randrange(3)}[field]
        before = votes[spoilt][at]
        votes[spoilt][at] = before[:1] + rng.choice("#\xe9%\x00~") + before[1 + rng.randrange(2) :]
        text = "".join(
            f'{n},{w},{c},"{c},Tired",{a},{v},{d}\n'
            if shape == "columns"
            else f'{n},"{w}; {c}; {c},Tired; A:{a}; V:{v}; D:{d};"\n'
            for n, w, c, a, v, d in votes
        )
        turn = PODCAST[spoilt // 3].name
        rows = {t.name: (Row(None, t.word, *map(float, t.values)),) for t in PODCAST[:2]}
        rows[turn] = rows[turn] if field == "name" else (None,)
        data = f"{header}\n{text}".encode()
        check("msp_podcast", release, "Labels/labels_detailed.csv", data, Expected(rows, (spoilt + 2,)))


@pytest.mark.parametrize("path", ["Speaker_ids.txt", "Partitions.txt"])
def test_files_beside_the_labels(folders, path):
    """What they say of a turn is right or missing."""
    form, root, rng = FORMS["msp_podcast txt"], folders["msp_podcast txt"], random.Random(path)
    (root / form.path).write_text("\n".join(form.lines) + "\n")
    lines = form.neighbours[path].splitlines()
    for _ in range(120):
        number = rng.randrange(len(lines))
        line = spoil(rng, lines[number])
        while line.translate(str.maketrans("", "", "0123456789")) == lines[number].translate(
            str.maketrans("", "", "0123456789")
        ):
            line = spoil(rng, lines[number])  # another number is what the file says
        (root / path).write_text("\n".join([*lines[:number], line, *lines[number + 1 :]]) + "\n")
        rows, _ = read("msp_podcast", root)
        assert rows.keys() == TRUTH.keys()
        for turn, row in rows.items():
            missing = [{}, {"gender": None}, {"speaker": None, "gender": None}, {"split": None}]
            assert row in [Row(**{**vars(TRUTH[turn]), **fields}) for fields in missing], line
    (root / path).write_text(form.neighbours[path])
