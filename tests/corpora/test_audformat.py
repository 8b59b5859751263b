"""audformat databases: CSV and Parquet read, pickles never, tables joined, and a round trip through the writer."""

import pickle

import numpy as np
import pytest
import yaml

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import make_folds
from emodarts.corpora.readers.audformat import write
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from tests.support.contracts import CorpusContract
from tests.support.files import write_tone

EMOTION = {"scheme_id": "emotion", "rater_id": "gold"}
HEADER = {
    "name": "small",
    "source": "nowhere",
    "usage": "research",
    "languages": ["deu"],
    "schemes": {
        "emotion": {"dtype": "str", "labels": {"anger": {"word": 1}, "sadness": {}}},
        "speaker": {"dtype": "int", "labels": {3: {"gender": "male", "age": 31}, 8: {"gender": "female"}}},
        "arousal": {"dtype": "float"},
        "transcription": {"dtype": "str", "labels": {"a01": "words"}},
    },
    "splits": {"train": {"type": "train"}, "test": {"type": "test"}},
    "tables": {
        "files": {"type": "filewise", "columns": {"speaker": {"scheme_id": "speaker"}, "duration": {}}},
        "emotion": {"type": "filewise", "columns": {"emotion": EMOTION, "emotion.confidence": {}}},
        "emotion.train": {"type": "filewise", "split_id": "train", "columns": {"emotion": EMOTION}},
        "parts": {
            "type": "segmented",
            "columns": {"feeling": {"scheme_id": "emotion"}, "arousal": {"scheme_id": "arousal"}},
        },
    },
}
FILES = "file,speaker,duration\nwav/a.wav,3,0 days 00:00:00.6\nwav/b.wav,8,0 days 00:00:00.6\nwav/c.wav,8,\n"
EMOTIONS = "file,emotion,emotion.confidence\nwav/a.wav,anger,0.9\nwav/b.wav,sadness,0.4\nwav/c.wav,,0.1\n"
PARTS = (
    "file,start,end,feeling,arousal\n"
    "wav/a.wav,0 days 00:00:00,0 days 00:00:00.250000,anger,1.5\n"
    "wav/a.wav,0 days 00:00:00.250000,,sadness,\n"
    "wav/b.wav,0 days 00:00:00.5,0 days 00:00:00.1,sadness,2\n"
    "wav/b.wav,soon,,sadness,2\n"
    "wav/b.wav,0 days 00:00:00.1,,sadness,loud\n"
)


def write_database(root, header=HEADER, **tables):
    for name in "abcd":
        write_tone(root / "wav" / f"{name}.wav")
    given = {"files": FILES, "emotion": EMOTIONS, "emotion.train": "file,emotion\nwav/a.wav,anger\n", "parts": PARTS}
    for name, content in {**given, **tables}.items():
        if content is not None:
            (root / f"db.{name}.csv").write_text(content)
    (root / "db.yaml").write_text(yaml.safe_dump(header, sort_keys=False))


def read(root, **more):
    return corpora.read(CorpusSettings(name="audformat", root=str(root), class_set="full", **more))


def rows(corpus, *names):
    return [tuple(row[name] for name in names) for row in corpus.utterances.to_pylist()]


def dropped(corpus):
    return {row["path"]: row["reason"] for row in corpus.dropped.to_pylist()}


class TestAudformat(CorpusContract):
    @pytest.fixture
    def corpus(self, tmp_path):
        write_database(tmp_path)
        return read(tmp_path)

    def test_speakers_genders_and_splits_come_from_the_other_tables(self, corpus):
        assert rows(corpus, "utterance", "speaker", "gender", "intended", "split") == [
            ("audformat/wav/a", "audformat/3", "male", "anger", "train"),
            ("audformat/wav/b", "audformat/8", "female", "sadness", None),
        ]
        reasons = dropped(corpus)
        assert reasons["db.emotion.csv:4"] == "the row has no emotion"
        assert set(reasons) == {"db.emotion.csv:4", "db.parts.csv:4", "db.parts.csv:5", "wav/c.wav", "wav/d.wav"}

    def test_segments(self, tmp_path):
        write_database(tmp_path)
        corpus = read(tmp_path, table="parts")
        assert rows(corpus, "utterance", "speaker", "start", "end", "intended", "arousal") == [
            ("audformat/wav/a@0.0", "audformat/3", 0.0, 0.25, "anger", 1.5),
            ("audformat/wav/a@0.25", "audformat/3", 0.25, None, "sadness", None),
        ]
        assert "no span of time" in dropped(corpus)["db.parts.csv:4"]
        assert "start soon and end  are no span of time" in dropped(corpus)["db.parts.csv:5"]
        assert "numbers, not 'loud'" in dropped(corpus)["db.parts.csv:6"]

    def test_a_pattern_takes_several_tables(self, tmp_path):
        header = {**HEADER, "tables": {**HEADER["tables"]}}
        header["tables"]["emotion.test"] = {"type": "filewise", "split_id": "test", "columns": {"emotion": EMOTION}}
        write_database(tmp_path, header, **{"emotion.test": "file,emotion\nwav/b.wav,sadness\nwav/b.wav,sadness\n"})
        corpus = read(tmp_path, table="emotion.*")
        assert rows(corpus, "path", "intended", "split") == [
            ("wav/a.wav", "anger", "train"),
            ("wav/b.wav", "sadness", "test"),
        ]
        assert "earlier row" in dropped(corpus)["db.emotion.test.csv:3"]

    def test_tables_that_contradict_each_other_are_refused(self, tmp_path):
        header = {**HEADER, "tables": {**HEADER["tables"]}}
        header["tables"]["emotion.test"] = {"type": "filewise", "split_id": "test", "columns": {"emotion": EMOTION}}
        write_database(tmp_path, header, **{"emotion.test": "file,emotion\nwav/b.wav,sadness\nwav/a.wav,sadness\n"})
        with pytest.raises(
            EmodartsError, match=r"db.emotion.train.csv:2 and db.emotion.test.csv:3 say different things"
        ):
            read(tmp_path, table="emotion.*")

    def test_a_word_for_nobody_is_no_speaker(self, tmp_path):
        write_database(tmp_path, files="file,speaker\nwav/a.wav,Unknown\nwav/b.wav,8\n")
        assert rows(read(tmp_path), "speaker", "recording") == [(None, "wav/a.wav"), ("audformat/8", "wav/b.wav")]


