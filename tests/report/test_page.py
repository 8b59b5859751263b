"""The report page: whole, safe to open, equal however results lie, and honest about damaged ones; its command."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from emodarts import cli
from emodarts.errors import EmodartsError
from emodarts.report.figures import INK, Figure
from emodarts.report.page import build_page, render_page
from emodarts.report.report_data import load_report_data
from emodarts.report.tables import ReportTable, to_csv
from emodarts.results import reader
from emodarts.results.compaction import compact
from emodarts.storage import Storage
from tests.support.made_results import write
from tests.support.planted_results import ALPHA, BETA, MADE


@pytest.fixture(scope="module")
def html(page):
    return render_page(page)


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


@pytest.mark.slow(seconds=8)
def test_findings_of_the_audit_stand_on_the_page(html):
    assert "texts: 8 texts stand in train and test" in html


@pytest.mark.slow
def test_the_page_needs_nothing_else(html):
    read = Reading(html)
    assert read.fetched == []
    assert not {"iframe", "link", "img", "object", "embed", "audio"} & set(read.tags)
    assert read.tags.count("script") == 1  # sorts tables; it is in the page itself, and loads nothing
    assert not re.search(r"@import|url\((?!#)|javascript:|\son\w+=", html)
    assert len(set(read.ids)) == len(read.ids)
    assert {link.removeprefix("#") for link in read.links} <= set(read.ids)
    assert read.open == []


@pytest.mark.slow
def test_figures_are_drawings_in_the_colour_of_the_page(page, html):
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
        assert text in html, "the same again"


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


@pytest.mark.slow
def test_what_stands_in_results_is_escaped(html):
    assert "it holds &lt;no&gt; sound" in html
    assert "<no>" not in html


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
def test_a_place_that_cannot_be_written_is_named(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Figure, "to_bytes", lambda self, kind: b"<svg></svg>")
    (tmp_path / "file").write_text("")
    assert cli.main(["report", str(root / "beta-1"), "--html", str(tmp_path / "file" / "out.html")]) == 1
    assert "out.html cannot be written" in capsys.readouterr().err
