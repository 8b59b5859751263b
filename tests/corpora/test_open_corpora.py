"""EmoDB and RAVDESS in odd copies, manifests as people write them, and folders as disks hold them."""

import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile

from emodarts import corpora
from emodarts.corpora.headers import Header, read_header
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.corpora.table import Utterance, audio_files, build_corpus, parse_seconds
from emodarts.errors import EmodartsError
from tests.support.files import write_tone
from tests.support.layouts import audio


def read(name, root, **more):
    return corpora.read(CorpusSettings(name=name, root=str(root), **more))


def dropped(corpus):
    return {row["path"]: row["reason"] for row in corpus.dropped.to_pylist()}


class TestEmodb:
    def test_copies_formats_and_channels(self, tmp_path):
        audio.write(tmp_path / "wav" / "03a01Wa.wav", channels=2, rate=44100)
        audio.write(tmp_path / "wav" / "08b10Nf.flac")
        sound, rate = soundfile.read(tmp_path / "wav" / "03a01Wa.wav")
        soundfile.write(tmp_path / "wav" / "03a01Wa.flac", sound, rate)
        audio.write_cut(tmp_path / "wav" / "16a02Tb.wav")
        audio.write(tmp_path / "old" / "16a02Tb.flac")
        soundfile.write(tmp_path / "08b10Nf.ogg", sound, rate)
        corpus = read("emodb", tmp_path)
        rows = {row["utterance"]: row for row in corpus.utterances.to_pylist()}
        assert {u: (r["path"], r["channels"], r["sample_rate"]) for u, r in rows.items()} == {
            "emodb/03a01Wa": ("wav/03a01Wa.wav", 2, 44100),
            "emodb/08b10Nf": ("wav/08b10Nf.flac", 1, 16000),
            "emodb/16a02Tb": ("old/16a02Tb.flac", 1, 16000),  # the WAV is cut, so the sound copy counts
        }
        reasons = dropped(corpus)
        assert reasons["wav/03a01Wa.flac"] == "a copy of wav/03a01Wa.wav"
        assert "differing content (44100 Hz, 2 channels" in reasons["08b10Nf.ogg"]
        assert "the file is cut" in reasons["wav/16a02Tb.wav"]

    @pytest.mark.parametrize("name", ["03a03Wa", "04a01Wa", "03a01Wg", "03a01Xa", "03a01W", "03a01Waa", "03A01WA"])
    def test_names_outside_of_the_grammar(self, tmp_path, name):
        write_tone(tmp_path / "03a01Wa.wav")
        write_tone(tmp_path / f"{name}.flac")
        assert set(dropped(read("emodb", tmp_path))) == {f"{name}.flac"}


class TestRavdess:
    def test_all_parts_of_the_release_in_one_folder(self, tmp_path):
        speech = "Audio_Speech_Actors_01-24/Actor_02/03-01-05-02-01-01-02.wav"
        audio.write(tmp_path / speech, rate=48000, channels=2)
        junk = {
            "Audio_Song_Actors_01-24/Actor_02/03-02-05-02-01-01-02.wav": "not audio-only speech",
            "Video_Speech_Actor_02/01-01-05-02-01-01-02.wav": "not audio-only speech",
            "Audio_Speech_Actors_01-24/Actor_02/03-01-01-02-01-01-02.wav": "neutral has no strong intensity",
            "Audio_Speech_Actors_01-24/Actor_02/03-01-05-02-01-01-25.wav": "the name is not that",
            "Audio_Speech_Actors_01-24/Actor_02/03-01-05-02-01-01.wav": "the name is not that",
            "__MACOSX/Actor_02/._03-01-05-02-01-01-02.wav": "hidden",
        }
        for path in junk:
            audio.write(tmp_path / path)
        shutil.copytree(tmp_path / "Audio_Speech_Actors_01-24" / "Actor_02", tmp_path / "b" / "b" / "Actor_02")
        corpus = read("ravdess", tmp_path)
        (row,) = corpus.utterances.to_pylist()
        assert (row["path"], row["speaker"], row["gender"]) == (speech, "ravdess/02", "female")
        assert (row["intended"], row["scenario"], row["text"], row["channels"]) == ("angry", "strong", "01", 2)
        reasons = dropped(corpus)
        assert reasons["b/b/Actor_02/03-01-05-02-01-01-02.wav"] == f"a copy of {speech}"
        for path, part in junk.items():
            assert part in reasons[path]

    def test_digits_of_other_scripts_are_no_digits(self, tmp_path):
        audio.write(tmp_path / "03-01-05-01-01-01-01.wav")
        audio.write(tmp_path / "03-01-05-01-01-01-1\N{ARABIC-INDIC DIGIT TWO}.wav")
        assert read("ravdess", tmp_path).utterances.num_rows == 1


