"""The page about corpora: its tables and examples are run as they stand there."""

import re

import pytest

from emodarts import corpora
from emodarts.audit.comparison import compare_counts
from emodarts.corpora import readers
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import make_folds
from emodarts.corpora.settings import CorpusSettings
from tests.support.files import REPOSITORY, write_tone

PAGE = (REPOSITORY / "docs" / "corpora.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def files(kind):
    return {name: text for language, name, text in BLOCKS if language == kind and name}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the page's files, and the recordings that they name."""
    for name, text in {**files("csv"), **files("toml")}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for line in files("csv")["recordings/table.csv"].splitlines()[1:]:
        write_tone(tmp_path / "recordings" / line.split(",")[0], seconds=0.2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_run_one_after_another(folder, capsys):
    examples = [text for language, name, text in BLOCKS if language == "python" and not name]
    assert len(examples) == 4
    names = {}
    for text in examples:
        wanted = re.findall(r"^import (duckdb|pandas)", text, re.MULTILINE)
        if wanted:
            pytest.importorskip(wanted[0])
        exec(compile(text, "docs/corpora.md", "exec"), names)
    said = capsys.readouterr().out
    assert "16 utterances, 0 dropped" in said
    assert "manifest/speaker4" in said


def test_the_split_of_the_page(folder):
    settings = CorpusSettings(name="manifest", root="recordings", class_set="angry,sad", protocol="split.csv")
    corpus = corpora.read(settings)
    (fold,) = make_folds(settings, corpus.utterances, label_utterances(corpus.utterances, settings))
    assert {name: len(ids) for name, ids in fold.tests.items()} == {"manifest/home": 2, "manifest/street": 2}
    assert (len(fold.train), len(fold.dev), len(fold.left_out)) == (4, 2, 6)


def test_the_grammar_of_the_page(folder):
    for speaker in ("f01", "f02", "m01", "m02"):
        for name in (f"{speaker}-{emotion}-{text}" for emotion in "as" for text in "12"):
            write_tone(folder / "studio" / f"{name}.wav", seconds=0.2)
    write_tone(folder / "studio" / "holiday.wav")
    settings = CorpusSettings(name="studio.toml", root="studio", class_set="full")
    corpus = corpora.read(settings)
    folds = make_folds(settings, corpus.utterances, label_utterances(corpus.utterances, settings))
    assert corpus.utterances["utterance"].to_pylist()[:2] == ["studio/f01-a-1", "studio/f01-a-2"]
    assert set(corpus.utterances["gender"].to_pylist()) == {"female", "male"}
    assert corpus.dropped["path"].to_pylist() == ["holiday.wav"]
    assert [fold.protocol for fold in folds] == ["studio/speaker4"] * 4
    comparison = compare_counts("studio.toml", corpus.utterances)
    assert comparison.as_published
    assert len(files("toml")["studio.toml"].splitlines()) <= 40


def test_the_page_names_every_corpus_and_protocol():
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    for name in readers.corpus_names():
        description = readers.describe(name)
        (row,) = [line for line in rows if line.startswith(f"| `{name}` |")]
        default = description.protocol if "<k>" in description.protocol else f"{name}/{description.protocol}"
        assert f"`{default}`" in row
        assert all(source in row for source in description.sources)
        for rule, about in description.rules.items():
            if name != "demo":
                (told,) = [line for line in rows if f"`{name}/{rule}`" in line and not line.startswith(f"| `{name}` |")]
                assert ("**" in told) == (about.protocol_caveat is not None)
