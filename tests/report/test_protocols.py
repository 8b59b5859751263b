"""What stands apart on the page: other corpora, normalisations, the published habit, folds that differ."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import recall_score

from emodarts import cli
from emodarts.report.comparisons import features_name, group_comparisons
from emodarts.report.elements import Paragraph
from emodarts.report.page import build_page
from emodarts.report.report_data import load_report_data
from emodarts.results import reader
from tests.support.made_results import CLASSES, write
from tests.support.planted_results import ALPHA, BETA, SKILLS, sheet


def test_normalisations_are_named_and_said_to_need_recordings(tmp_path, capsys):
    for made in (BETA, replace(BETA, name="beta-s", normalisation="speaker@5", skills={"emodarts": 0.8})):
        write(tmp_path, made)
    page = build_page(reader.open(tmp_path))
    (found,) = group_comparisons(load_report_data(reader.open(tmp_path)))
    names, rules = ("emodarts", "emodarts+top5"), ("train", "speaker@5")
    assert {s.name for s in found.systems} == {f"{name}, normalised by {rule}" for name in names for rule in rules}
    assert [notice for notice in page.notices if "several recordings of a speaker are supposed at hand" in notice]
    for normalisation, cells in (("train", 2), ("speaker-5", 2), ("test", 4)):
        rows = sheet(page, f"cross-log_mel-4-{normalisation}-values").rows
        assert len([row for row in rows if "+top" not in row[1]]) == cells
    assert cli.main(["report", str(tmp_path)]) == 0
    words = capsys.readouterr().out
    assert "normalised by speaker@5" in words
    assert "scored, too" in " ".join(words.split())
    write(tmp_path / "alone", BETA)
    assert not any("recordings of a speaker" in n for n in build_page(reader.open(tmp_path / "alone")).notices)


def test_a_figure_has_the_recordings_of_a_speaker_in_their_order(tmp_path):
    rules = {"train": 0.6, "speaker": 0.8, "speaker@10": 0.75, "speaker@2": 0.5}
    for number, (rule, skill) in enumerate(rules.items()):
        made = replace(BETA, name=f"beta-{number}", normalisation=rule, skills={"emodarts": skill, "svm": 0.5})
        write(tmp_path, replace(made, crosses={}, trials=1))
    page = build_page(reader.open(tmp_path))
    (section,) = (s for s in page.sections if s.title == "Recordings of a speaker")
    text, *figures = section.elements
    assert "are scored, too" in text.text
    assert len(figures) == 2
    words = next(f.description for f in figures if "emodarts" in f.caption)
    assert re.findall(r"(\S+) [01]\.\d{3}", words) == ["train", "speaker@2", "speaker@10", "speaker"]
    assert ">speaker@10<" in figures[0].svg()
    only_one = tmp_path / "one"
    write(only_one, replace(BETA, normalisation="speaker", crosses={}, trials=1))
    titles = [section.title for section in build_page(reader.open(only_one)).sections]
    assert "Recordings of a speaker" not in titles


def test_matrices_of_corpora(page):
    for normalisation in ("train", "test"):
        table = sheet(page, f"cross-log_mel-4-{normalisation}-values")
        places = {row[1:4]: row[4].value for row in table.rows}
        assert set(places) == {
            *(
                (f"{s}{of}", row, column)
                for s in SKILLS
                for of in ("", "+top5")
                for row, column in (("alpha*", "alpha"), ("alpha", "beta"))
            ),
            *(
                (f"emodarts{of}", row, column)
                for of in ("", "+top5")
                for row, column in (("beta*", "beta"), ("beta", "alpha"))
            ),
        }
        assert 0.35 < places["emodarts", "alpha", "beta"] < 0.65 < places["emodarts", "alpha*", "alpha"]
    transfer = {row[2:4]: row[4].value for row in sheet(page, "transfer-4-values").rows}
    assert set(transfer) == {("alpha*", "alpha"), ("beta*", "beta"), ("alpha", "beta")}


def test_cross_figures_are_means_over_fold_models(page, root):
    where = (pc.field("system") == "emodarts") & (pc.field("role") == "cross") & (pc.field("trial") == 0)
    where &= pc.field("normalisation") == "test"
    frame = reader.open(root, sweep="alpha-1").table("predictions", where=where).to_pandas()
    models = [recall_score(g["label"], g["predicted"], average="macro") for _, g in frame.groupby(["fold", "seed"])]
    rows = sheet(page, "cross-log_mel-4-test-values").rows
    (row,) = (r for r in rows if r[1:4] == ("emodarts", "alpha", "beta"))
    assert row[4].value == pytest.approx(np.mean(models))
    assert row[-1] == 3


def test_a_corpus_that_joined_folds_test_again_counts_once(tmp_path):
    """Folds 2 and 3 of a joined protocol test the speakers of folds 0 and 1 of the corpus with fewer folds again."""
    made = replace(ALPHA, folds=4, seeds=1, skills={"emodarts": 0.7}, crosses={}, suffix="/joined", again=2)
    made = replace(made, beside=("beta",))
    write(tmp_path, made)
    (entry,) = load_report_data(reader.open(tmp_path), top=0).systems
    (part,) = entry.parts("test")
    (tally,) = entry.pooled(part)
    each = [entry.tallies[part][fold, 0] for fold in range(4)]
    assert tally.counts.sum() == each[0].counts.sum() + each[1].counts.sum()
    means = [(each[0].counts + each[2].counts) / 2, (each[1].counts + each[3].counts) / 2]
    np.testing.assert_allclose(tally.counts, np.concatenate(means))


@pytest.mark.slow
def test_the_published_habit_stands_apart(tmp_path):
    write(tmp_path, replace(ALPHA, seeds=1))
    base = replace(ALPHA, seeds=1, crosses={}, trials=1, suffix="-no-dev", protocol_caveat="no dev part", marks="p")
    for name, rule, skill in (("pub-last", "last", 0.6), ("pub-best", "best_test", 0.8)):
        write(tmp_path, replace(base, name=name, rule=rule, skills={"emodarts": skill}))
    made = build_page(reader.open(tmp_path))
    habit = sheet(made, "published-habit")
    assert [(row[4], row[-1]) for row in habit.rows] == [("by dev", "yes"), ("BEST ON TEST", "no")]
    assert not any("no-dev" in part.name for part in made.tables_and_figures() if part.name.startswith("systems"))
    assert any("no dev part" in notice for notice in made.notices)


@pytest.mark.slow
def test_what_must_not_be_mixed_stands_apart(tmp_path):
    write(tmp_path, replace(ALPHA, name="a", seeds=1, skills={"emodarts": 0.7}))
    for name, change in (
        ("b", {"marks": "other"}),  # other labels or data
        ("c", {"folds": 2}),
        ("d", {"shared": True}),
        ("e", {"classes": CLASSES[:2]}),
    ):
        write(tmp_path, replace(ALPHA, name=name, seeds=1, skills={"emodarts": 0.7}, **change))
    found = group_comparisons(load_report_data(reader.open(tmp_path), top=0))
    assert [len(c.systems) for c in found] == [1] * 5
    assert found[-1].shared
    made = build_page(reader.open(tmp_path))
    (systems, *_) = made.sections
    assert any(isinstance(p, Paragraph) and "must not be compared" in p.text for p in systems.elements)
    assert any("stand apart" in notice and "other labels or data" in notice for notice in made.notices)
    assert any("several protocols" in notice for notice in made.notices)


@pytest.mark.slow
def test_other_speakers_under_the_same_folds_stand_apart(tmp_path):
    for name, speakers in (("one", 4), ("two", 3)):
        write(tmp_path, replace(ALPHA, name=name, speakers=speakers, skills={"emodarts": 0.7}, seeds=1, crosses={}))
    made = build_page(reader.open(tmp_path))
    assert len([p for p in made.tables_and_figures() if p.name.startswith("systems-alpha")]) == 2
    assert any("of other speakers" in notice for notice in made.notices)


@pytest.mark.slow
def test_a_class_that_no_fold_tests_is_named(tmp_path):
    made = replace(ALPHA, seeds=1, skills={"emodarts": 0.7})
    path = write(tmp_path, made)
    for table in ("folds", "predictions"):
        for file in (tmp_path / "alpha-1" / table).iterdir():
            _without_happy(file, table)
    assert path
    told = build_page(reader.open(tmp_path)).notices
    assert any("no utterance of class happy" in notice for notice in told)


def _without_happy(file, table):
    import pyarrow.parquet as pq

    found = pq.read_table(file)
    if table == "predictions":
        found = found.filter(pc.not_equal(found["label"], "happy"))
    else:
        place = found.schema.get_field_index("absent_classes")
        column = pa.array([["happy"]] * len(found), found.schema.field(place).type)
        found = found.set_column(place, found.schema.field(place), column)
    pq.write_table(found, file)


@pytest.mark.parametrize(
    ("features", "name"),
    [
        ({"kind": "encoder", "model": "/data/encoders/whisper-tiny.en"}, "whisper-tiny.en"),
        ({"kind": "encoder", "model": "openai/whisper-base"}, "openai/whisper-base"),
        ({"kind": "pretrained", "bundle": "WAVLM_BASE"}, "WAVLM_BASE"),
        ({"kind": "log_mel", "model": None}, "log_mel"),
    ],
)
def test_features_are_named_without_the_folders_of_who_ran_them(features, name):
    assert features_name(SimpleNamespace(rows=[{"settings": json.dumps({"features": features})}])) == name