def manifest(root, text, name="table.csv", files=("wav/a.wav", "wav/b.wav"), **more):
    for number, file in enumerate(files):
        write_tone(root / file, seed=number)
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read("manifest", root, class_set="full", **more)


def cells(corpus, *names):
    return [tuple(row[name] for name in names) for row in corpus.utterances.to_pylist()]


class TestManifestTables:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("t.csv", "file,speaker,label\nwav/a.wav,01,x y\nwav/b.wav,2,z\n"),
            ("t.csv", "\ufefffile;speaker;label\r\nwav/a.wav;01;x y\r\n\r\nwav/b.wav;2;z\r\n"),
            ("t.tsv", "file\tspeaker\tlabel\nwav/a.wav\t01\tx y\nwav/b.wav\t2\tz"),
            ("t.csv", 'sep=;\nfile;speaker;label;\n"wav/a.wav";01;"x y";\nwav/b.wav;2;z;\n'),
            ("t.csv", "Datei|Sprecher|Gefühl\nwav\\a.wav|01|x y\nwav\\b.wav|2|z\n"),
            ("t.csv", "file;speaker;label\nwav/a.wav;01;x y\nwav/b.wav;2;z\n".encode("utf-16")),
            ("t.csv", "Wav Path, SPK-ID ,Emotion Label,note\na,01,x y,\nb.wav,2,z,n/a\n"),
            ("t.jsonl", '{"path": "wav/a", "spkr": "01", "emo": "x y"}\n{"path": "wav/b", "spkr": 2.0, "emo": "z"}\n'),
        ],
    )
    def test_many_spellings_of_one_table(self, tmp_path, name, text):
        corpus = manifest(tmp_path, text, name)
        assert cells(corpus, "path", "speaker", "intended") == [
            ("wav/a.wav", "manifest/01", "x y"),
            ("wav/b.wav", "manifest/2", "z"),
        ]
        assert corpus.dropped.num_rows == 0

    def test_parquet_with_times_attributes_and_nested_paths(self, tmp_path):
        for file in ("a.wav", "b.wav"):
            write_tone(tmp_path / file)
        table = {
            "audio": [{"path": "a.wav", "bytes": None}, {"path": "b.wav", "bytes": None}],
            "speaker": [1.0, None],
            "label": ["x", "y"],
            "onset": pa.array([100_000, 0], pa.duration("us")),
            "offset": pa.array([400_000, 500_000], pa.duration("us")),
            "valence": [0.25, float("nan")],
            "dialog": ["d1", None],
        }
        pa.parquet.write_table(pa.table(table), tmp_path / "t.parquet")
        corpus = read("manifest", tmp_path, class_set="full")
        assert cells(corpus, "utterance", "speaker", "start", "end", "valence", "recording") == [
            ("manifest/a@0.1", "manifest/1", 0.1, 0.4, 0.25, "d1"),
            ("manifest/b@0.0", None, 0.0, 0.5, None, "b.wav"),
        ]

    def test_intended_and_perceived(self, tmp_path):
        corpus = manifest(tmp_path, "file,speaker,intended,perceived\nwav/a.wav,s,sad,calm\nwav/b.wav,s,,sad\n")
        assert cells(corpus, "intended", "perceived") == [("sad", "calm"), (None, "sad")]

    def test_offset_ends_an_onset_or_begins_a_duration(self, tmp_path):
        head = "audio_filepath,duration,offset,speaker,label\n"
        corpus = manifest(tmp_path, head + "wav/a.wav,0.2,0.3,s,x\nwav/b.wav,0,0.1,s,x\n")
        assert cells(corpus, "start", "end") == [(0.3, 0.5)]
        assert "no span" in dropped(corpus)["table.csv:3"]

    def test_every_row_that_is_no_utterance_is_told(self, tmp_path):
        text = (
            "file,speaker,label,start,end,arousal\n"
            "wav/a.wav,s,x,0.1,0.2,3\n"
            "wav/a.wav,s,x,0.2,0.1,3\n"
            "wav/a.wav,s\n"
            "wav/a.wav,s,x,,,3,surplus\n"
            "wav/a.wav,s,NA,,,\n"
            "wav/a.wav,s,x,,,high\n"
            "wav/a.wav,s,x,,,inf\n"
            "wav/a.wav,s,x,0.1,0.3,3\n"
            "wav/c.wav,s,x,,,\n"
            '"wav/two\nlines.wav",s,x,,,\n'
            "last.wav,s,x,0:00:61,,\n"
        )
        corpus = manifest(tmp_path, text, files=("wav/a.wav", "wav/b.wav", "x/same.wav", "y/same.wav"))
        assert cells(corpus, "utterance") == [("manifest/wav/a@0.1",)]
        reasons = dropped(corpus)
        for line, part in {
            3: "no span of seconds",
            4: "2 cells under 6 columns",
            5: "7 cells under 6 columns",
            6: "no file or no label",
            7: "not 'high'",
            8: "not 'inf'",
            9: "stands in an earlier row already",
            13: "start 0:00:61 and end None are no span of seconds",
        }.items():
            assert part in reasons[f"table.csv:{line}"]
        assert reasons["wav/c.wav"] == reasons["wav/two\nlines.wav"] == "the file is missing"
        assert reasons["wav/b.wav"] == "no usable row of table.csv names it"

    def test_rows_that_contradict_each_other_are_refused(self, tmp_path):
        text = "file,speaker,label\nwav/a.wav,s,x\nwav/b.wav,s,y\nwav/a.wav,s,x\n"
        assert "earlier row already" in dropped(manifest(tmp_path, text))["table.csv:4"]
        for other in ("wav/a.wav,s,y", "wav/a.wav,t,x"):
            with pytest.raises(
                EmodartsError, match=r"table.csv:2 and table.csv:5 say different things of manifest/wav/a:"
            ):
                manifest(tmp_path, f"{text}{other}\n")

    def test_words_for_nobody_are_no_speaker(self, tmp_path):
        text = "file,speaker,label\nwav/a.wav,Unknown,x\nwav/b.wav,?,y\n"
        assert cells(manifest(tmp_path, text), "speaker") == [(None,), (None,)]

    def test_one_spelling_for_accents_in_cells(self, tmp_path):
        text = "file,speaker,label\nwav/a.wav,J\u00f6rg,m\u00fcde\nwav/b.wav,Jo\u0308rg,mu\u0308de\n"
        assert cells(manifest(tmp_path, text), "speaker", "intended") == [("manifest/J\u00f6rg", "m\u00fcde")] * 2

    def test_milliseconds_are_not_taken_for_seconds(self, tmp_path):
        text = "file,speaker,label,start,end\nwav/a.wav,s,x,0,600\nwav/b.wav,s,x,500,600\nwav/b.wav,s,x,0.2,0.9\n"
        corpus = manifest(tmp_path, text)
        assert cells(corpus, "utterance", "end") == [("manifest/wav/b@0.2", 0.9)]
        assert "its end of 600 s lies behind the end of the file" in dropped(corpus)["wav/a.wav"]
        assert "its start of 500 s" in dropped(corpus)["wav/b.wav"]

    def test_bare_names_are_found_where_one_file_has_them(self, tmp_path):
        text = "file,speaker,label\na,s,x\nsame.wav,s,x\nb.wav,s,y\n"
        corpus = manifest(tmp_path, text, files=("deep/a.wav", "x/same.wav", "y/same.wav", ".bin/b.wav", "z/b.wav"))
        assert cells(corpus, "path") == [("deep/a.wav",), ("z/b.wav",)]
        assert "2 files are called same.wav, for example x/same.wav and y/same.wav" in dropped(corpus)["table.csv:3"]

    def test_paths_relative_to_a_table_in_a_folder(self, tmp_path):
        (tmp_path / "meta").mkdir()
        text = "file,speaker,label\n../wav/a.wav,s,x\nwav/b.wav,s,x\n../../c.wav,s,x\n"
        corpus = manifest(tmp_path, text, name="meta/t.csv", table="meta/t.csv")
        assert cells(corpus, "path") == [("wav/a.wav",), ("wav/b.wav",)]
        assert "outside" in dropped(corpus)["t.csv:4"]

    def test_accents_in_one_or_two_letters(self, tmp_path):
        corpus = manifest(tmp_path, "file,speaker,label\nm\u00fc.wav,s,x\n", files=("mu\u0308.wav",))
        assert cells(corpus, "path") == [("mu\u0308.wav",)]

    def test_the_own_split_is_a_protocol(self, tmp_path):
        parts = ["Train", "Validation", "Test1", "Test2", ""]
        lines = [f"{part or 'none'}{n}.wav,{part or 'x'},{'xy'[n % 2]},{part}" for part in parts for n in range(4)]
        files = [line.split(",")[0] for line in lines]
        manifest(tmp_path, "\n".join(["file,speaker,label,partition", *lines]), files=files)
        chosen = CorpusSettings(name="manifest", root=str(tmp_path), class_set="full", protocol="manifest/official")
        corpus = corpora.read(chosen)
        (fold,) = make_folds(chosen, corpus.utterances, label_utterances(corpus.utterances, chosen))
        assert {name: len(ids) for name, ids in fold.tests.items()} == {"manifest/test1": 4, "manifest/test2": 4}
        assert (len(fold.train), len(fold.dev), len(fold.left_out)) == (4, 4, 4)