class TestRefusals:
    def test_a_pickle_is_never_opened(self, tmp_path):
        write_database(tmp_path, emotion=None)

        class Bomb:
            def __reduce__(self):
                return (open, (str(tmp_path / "burst"), "w"))

        (tmp_path / "db.emotion.pkl").write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(EmodartsError, match=r"db\.emotion\.pkl alone.*storage_format='csv'"):
            read(tmp_path)
        assert not (tmp_path / "burst").exists()

    def test_no_objects_out_of_yaml(self, tmp_path):
        write_database(tmp_path)
        (tmp_path / "db.yaml").write_text(f"name: !!python/object/apply:os.mkdir ['{tmp_path}/burst']\n")
        with pytest.raises(EmodartsError, match="cannot be read"):
            read(tmp_path)
        assert not (tmp_path / "burst").exists()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda root: (root / "db.yaml").unlink(), "no db.yaml"),
            (lambda root: (root / "db.yaml").write_text("- a\n"), "not the header of an audformat database"),
            (lambda root: (root / "db.yaml").write_text("tables: {a: [\n"), "cannot be read"),
            (lambda root: (root / "db.emotion.csv").unlink(), "the file of table emotion is missing"),
            (
                lambda root: (root / "db.files.csv").write_text('file,speaker\n"a,3\n'),
                r"db\.files\.csv:2: cannot be read",
            ),
        ],
    )
    def test_broken_databases(self, tmp_path, change, message):
        write_database(tmp_path)
        change(tmp_path)
        with pytest.raises(EmodartsError, match=message):
            read(tmp_path)

    def test_which_table_and_which_column(self, tmp_path):
        write_database(tmp_path)
        with pytest.raises(EmodartsError, match=r"no such table .* there are files, emotion, emotion\.train, parts"):
            read(tmp_path, table="emo")
        with pytest.raises(EmodartsError, match=r"no column of emotions among duration, speaker.*columns\.label"):
            read(tmp_path, table="files")
        without = {name: table for name, table in HEADER["tables"].items() if name != "emotion"}
        write_database(tmp_path, {**HEADER, "tables": without})
        with pytest.raises(EmodartsError, match=r"several tables have emotions \(emotion.train, parts\)"):
            read(tmp_path)


def test_speakers_described_by_a_table_and_files_by_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    header = {**HEADER, "misc_tables": {"people": {"levels": {"who": "int"}, "columns": {"gender": {}}}}}
    header["schemes"] = {**HEADER["schemes"], "speaker": {"dtype": "int", "labels": "people"}}
    write_database(tmp_path, header, people="who,gender\n3,male\n8,female\n", parts=None)
    spans = pa.array([0, 250_000_001], pa.duration("ns"))
    columns = {"file": ["wav/a.wav"] * 2, "start": spans, "end": pa.array([250_000_000, None], pa.duration("ns"))}
    words = pa.array(["anger", "sadness"]).dictionary_encode()
    pa.parquet.write_table(pa.table({**columns, "feeling": words}), tmp_path / "db.parts.parquet")
    assert rows(read(tmp_path, table="parts"), "gender", "start", "end", "intended") == [
        ("male", 0.0, 0.25, "anger"),
        ("male", 0.25, None, "sadness"),
    ]


