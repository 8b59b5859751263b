"""A user's grammar: refused with file and line where it names what is not there, and read as its keys say."""

import pytest

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import make_folds, protocol_name, protocol_names
from emodarts.corpora.readers import describe
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from tests.support.commands import of_command
from tests.support.files import write_tone

GRAMMAR = """\
title = "Studio"
example = "f01/a-1.wav"
paths = [
    '(?P<speaker>[fm]\\d\\d)/(?P<emotion>a|s)-(?P<take>\\d)',
]
utterance = "{speaker}_{emotion}_{take}"
protocol = "speaker3"
gender = { female = ["f01", "f02"], male = ["m01"] }

[misspelt]
aa-1 = "a-1"

[[drops]]
path = 'noise-\\d'
reason = "room noise"

[protocols.speaker3]
groups = "each_speaker"

[codes.emotion]
a = "anger"
s = "sadness"

[words]
anger = "angry"
sadness = "sad"

[published]
source = "its README"
utterances = 6
"""


def written(folder, text=GRAMMAR, name="studio.toml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('title = "Studio"', "", 1, "title missing"),
        ('title = "Studio"', 'titel = "Studio"', 1, "unknown key titel"),
        ('title = "Studio"', "title = 3", 1, "title must be a text"),
        ("?P<take>", "?P<number>", 4, r"unknown group number; known are speaker, emotion, gender, take"),
        ("?P<speaker>", "?P<speaker", 4, "is no pattern"),
        ("(?P<take>\\d)", "\\d", 6, r"utterance names \{take\}"),
        ('"{speaker}_{emotion}_{take}"', '"{speaker"', 6, "utterance '{speaker'"),
        ('"speaker3"\ng', '"speaker"\ng', 7, "protocol speaker is neither"),
        ('female = ["f01", "f02"]', 'woman = ["f01"]', 8, "gender must be female, male, or a table"),
        ("reason =", "why =", 15, "unknown key why; known are path, reason"),
        ('"each_speaker"', '"every_speaker"', 18, "groups is 'every_speaker', not each_speaker or balanced"),
        ("[codes.emotion]", "[codes.text]", 20, "codes of a group text that no path has"),
        ('s = "sadness"', 's = "sorrow"', 22, r"the word 'sorrow' has no class in \[words\]"),
        ("a|s", "a|s|h", 4, r"the word 'h' has no class in \[words\]"),
        ('sadness = "sad"', "sadness = 1", 26, "the word sadness needs a class"),
        ("utterances = 6", "utterances = ", 30, "line 30"),
        ("utterances = 6", "size = 6", 0, r"\[published\]: unknown size"),
    ],
)
def test_a_wrong_grammar_is_refused_with_its_place(old, new, line, message, tmp_path):
    assert old in GRAMMAR
    place = rf"studio\.toml:{line}: .*" if line not in (0, 30) else r"studio\.toml.*"
    with pytest.raises(EmodartsError, match=f"{place}{message}"):
        describe(written(tmp_path, GRAMMAR.replace(old, new, 1)))


def test_files_that_cannot_be_grammars(tmp_path):
    with pytest.raises(EmodartsError, match="cannot be read: No such file"):
        describe(str(tmp_path / "nowhere.toml"))
    with pytest.raises(EmodartsError, match="named after its corpus, by small letters"):
        describe(written(tmp_path, name="My corpus.toml"))


@pytest.fixture
def studio(tmp_path):
    """Settings of a small copy, its grammar beside it."""
    for speaker in ("f01", "f02", "m01"):
        for take in "ab"[:1] + "s":
            for number in "12":
                write_tone(tmp_path / "audio" / speaker / f"{take}-{number}.wav", seconds=0.2)
    return CorpusSettings(name=written(tmp_path), root=str(tmp_path / "audio"), class_set="angry,sad")


def test_rows_and_drops(studio, tmp_path):
    folder = tmp_path / "audio"
    (folder / "m01" / "a-1.wav").rename(folder / "m01" / "aa-1.wav")
    for name in ("noise-1", "m02/x-1", "m02/a-1 ", "m02/\u0430-1"):
        write_tone(folder / f"{name}.wav", seconds=0.2)
    corpus = corpora.read(studio)
    rows = {row["utterance"]: row for row in corpus.utterances.to_pylist()}
    assert len(rows) == 12
    misspelt = rows["studio/m01_anger_1"]
    assert (misspelt["path"], misspelt["speaker"], misspelt["gender"]) == ("m01/aa-1.wav", "studio/m01", "male")
    reasons = {row["path"]: row["reason"] for row in corpus.dropped.to_pylist()}
    assert reasons.pop("noise-1.wav") == "room noise"
    assert set(reasons.values()) == {"the name is not that of a recording of Studio (such as f01/a-1.wav)"}
    assert len(reasons) == 3


def test_its_name_in_folds_is_that_of_its_file(studio):
    corpus = corpora.read(studio)
    folds = make_folds(studio, corpus.utterances, label_utterances(corpus.utterances, studio))
    assert {fold.protocol for fold in folds} == {"studio/speaker3"} == {protocol_name(studio)}
    assert set(folds[0].tests) == {"studio/test"}
    assert protocol_names(studio.name)[0] == "studio/speaker3"


def test_a_change_of_the_file_is_seen(studio, tmp_path):
    assert describe(studio.name).title == "Studio"
    written(tmp_path, GRAMMAR.replace("Studio", "Another studio, with a longer name"))
    assert describe(studio.name).title.startswith("Another")


def test_a_sweep_takes_a_grammar_where_it_takes_a_corpus(studio, tmp_path):
    found = of_command(f"corpus={studio.name}", f"corpus.root={studio.root}")
    assert found.corpus.name == studio.name
    assert found.sweep_name.startswith("studio-")
    (tmp_path / "elsewhere").mkdir()
    elsewhere = written(tmp_path / "elsewhere")
    assert of_command(f"corpus={elsewhere}").sweep_name == found.sweep_name
    both = [f"train_corpora=[emodb,{studio.name}]", "roots.studio=/x", "corpus.class_set='angry,sad'"]
    joined = of_command(*both)
    assert [corpus.root for corpus in joined.training_corpora] == [None, "/x"]
    assert joined.sweep_name.startswith("emodb-studio-")


def test_an_optional_group_may_be_absent_and_a_speaker_without_number_has_no_gender(tmp_path):
    text = (
        GRAMMAR.replace("-(?P<take>\\d)", "(?:-(?P<take>\\d))?")
        .replace('gender = { female = ["f01", "f02"], male = ["m01"] }', 'gender = { odd = "male", even = "female" }')
        .replace("[fm]\\d\\d", "[fm]\\w\\w")
    )
    for name in ("f01/a", "f02/s-1", "mxy/a-2"):
        write_tone(tmp_path / "audio" / f"{name}.wav", seconds=0.2)
    corpus = corpora.read(CorpusSettings(name=written(tmp_path, text), root=str(tmp_path / "audio")))
    rows = {row["utterance"]: row["gender"] for row in corpus.utterances.to_pylist()}
    assert rows == {"studio/f01_anger_": "male", "studio/f02_sadness_1": "female", "studio/mxy_anger_2": None}
