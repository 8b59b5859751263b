"""The report page, its tables and its figures, over results with planted figures."""

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from emodarts import cli
from emodarts.errors import EmodartsError
from emodarts.report.comparisons import group_comparisons
from emodarts.report.elements import Paragraph
from emodarts.report.figures import INK, Figure
from emodarts.report.page import build_page, render_page
from emodarts.report.report_data import load_report_data
from emodarts.report.sections.sizes import best_within_limits
from emodarts.report.sections.systems import compare
from emodarts.report.tables import Column, ReportTable, to_csv, to_latex, to_markdown
from emodarts.results import reader
from emodarts.results.compaction import compact
from emodarts.results.statistics import Interval, mean_over_corpora
from emodarts.storage import Storage
from tests.support.made_results import CLASSES, Made, write

SKILLS = {"emodarts": 0.75, "cnn_lstm_attention": 0.74, "svm": 0.45}
ALPHA = Made("alpha-1", "alpha", SKILLS, folds=3, speakers=4, takes=6, seeds=3, crosses={"beta": 0.5})
BETA = Made("beta-1", "beta", {"emodarts": 0.7}, folds=2, speakers=4, takes=4, crosses={"alpha": 0.45}, marks="b")
MADE = (
    ALPHA,
    BETA,
    replace(BETA, name="beta-t", skills={"emodarts": 0.6}, trials=1, source="alpha-1", crosses={}),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    for made in MADE:
        write(root, made)
    return root


@pytest.fixture(scope="module")
def page(root):
    return build_page(reader.open(root))


@pytest.fixture(scope="module")
def html(page):
    return render_page(page)


def sheet(page, begin):
    (found,) = (
        part for part in page.tables_and_figures() if isinstance(part, ReportTable) and part.name.startswith(begin)
    )
    return found


class Reading(HTMLParser):
    """What a browser would fetch or run, all ids, and whether elements are closed."""

    EMPTY = ("meta", "br", "use", "path", "rect", "line", "circle", "stop")

    def __init__(self, text):
        super().__init__()
        self.ids, self.fetched, self.open, self.tags, self.links = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        about = dict(attributes)
        self.tags.append(tag)
        self.ids += [about["id"]] if "id" in about else []
        for name in ("src", "href", "xlink:href", "data"):
            target = about.get(name)
            if target is not None:
                (self.links if target.startswith("#") else self.fetched).append(target)
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def test_findings_of_the_audit_stand_on_the_page(html):
    assert "texts: 8 texts stand in train and test" in html


def test_the_page_needs_nothing_else(html):
    read = Reading(html)
    assert read.fetched == []
    assert not {"script", "iframe", "link", "img", "object", "embed"} & set(read.tags)
    assert not re.search(r"@import|url\((?!#)|javascript:|\son\w+=", html)
    assert len(set(read.ids)) == len(read.ids)
    assert {link.removeprefix("#") for link in read.links} <= set(read.ids)
    assert read.open == []


@pytest.mark.slow
def test_figures_are_drawings_in_the_colour_of_the_page(page):
    figures = [part for part in page.tables_and_figures() if isinstance(part, Figure)]
    names = [(type(part), part.name) for part in page.tables_and_figures()]
    assert len(set(names)) == len(names)
    for figure in figures[::4]:
        text = figure.svg()
        root = ElementTree.fromstring(text)
        assert INK not in text
        assert "currentColor" in text
        assert figure.caption in root.attrib["aria-label"]
        assert root.attrib["viewBox"]
        assert figure.svg() == text


@pytest.mark.slow
def test_compacted_results_give_the_same_tables(page, tmp_path):
    for made in MADE:
        write(tmp_path, made)
        compact(Storage.open(tmp_path), made.name)
    again = build_page(reader.open(tmp_path))
    tables, other = (
        [to_csv(p) for p in each.tables_and_figures() if isinstance(p, ReportTable)] for each in (page, again)
    )
    assert tables == other
    assert (again.tiles, again.notices) == (page.tiles, page.notices)


def test_what_stands_in_results_is_escaped(html):
    assert "it holds &lt;no&gt; sound" in html
    assert "<no>" not in html


def test_planted_differences_are_found_and_no_others(page):
    rows = {row[0]: row for row in sheet(page, "systems-alpha").rows}
    heads = [c.title for c in sheet(page, "systems-alpha").columns]
    verdict, p = heads.index("verdict"), heads.index("p (Holm)")
    assert [rows[name][verdict] for name in ("emodarts", "cnn_lstm_attention", "svm")] == [
        "reference",
        "no difference shown",
        "method worse",
    ]
    assert rows["svm"][p] < 0.001 < 0.05 < rows["cnn_lstm_attention"][p]
    assert rows["chance"][1] == rows["majority class of the test"][1] == 0.25


def test_with_fewer_than_three_seeds_a_verdict_is_about_these_networks(page, tmp_path):
    write(tmp_path, replace(ALPHA, seeds=2, trials=1, crosses={}))
    few = sheet(build_page(reader.open(tmp_path)), "systems-alpha")
    assert [row[9] for row in few.rows[:3]] == ["reference", "no difference shown", "these networks worse"]
    with_seeds = sheet(page, "systems-alpha")
    assert few.columns == with_seeds.columns
    assert few.notes == with_seeds.notes
    assert few.rows[2][6].over_seeds is False
    assert with_seeds.rows[2][6].over_seeds is True


def test_from_four_corpora_on_there_is_a_mean_over_corpora(tmp_path):
    made = replace(ALPHA, skills={"emodarts": 0.75, "svm": 0.45}, folds=2, trials=1, crosses={})
    for corpus in ("a", "b", "c"):
        write(tmp_path, replace(made, name=f"{corpus}-1", corpus=corpus))
    three = build_page(reader.open(tmp_path))
    assert not any(part.name == "over-corpora" for part in three.tables_and_figures())
    texts = [part.text for part in three.sections[0].elements if isinstance(part, Paragraph)]
    assert any("compared on 3, and it takes 4" in text for text in texts)
    write(tmp_path, replace(made, name="d-1", corpus="d"))
    four = build_page(reader.open(tmp_path))
    (row,) = sheet(four, "over-corpora").rows
    tables = [p for p in four.tables_and_figures() if isinstance(p, ReportTable) and p.name.startswith("systems-")]
    differences = [table.rows[1][6] for table in tables]
    assert row[:3] == ("svm", "emodarts", 4)
    assert min(d.value for d in differences) <= row[3].value <= max(d.value for d in differences)
    assert row[3] == mean_over_corpora({str(i): [d] for i, d in enumerate(differences)}).difference
    assert row[-1] == "method worse"


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


def test_figures_are_those_of_the_predictions(page, root):
    """The headline again from the rows, by scikit-learn: winners by dev, all folds pooled, mean over seeds."""
    found = reader.open(root, sweep="alpha-1")
    where = (pc.field("system") == "emodarts") & (pc.field("role") == "test") & (pc.field("trial") == 0)
    frame = found.table("predictions", where=where).to_pandas()
    each = [(g["label"], g["predicted"]) for _, g in frame.groupby("seed")]
    assert len(each) == 3
    row = sheet(page, "systems-alpha").rows[0]
    assert row[1].value == pytest.approx(np.mean([recall_score(y, p, average="macro") for y, p in each]))
    assert row[1].low < row[1].value < row[1].high
    assert row[2] == pytest.approx(np.mean([accuracy_score(y, p) for y, p in each]))
    assert row[3] == pytest.approx(np.mean([f1_score(y, p, average="macro") for y, p in each]))
    counts = sheet(page, "confusion-0-0-counts")
    assert sum(row[-1] for row in counts.rows) == pytest.approx(len(frame) / 3)
    by_speaker = [
        recall_score(g["label"], g["predicted"], average="macro") for _, g in frame.groupby(["speaker", "seed"])
    ]
    speakers = sheet(page, "speakers-0")
    assert np.mean([row[1] for row in speakers.rows]) == pytest.approx(np.mean(by_speaker))


def test_winners_are_chosen_on_dev_and_told(page):
    table = sheet(page, "folds-0-alpha-speaker3-alpha-test-winners")
    rows = [dict(zip([c.title for c in table.columns], row, strict=True)) for row in table.rows]
    of_ensembles = [r for r in rows if r["system"].endswith("+top5")]
    assert {r["configuration"] for r in of_ensembles} == {", ".join(f"{s}/{t}" for t in range(3)) for s in SKILLS}
    rows = [r for r in rows if r not in of_ensembles]
    assert {(r["trial"], r["of"]) for r in rows} == {(0, 3)}
    assert [r["dev UAR"] for r in rows if r["system"] == "svm"] == [pytest.approx(0.9 + 0.001 * f) for f in range(3)]
    assert all(json.loads(r["configuration"])["search.nodes"] == 1 for r in rows)


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
def test_one_system_of_two_sweeps_is_told_apart(tmp_path):
    for name in ("first", "second"):
        write(tmp_path, replace(ALPHA, name=name, seeds=1, skills={"emodarts": 0.7}))
    (found,) = group_comparisons(load_report_data(reader.open(tmp_path)))
    names = ["emodarts (first)", "emodarts (second)", "emodarts+top5 (first)", "emodarts+top5 (second)"]
    assert [c.name for c in found.systems] == names
    assert compare(found)[1].from_first.p == 1


@pytest.mark.slow
def test_names_that_come_again_are_told_apart(tmp_path):
    for name, system in (("a", "b_c"), ("a-b_c", "d"), ("a-b", "c-d"), ("A", "b_c")):
        write(tmp_path, replace(BETA, name=name, skills={system: 0.7}, crosses={}))
    names = [(type(p).__name__, p.name.lower()) for p in build_page(reader.open(tmp_path)).tables_and_figures()]
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_seeds_that_not_all_folds_have_count_nowhere(tmp_path):
    write(tmp_path, replace(ALPHA, skills={"emodarts": 0.7}, crosses={}))
    (tmp_path / "alpha-1" / "folds" / "emodarts.fold1.t00000.s2.f1.parquet").unlink()
    table = sheet(build_page(reader.open(tmp_path)), "systems-alpha")
    row = dict(zip([c.title for c in table.columns], table.rows[0], strict=True))
    assert row["seeds"] == 2
    assert row["UAR [95 %]"].value == pytest.approx(row["UAR, mean over folds"])  # folds are of one size


def test_a_shared_choice_heads_nothing(tmp_path, capsys):
    write(tmp_path, replace(ALPHA, skills={"emodarts": 0.7}, seeds=1, shared=True, crosses={}))
    made = build_page(reader.open(tmp_path))
    assert not any(name.startswith("UAR") for name, _ in made.tiles)
    assert "study_per=sweep" in sheet(made, "systems-alpha").title
    assert cli.main(["report", str(tmp_path)]) == 0
    assert "study_per=sweep" in capsys.readouterr().out


def test_the_best_test_epoch_is_never_an_ordinary_table(tmp_path, capsys):
    made = replace(
        ALPHA, name="x-published", rule="best_test", suffix="-no-dev", protocol_caveat="no dev part", trials=1
    )
    write(tmp_path, replace(made, skills={"emodarts": 0.7}, seeds=1, crosses={}))
    assert cli.main(["report", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "winner" not in told
    assert "BEST ON TEST" in told


@pytest.mark.slow
def test_other_speakers_under_the_same_folds_stand_apart(tmp_path):
    for name, speakers in (("one", 4), ("two", 3)):
        write(tmp_path, replace(ALPHA, name=name, speakers=speakers, skills={"emodarts": 0.7}, seeds=1, crosses={}))
    made = build_page(reader.open(tmp_path))
    assert len([p for p in made.tables_and_figures() if p.name.startswith("systems-alpha")]) == 2
    assert any("of other speakers" in notice for notice in made.notices)


@pytest.mark.slow
def test_folds_that_are_missing_are_told(tmp_path):
    for name in ("whole", "part"):
        write(tmp_path, replace(ALPHA, name=name, skills={"emodarts": 0.7}, seeds=1, crosses={}))
    for trial in range(3):
        (tmp_path / "part" / "folds" / f"emodarts.fold2.t{trial:05d}.s0.f2.parquet").unlink()
    told = build_page(reader.open(tmp_path)).notices
    assert any("part: emodarts has 2 of 3 folds" in notice for notice in told)
    assert any("part: emodarts, fold2 has a winner (trial 0) and no rows" in notice for notice in told)


def test_one_speaker_has_no_interval(tmp_path):
    write(tmp_path, replace(ALPHA, folds=1, speakers=1, seeds=1))
    table = sheet(build_page(reader.open(tmp_path)), "systems-alpha")
    assert table.texts()[0][1].count("[") == 0
    assert {row[9] for row in table.rows[1:3]} == {"cannot be told"}
    assert any("One speaker" in note for note in table.notes)


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


@pytest.mark.parametrize("what", ["half a file", "a foreign file", "no predictions of a unit"])
def test_damaged_results_are_named(tmp_path, what, capsys):
    write(tmp_path, replace(ALPHA, seeds=1, skills={"emodarts": 0.7}))
    file = sorted((tmp_path / "alpha-1" / "predictions").iterdir())[0]
    if what == "half a file":
        file.write_bytes(file.read_bytes()[:500])
    elif what == "a foreign file":
        file.write_bytes(b"nothing of ours")
    else:
        file.unlink()
    assert cli.main(["report", str(tmp_path), "--html", str(tmp_path / "out.html")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert str(file) in told
    assert not (tmp_path / "out.html").exists()


def test_a_sweep_without_results_has_a_page(tmp_path):
    from emodarts.results.sweep_file import register

    register(Storage.open(tmp_path), "empty", {"a": 1})
    text = render_page(build_page(reader.open(tmp_path)))
    assert "nothing is finished" in text
    assert Reading(text).open == []


def test_two_copies_of_a_sweep_are_refused(tmp_path):
    for place in ("one", "two"):
        write(tmp_path / place, replace(BETA, crosses={}))
    with pytest.raises(EmodartsError, match="several sweeps named beta-1"):
        load_report_data(reader.open(tmp_path / "one", tmp_path / "two"))


@pytest.mark.slow
def test_the_command_writes_page_tables_and_figures(root, tmp_path, capsys):
    places = [tmp_path / "deep" / "out.html", tmp_path / "tables", tmp_path / "figures"]
    arguments = [
        x for name, place in zip(("--html", "--tables", "--figures"), places, strict=True) for x in (name, str(place))
    ]
    assert cli.main(["report", str(root / "beta-1"), *arguments]) == 0
    told = capsys.readouterr().out
    assert all(str(place) in told for place in places)
    assert places[0].read_text().startswith("<!doctype html>")
    stems = {f.stem for f in places[1].iterdir()}
    assert all((places[1] / f"{stem}.{kind}").stat().st_size for stem in stems for kind in ("csv", "md", "tex"))
    for file in places[2].glob("*.pdf"):
        assert file.read_bytes().startswith(b"%PDF")
        assert file.with_suffix(".svg").read_text().startswith("<?xml")
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_named(root, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["report", str(root / "beta-1"), "--html", str(tmp_path / "file" / "out.html")]) == 1
    assert "out.html cannot be written" in capsys.readouterr().err


class TestSheets:
    SHEET = ReportTable(
        "name",
        "A & B, 50 %",
        (Column("system_x"), Column("UAR", "figure"), Column("difference", "difference"), Column("p", "p")),
        (
            ("a|b", Interval(0.75, 0.5, 1.0), -0.0123, 0.0004),
            ("c_d", Interval(0.5, float("nan"), float("nan")), None, 0.25),
        ),
        ("a note",),
        ("", "soft"),
    )

    def test_csv_is_not_rounded(self):
        first, second = list(csv.DictReader(to_csv(self.SHEET).splitlines()))
        assert first == {
            "system_x": "a|b",
            "UAR": "0.75",
            "UAR low": "0.5",
            "UAR high": "1.0",
            "difference": "-0.0123",
            "p": "0.0004",
        }
        assert (second["UAR"], second["difference"]) == ("0.5", "")

    def test_markdown(self):
        assert to_markdown(self.SHEET).splitlines() == [
            "**A & B, 50 %**",
            "",
            "| system_x | UAR | difference | p |",
            "| :-- | --: | --: | --: |",
            "| a\\|b | .750 [.500, 1.000] | −.012 | \\< .001 |",
            "| c_d | .500 | – | .250 |",
            "",
            "a note",
        ]

    def test_latex_is_escaped_and_ruled(self):
        text = to_latex(self.SHEET)
        assert r"\caption{A \& B, 50 \%. a note}" in text
        assert r"a$|$b & .750 [.500, 1.000] & $-$.012 & $<$ .001 \\" in text
        assert "\\midrule\nc\\_d & .500 & -- & .250 \\\\" in text
        assert r"\begin{tabular}{lrrr}" in text


def test_a_limit_of_the_size_is_kept_in_every_study():
    fronts = [
        [{"size": 10, "value": 0.5}, {"size": 30, "value": 0.7}],
        [{"size": 20, "value": 0.6}, {"size": 40, "value": 0.9}],
    ]
    chosen = [(limit, [row["value"] for row in rows]) for limit, rows in best_within_limits(fronts)]
    assert chosen == [(20, [0.5, 0.6]), (30, [0.7, 0.6]), (40, [0.7, 0.9])]
    many = [[{"size": size, "value": size / 100} for size in range(1, 100)]]
    limits = [limit for limit, _ in best_within_limits(many)]
    assert (limits[0], limits[-1], len(limits)) == (1, 99, 12)