class TestManifestRefusals:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a,b\n1,2\n", r"no column for 'file' among a, b.*names such as file, path"),
            ("file,label\na.wav,x\n", r"no column for 'speaker' among file, label.*corpus\.columns\.speaker=\.\.\."),
            ("file,speaker\na.wav,x\n", r"no column for 'label'"),
            ("file,speaker,label,emotion\na,s,x,1\n", r"label and emotion could both be the label.*columns\.label"),
            ("", r"no column for 'file' among none"),
            ('file,speaker,label\n"a.wav,s,x\n', r"table\.csv:2: cannot be read as a table"),
        ],
    )
    def test_tables_that_cannot_be_guessed(self, tmp_path, text, message):
        with pytest.raises(EmodartsError, match=message):
            manifest(tmp_path, text)

    def test_broken_json_and_parquet(self, tmp_path):
        (tmp_path / "t.jsonl").write_text('{"file": "a.wav"}\n{"file"\n')
        with pytest.raises(EmodartsError, match="JSON after row 1"):
            read("manifest", tmp_path)
        (tmp_path / "t.jsonl").write_text(json.dumps(["no object"]))
        with pytest.raises(EmodartsError, match="no column for 'file'"):
            read("manifest", tmp_path)
        (tmp_path / "t.jsonl").unlink()
        (tmp_path / "t.parquet").write_bytes(b"PAR1 no table")
        with pytest.raises(EmodartsError, match="cannot be read as a table"):
            read("manifest", tmp_path)

    def test_two_tables(self, tmp_path):
        (tmp_path / "a.csv").write_text("")
        (tmp_path / "b.tsv").write_text("")
        (tmp_path / ".c.csv").write_text("")
        with pytest.raises(EmodartsError, match=r"found a\.csv, b\.tsv; name it with corpus\.table"):
            read("manifest", tmp_path)