@pytest.fixture
def written(tmp_path):
    """A corpus of segments with splits and attributes, as a manifest, and as the database written beside it."""
    lines = ["file,start,end,speaker,gender,label,perceived,split,arousal,text"]
    for number, speaker in enumerate(["01", "12", "no", "1e3", "ü x"] * 4):
        write_tone(tmp_path / f"{speaker}/f{number}.wav", seed=number)
        split, word = ("train", "dev", "test", "", "train")[number % 5], ("angry", "sad")[number // 5 % 2]
        times = f"{number / 100},{0.25 + number / 64}" if number % 3 else ","
        gender = "f" if number % 2 else ""
        lines.append(f"{speaker}/f{number}.wav,{times},{speaker},{gender},{word},null,{split},{number / 7},no")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    corpus = corpora.read(CorpusSettings(name="manifest", root=str(tmp_path), class_set="full"))
    return corpus, write(corpus, tmp_path)


def test_what_is_written_reads_back_the_same(written):
    corpus, header = written
    again = read(header.parent)
    names = ("path", "start", "end", "intended", "perceived", "split", "arousal", "text", "frames")
    assert rows(again, *names) == rows(corpus, *names)
    plain = [[None if s is None else s.split("/", 1)[1] for (s,) in rows(c, "speaker")] for c in (again, corpus)]
    assert plain[0] == plain[1]
    assert {"01", "12", "no", "1e3", "ü x"} == set(plain[0])
    assert not list(header.parent.glob(".*part"))
    with pytest.raises(EmodartsError, match="is there already"):
        write(corpus, header.parent)


def test_the_official_package_reads_what_is_written(written):
    audformat = pytest.importorskip("audformat")
    corpus, header = written
    database = audformat.Database.load(str(header.parent))
    table = database["emotion"].get()
    found = {}
    for (file, start, end), row in zip(table.index, table.itertuples(index=False), strict=True):
        whole = end != end  # not a time: until the file's end
        found[file, start.total_seconds(), None if whole else end.total_seconds()] = (
            row.speaker,
            row.emotion,
            row.arousal,
        )
    assert len(found) == corpus.utterances.num_rows == 20
    for path, start, end, speaker, word, arousal in rows(
        corpus, "path", "start", "end", "speaker", "intended", "arousal"
    ):
        key = (path, round(start or 0.0, 9), None if end is None else round(end, 9))
        assert found[key][:2] == (speaker.removeprefix("manifest/"), word)
        assert np.isclose(found[key][2], arousal, atol=1e-6)
    assert set(database.schemes["speaker"].labels) == {"01", "12", "no", "1e3", "ü x"}
    assert {name: split.type for name, split in database.splits.items()} == dict.fromkeys(("dev", "test", "train")) | {
        name: name for name in ("dev", "test", "train")
    }
    assert database.is_portable


def test_databases_of_the_official_package_are_read(tmp_path):
    audformat = pytest.importorskip("audformat")
    write_database(tmp_path)
    expected = rows(read(tmp_path), "utterance", "speaker", "split")
    database = audformat.Database("real")
    database.schemes["emotion"] = audformat.Scheme(labels=["anger", "sadness"])
    database.schemes["speaker"] = audformat.Scheme("int", labels={3: {"gender": "male"}, 8: {"gender": "female"}})
    database.splits["train"] = audformat.Split("train")
    index = audformat.filewise_index(["wav/a.wav", "wav/b.wav"])
    database["emotion"] = audformat.Table(index)
    database["emotion"]["emotion"] = audformat.Column(scheme_id="emotion")
    database["emotion"]["emotion"].set(["anger", "sadness"])
    database["emotion"]["speaker"] = audformat.Column(scheme_id="speaker")
    database["emotion"]["speaker"].set([3, 8])
    database["members"] = audformat.Table(index[:1], split_id="train")
    for kind in ("csv", "parquet"):
        for old in tmp_path.glob("db.*"):
            old.unlink()
        database.save(str(tmp_path), storage_format=kind)
        corpus = read(tmp_path)
        assert rows(corpus, "utterance", "speaker", "split") == expected
        assert rows(corpus, "gender") == [("male",), ("female",)]


def test_audio_elsewhere_is_named_by_its_place(tmp_path, written):
    corpus, _ = written
    header = write(corpus, tmp_path / "apart" / "database")
    again = read(header.parent)
    assert again.utterances.num_rows == corpus.utterances.num_rows
    assert all(path.startswith(str(tmp_path)) for (path,) in rows(again, "path"))
    assert rows(again, "intended", "frames") == rows(corpus, "intended", "frames")


def test_the_own_split_is_a_protocol(written):
    _, header = written
    chosen = CorpusSettings(name="audformat", root=str(header.parent), protocol="official", class_set="full")
    corpus = corpora.read(chosen)
    (fold,) = make_folds(chosen, corpus.utterances, label_utterances(corpus.utterances, chosen))
    roles = {"train": fold.train, "dev": fold.dev, "test": fold.tests["audformat/test"]}
    splits = dict(rows(corpus, "utterance", "split"))
    assert {role: {splits[u] for u in ids} for role, ids in roles.items()} == {name: {name} for name in roles}
    assert len(fold.left_out) == 4
