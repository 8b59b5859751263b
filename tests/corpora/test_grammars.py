"""All grammars of the project: small copies written by them, mutated names, folds of full size, and what they state."""

import random
import shutil
import tomllib
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import check_fold, make_folds
from emodarts.corpora.readers import corpus_names, describe
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import UTTERANCES, Dropped, Utterance
from emodarts.errors import EmodartsError
from tests.support.contracts import CorpusContract
from tests.support.files import REPOSITORY, write_tone
from tests.support.layouts.audio import write_appledouble, write_empty
from tests.support.layouts.grammars import draw, truth
from tests.support.names import mutate

FOLDER = REPOSITORY / "emodarts" / "corpora" / "readers" / "grammars"
CONTENTS = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.toml"))}
MUTATED = 2000  # over all grammars
WITHOUT_FOLDS = {"mesd", "resd", "thorsten_emotional"}  # no speaker, or one: they can only be tested on


def paths_of(name, count, rng):
    """`count` paths that a grammar allows, spread over its patterns."""
    patterns = CONTENTS[name]["paths"]
    drawn = (draw(patterns[number % len(patterns)], rng) for number in range(count))
    return [path for path in drawn if path is not None]


def read_path(name, path):
    """What the reader makes of a path without suffix, without a file."""
    return describe(name).rows.__self__.read_name(Path("/corpus", f"{path}.wav"), f"{path}.wav")


def assert_true(name, path, row, expected):
    """Assert that a row says of a path what the naive interpreter does."""
    assert expected is not None, f"{path} is no recording of {name}, but became {row}"
    columns = ("intended", "perceived", "text", "scenario", "session", "recording", "split", "gender")
    assert {column: getattr(row, column) for column in columns} == {column: expected[column] for column in columns}
    assert row.utterance == f"{name}/{expected['utterance']}"
    assert row.speaker == (expected["speaker"] and f"{name}/{expected['speaker']}")


@pytest.mark.parametrize("name", CONTENTS)
def test_names_that_it_allows_become_rows(name):
    rng = random.Random(f"layout of {name}")
    paths = paths_of(name, 40, rng)
    assert len(paths) >= 30
    words = describe(name).words
    for path in paths:
        row = read_path(name, path)
        assert isinstance(row, Utterance), (path, row)
        assert_true(name, path, row, truth(CONTENTS[name], path))
        word = row.intended or row.perceived
        assert (word is None and CONTENTS[name].get("tables")) or word.lower() in words
        assert row.gender in ("female", "male", None)