class TestFolders:
    def test_links_are_followed_once_and_loops_end(self, tmp_path):
        root, outside = tmp_path / "root", tmp_path / "outside"
        write_tone(root / "wav" / "03a01Wa.wav")
        write_tone(outside / "03a01Nc.wav")
        for link, target in (("up", root), ("same", root / "wav"), ("b", outside), ("c", outside), ("a.wav", "a.wav")):
            (root / link).symlink_to(target)
        (outside / "back").symlink_to(root)
        (root / "08a01Wa.wav").symlink_to(tmp_path / "nowhere.wav")
        (root / "folder.wav").mkdir()
        found = [path.relative_to(root).as_posix() for path in audio_files(root)]
        assert found == ["08a01Wa.wav", "a.wav", "b/03a01Nc.wav", "wav/03a01Wa.wav"]
        corpus = read("emodb", root)
        assert cells(corpus, "path") == [("b/03a01Nc.wav",), ("wav/03a01Wa.wav",)]
        assert dropped(corpus)["08a01Wa.wav"] == "the file is missing"

    def test_a_name_that_is_not_utf8(self, tmp_path):
        write_tone(tmp_path / "03a01Wa.wav")
        try:
            shutil.copy(tmp_path / "03a01Wa.wav", os.fsencode(tmp_path) + b"/caf\xe9.wav")
        except OSError:
            pytest.skip("this file system wants UTF-8")
        assert set(dropped(read("emodb", tmp_path))) == {"caf\\xe9.wav"}
        odd = next(path for path in audio_files(tmp_path) if path.name != "03a01Wa.wav")
        rows = [Utterance("x/a", "03a01Wa.wav", None), Utterance("x/b", odd.name, None)]
        assert dropped(build_corpus("x", tmp_path, rows, "")) == {"caf\\xe9.wav": "its name is not UTF-8: rename it"}

    def test_what_may_not_be_read_is_told(self, tmp_path, monkeypatch):
        write_tone(tmp_path / "03a01Wa.wav")
        write_tone(tmp_path / "locked" / "03a01Nc.wav")
        scandir = os.scandir

        def refuse(path):
            if os.path.basename(path) == "locked":
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(EmodartsError, match="locked cannot be read: Permission denied"):
            read("emodb", tmp_path)

    def test_a_file_that_may_not_be_read(self, tmp_path):
        write_tone(tmp_path / "a.wav")
        (tmp_path / "a.wav").chmod(0)
        if os.access(tmp_path / "a.wav", os.R_OK):
            pytest.skip("this user may read everything")
        assert "Permission denied" in read_header(tmp_path / "a.wav")

    def test_a_folder_and_a_pipe_are_no_files(self, tmp_path):
        (tmp_path / "a.wav").mkdir()
        os.mkfifo(tmp_path / "b.wav")
        assert read_header(tmp_path / "a.wav") == read_header(tmp_path / "b.wav") == "no regular file"


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24414, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize(
    ("suffix", "subtype"), [("flac", "PCM_16"), ("flac", "PCM_24"), ("wav", "FLOAT"), ("wav", "ULAW")]
)
def test_sound_headers_are_read(tmp_path, rate, suffix, subtype):
    path = tmp_path / f"a.{suffix}"
    for channels, frames in ((1, 4096), (2, 4097), (6, 17)):  # whole blocks, one sample more, less than a block
        sound = np.random.default_rng(0).normal(0, 0.1, (frames, channels))
        soundfile.write(path, sound, rate, subtype=subtype)
        assert read_header(path) == Header(rate, channels, frames)


def test_a_long_flac_with_a_tag_in_front(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 600_000), 16000)
    path.write_bytes(b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128) + path.read_bytes())
    assert read_header(path) == Header(16000, 1, 600_000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5", 1.5),
        ("0 days 00:00:01.500000", 1.5),
        ("1 day 01:00:00", 90000.0),
        ("2:03", 123.0),
        ("1:02:03.25", 3723.25),
        ("", None),
        (None, None),
    ],
)
def test_points_in_time(text, value):
    assert parse_seconds(text) == value


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon", "1:2:3:4", "-1 days 00:00:00", "0:00:61", "0:75:00"])
def test_no_points_in_time(text):
    with pytest.raises(ValueError, match=r".*"):
        parse_seconds(text)