def test_mutated_names_are_never_a_wrong_row():
    outcomes = Counter()
    for name in CONTENTS:
        rng = random.Random(f"mutations of {name}")
        valid = paths_of(name, 12, rng)
        for _ in range(MUTATED // len(CONTENTS) + 1):
            folders, _, stem = rng.choice(valid).rpartition("/")
            mutated = mutate(stem, [path.rpartition("/")[2] for path in valid], rng)
            if rng.random() < 0.2:
                folders = mutate(folders, [path.rpartition("/")[0] for path in valid], rng)
            if not mutated or mutated.startswith(".") or "\0" in mutated or mutated.endswith("."):
                continue
            path = f"{folders}/{mutated}".lstrip("/")
            row, expected = read_path(name, path), truth(CONTENTS[name], path)
            if isinstance(row, Utterance):
                assert_true(name, path, row, expected)
            else:
                assert row, path
                assert expected is None, f"{path} is a recording of {name}, but was dropped: {row}"
            outcomes[isinstance(row, Utterance)] += 1
    assert sum(outcomes.values()) > 0.95 * MUTATED
    assert outcomes[True] > 0.1 * MUTATED  # some mutations stay within a grammar
    assert outcomes[False] > 0.5 * MUTATED


class TestSmallCopies(CorpusContract):
    @pytest.fixture(params=CONTENTS)
    def written(self, request, tmp_path):
        """A small copy with the junk of real ones, and its paths."""
        rng = random.Random(f"copy of {request.param}")
        paths = list(dict.fromkeys(f"{path}.wav" for path in paths_of(request.param, 8, rng)))
        write_tone(tmp_path / "tone.wav", seconds=0.1)
        for path in [*paths, "Info.wav", "copy/holiday (1).wav"]:
            (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / "tone.wav", tmp_path / "root" / path)
        write_appledouble(tmp_path / "root" / paths[0])
        write_empty(tmp_path / "root" / "copy" / paths[0])
        return request.param, tmp_path / "root", paths

    @pytest.fixture
    def corpus(self, written):
        return corpora.read(CorpusSettings(name=written[0], root=str(written[1])))

    def test_rows_and_drops(self, corpus, written):
        name, _, paths = written
        rows = {row["path"]: row["utterance"] for row in corpus.utterances.to_pylist()}
        assert set(rows) <= set(paths)
        assert len(rows) == len({truth(CONTENTS[name], path.removesuffix(".wav"))["utterance"] for path in paths})
        reasons = {row["path"]: row["reason"] for row in corpus.dropped.to_pylist()}
        assert {"Info.wav", "copy/holiday (1).wav", f"copy/{paths[0]}"} <= set(reasons)
        assert reasons[f"copy/{paths[0]}"] == "the file is empty"
        assert sum(reason == "a hidden file or folder" for reason in reasons.values()) == 1


def full_table(name, rng):
    """Utterances of all speakers, each with all words twice, as far as the grammar's names reach."""
    rows = {}
    pattern = CONTENTS[name]["paths"][0]
    for _ in range(900):
        path = draw(pattern, rng)
        row = read_path(name, path) if path else None
        if isinstance(row, Utterance):
            rows[row.utterance] = row
    blank = dict.fromkeys(UTTERANCES.names)
    header = {"corpus": name, "sample_rate": 16000, "channels": 1, "frames": 16000}
    table = [{**blank, **vars(row), **header} for row in rows.values()]
    return pa.Table.from_pylist(table, UTTERANCES).sort_by("utterance")


@pytest.mark.parametrize("name", [name for name in CONTENTS if name not in WITHOUT_FOLDS | {"emozionalmente"}])
def test_the_default_protocol_divides_all_its_speakers(name):
    settings = CorpusSettings(name=name, class_set="full")
    table = full_table(name, random.Random(f"folds of {name}"))
    labels = label_utterances(table, settings)
    folds = make_folds(settings, table, labels)
    for fold in folds:
        check_fold(fold)
    tested = [utterance for fold in folds for utterance in fold.test_ids]
    assert sorted(tested) == sorted(labels.by_utterance)


@pytest.mark.parametrize("name", sorted(WITHOUT_FOLDS))
def test_corpora_without_speakers_have_no_folds_and_say_so(name):
    table = full_table(name, random.Random(f"folds of {name}"))
    settings = CorpusSettings(name=name, class_set="full")
    with pytest.raises(EmodartsError, match="at least 3"):
        make_folds(settings, table, label_utterances(table, settings))
    assert "test (extra_tests) alone" in describe(name).traps[0].advice


def test_emozionalmente_takes_its_labels_from_its_table(tmp_path):
    for number in range(4):
        write_tone(tmp_path / "audio" / f"161365506243{number}.wav", seconds=0.1)
    (tmp_path / "metadata").mkdir()
    rows = [f"161365506243{n}.wav,u{n % 2},{'joy' if n < 2 else 'anger'},Il treno" for n in range(3)]
    header = "file_name,actor,emotion_expressed,sentence"
    (tmp_path / "metadata" / "samples.csv").write_text("\n".join([header, *rows]) + "\n")
    corpus = corpora.read(CorpusSettings(name="emozionalmente", root=str(tmp_path)))
    found = [(row["speaker"], row["intended"], row["text"]) for row in corpus.utterances.to_pylist()]
    assert found[:2] == [("emozionalmente/u0", "joy", "Il treno"), ("emozionalmente/u1", "joy", "Il treno")]
    assert found[3] == (None, None, None)


class TestNemo(CorpusContract):
    """Names, rows and counts of the recordings; nothing is recognised."""

    @pytest.fixture(scope="class")
    @classmethod
    def corpus(cls, recordings):
        return corpora.read(CorpusSettings(name="nemo", root=str(recordings / "nemo")))

    def test_rows_and_counts(self, corpus):
        words = Counter(corpus.utterances["intended"].to_pylist())
        counted = {"neutral": 216, "happiness": 211, "sadness": 210, "anger": 206, "fear": 202, "surprised": 181}
        assert words == counted
        assert corpus.dropped.num_rows == 0
        speakers = Counter(corpus.utterances["speaker"].to_pylist())
        assert len(speakers) == 9
        assert (speakers["nemo/MP0"], speakers["nemo/MK0"]) == (99, 120)


def test_there_are_thirty_corpora_and_each_says_where_it_comes_from():
    described = [describe(name) for name in corpus_names() if name not in ("demo", "audformat", "manifest")]
    assert len(described) >= 30
    assert all(corpus.title and corpus.language and corpus.licence and corpus.evidence for corpus in described)
    assert all(corpus.releases for corpus in described)
    for name, content in CONTENTS.items():
        if name not in ("emodb", "ravdess", "tess", "savee", "crema_d"):
            assert content["references"], name
            assert len(content["references"]) > 1 or any("One source" in note for note in content["notes"]), name


@pytest.mark.parametrize("name", CONTENTS)
def test_the_example_of_a_grammar_is_one(name):
    example = CONTENTS[name]["example"].partition(" or ")[0].partition(" (the")[0]
    row = read_path(name, example.removesuffix(".wav"))
    assert not isinstance(row, str | Dropped), row
