"""Odd inputs that must become one sentence or one dropped row, and folds that must be refused."""

from dataclasses import replace

import numpy as np
import pytest

from emodarts import corpora, metrics
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols.folds import check_fold
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from tests.support.files import write_tone
from tests.support.layouts import crema_d, iemocap, msp_improv


def manifest(root, text, **more):
    for number in range(3):
        write_tone(root / f"a{number}.wav")
    table = root / "table.csv"
    table.write_bytes(text) if isinstance(text, bytes) else table.write_text(text)
    return corpora.read(CorpusSettings(name="manifest", root=str(root), class_set="full", **more))


def dropped(corpus):
    return {row["path"]: row["reason"] for row in corpus.dropped.to_pylist()}


class TestManifest:
    def test_speakers_keep_their_zeros(self, tmp_path):
        corpus = manifest(tmp_path, "file,speaker,label\na0.wav,01,x\na1.wav,1,y\n")
        assert corpus.utterances["speaker"].to_pylist() == ["manifest/01", "manifest/1"]

    def test_text_that_is_not_utf8_is_an_error(self, tmp_path):
        with pytest.raises(EmodartsError, match="invalid UTF8"):
            manifest(tmp_path, "file,speaker,label\na0.wav,M\xfcller,x\n".encode("latin1"))

    def test_blanks_around_names_and_values(self, tmp_path):
        row = manifest(tmp_path, "file, speaker, label\na0.wav, s , x\n").utterances.to_pylist()[0]
        assert (row["speaker"], row["intended"]) == ("manifest/s", "x")

    def test_two_columns_of_one_name(self, tmp_path):
        with pytest.raises(EmodartsError, match="several columns 'label'"):
            manifest(tmp_path, "file,speaker,label,label\na0.wav,s,x,x\n")

    @pytest.mark.parametrize("start", ["abc", "-1", "inf"])
    def test_a_start_that_is_no_time(self, tmp_path, start):
        corpus = manifest(tmp_path, f"file,speaker,label,start\na0.wav,s,x,{start}\na1.wav,s,y,0.1\n")
        assert "no span of seconds" in dropped(corpus)["table.csv:2"]
        assert corpus.utterances["utterance"].to_pylist() == ["manifest/a1@0.1"]

    def test_absolute_paths(self, tmp_path):
        rows = f"file,speaker,label\n{tmp_path}/a0.wav,s,x\n/elsewhere/a1.wav,s,x\n../a2.wav,s,x\n"
        corpus = manifest(tmp_path, rows)
        assert corpus.utterances["utterance"].to_pylist() == ["manifest/a0"]
        assert {"table.csv:3", "table.csv:4"} <= set(dropped(corpus))

    def test_files_that_no_row_names(self, tmp_path):
        corpus = manifest(tmp_path, "file,speaker,label\na0.wav,s,x\n")
        assert set(dropped(corpus)) == {"a1.wav", "a2.wav"}

    def test_the_official_split_is_kept(self, tmp_path):
        corpus = manifest(tmp_path, "file,speaker,label,part\na0.wav,s,x,Train\n", columns={"split": "part"})
        assert corpus.utterances["split"].to_pylist() == ["Train"]


class TestDemo:
    def test_roots_that_cannot_be(self, tmp_path):
        file = tmp_path / "file"
        file.write_text("x")
        with pytest.raises(EmodartsError, match="is a file, not a folder"):
            corpora.read(CorpusSettings(root=str(file)))
        with pytest.raises(EmodartsError, match="cannot be made"):
            corpora.read(CorpusSettings(root=str(file / "below")))
        with pytest.raises(EmodartsError, match=r"corpus\.demo_seed=-1"):
            CorpusSettings(demo_seed=-1)

    @pytest.mark.slow
    def test_junk_and_a_torn_marker(self, tmp_path):
        root = tmp_path / "demo"
        corpora.read(CorpusSettings(root=str(root)))
        for name in ("._s0_angry_0.wav", "x_angry_0.wav"):
            write_tone(root / name)
        assert set(dropped(corpora.read(CorpusSettings(root=str(root))))) == {"._s0_angry_0.wav", "x_angry_0.wav"}
        (root / "demo.json").write_text("{")
        with pytest.raises(EmodartsError, match="another seed or version"):
            corpora.read(CorpusSettings(root=str(root)))


def test_copies_in_hidden_folders_are_dropped(tmp_path):
    for folder in ("wav", ".bin"):
        write_tone(tmp_path / folder / "03a01Wa.wav")
    corpus = corpora.read(CorpusSettings(name="emodb", root=str(tmp_path)))
    assert dropped(corpus) == {".bin/03a01Wa.wav": "a hidden file or folder"}


def test_calm_follows_its_policy_in_any_class_set(tmp_path):
    for number, emotion in enumerate(("01", "02", "05") * 2):
        write_tone(tmp_path / f"03-01-{emotion}-01-01-01-{number // 3 + 1:02d}.wav")

    def counted(**more):
        settings = CorpusSettings(name="ravdess", root=str(tmp_path), **more)
        return sorted(label_utterances(corpora.read(settings).utterances, settings).by_utterance.values())

    assert counted(class_set="angry,neutral", calm="neutral") == ["angry"] * 2 + ["neutral"] * 4
    assert counted(class_set="angry,neutral") == ["angry"] * 2 + ["neutral"] * 2
    assert counted(class_set="angry,calm", calm="neutral") == ["angry"] * 2 + ["calm"] * 2


def test_a_class_named_twice_is_one_class(small_corpus):
    settings = CorpusSettings(name="manifest", root=str(small_corpus), class_set="sad, sad")
    with pytest.raises(EmodartsError, match="fewer than two classes"):
        label_utterances(corpora.read(settings).utterances, settings)


class TestRefusedFolds:
    @pytest.fixture
    def fold(self, demo):
        return demo[2][0]

    def test_without_groups_a_leak_is_still_seen(self, fold):
        leak = fold.tests["demo/test"][0]
        leaking = replace(fold, train=(*fold.train, leak), tests={"demo/test": fold.tests["demo/test"][1:]})
        for groups in ({}, {u: u for u in fold.groups}):
            with pytest.raises(EmodartsError, match="speaker demo/s0 stands in train and in test"):
                check_fold(replace(leaking, groups=groups))

    def test_without_any_owner(self, fold):
        with pytest.raises(EmodartsError, match="neither speaker nor group"):
            check_fold(replace(fold, groups={}))

    def test_an_utterance_twice(self, fold):
        with pytest.raises(EmodartsError, match="stands in train and in train"):
            check_fold(replace(fold, train=(*fold.train, fold.train[0])))
        tests = {**fold.tests, "demo/more": fold.tests["demo/test"][:1]}
        with pytest.raises(EmodartsError, match="test set demo/test and in test set demo/more"):
            check_fold(replace(fold, tests=tests))

    def test_an_empty_test_set(self, fold):
        with pytest.raises(EmodartsError, match="test set demo/more part is empty"):
            check_fold(replace(fold, tests={**fold.tests, "demo/more": ()}))

    def test_a_label_outside_of_the_classes(self, fold):
        with pytest.raises(EmodartsError, match="no declared class"):
            check_fold(replace(fold, labels={**fold.labels, fold.dev[0]: "perplexed"}))

    def test_hidden_test_labels_are_no_fault(self, fold):
        public = {u: c for u, c in fold.labels.items() if u not in fold.tests["demo/test"]}
        assert len(public) < len(fold.labels)
        check_fold(replace(fold, labels=public))  # raises nothing


def test_metrics_refuse_what_they_cannot_count():
    # with 3 classes, label 0 and prediction 4 would share a cell with label 1 and prediction 1
    with pytest.raises(ValueError, match=r"outside of 0 \.\. 2"):
        metrics.uar(np.array([0, 1]), np.array([4, 1]), 3)
    with pytest.raises(ValueError, match="1 labels but 3"):
        metrics.war(np.array([0]), np.array([0, 0, 0]))


class TestClassSets:
    @pytest.mark.parametrize("given", ["angry,sad", " Angry , SAD,,", "full", "Full"])
    def test_case_and_blanks_do_not_count(self, small_corpus, given):
        chosen = CorpusSettings(name="manifest", root=str(small_corpus), class_set=given)
        assert label_utterances(corpora.read(chosen).utterances, chosen).classes == ("angry", "sad")

    @pytest.mark.parametrize("given", ["fourr", "angry", "angry;sad", "four", ""])
    def test_a_wrong_one_is_told_what_there_is(self, small_corpus, given):
        chosen = CorpusSettings(name="manifest", root=str(small_corpus), class_set=given)
        with pytest.raises(EmodartsError, match=r"there are angry \(16\), sad \(16\)"):
            label_utterances(corpora.read(chosen).utterances, chosen)


@pytest.mark.parametrize("layout", [iemocap, msp_improv, crema_d])
def test_labels_are_found_where_links_lead_as_audio_is(layout, tmp_path):
    name = layout.__name__.rpartition(".")[2]
    layout.write_corpus(tmp_path / "disk")
    (tmp_path / "root").mkdir()
    for part in (tmp_path / "disk").iterdir():
        (tmp_path / "root" / part.name).symlink_to(part)
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "link").symlink_to(tmp_path / "disk")
    plain, *linked = (
        corpora.read(CorpusSettings(name=name, root=str(tmp_path / root))).utterances
        for root in ("disk", "root", "all")
    )
    assert all(table.drop_columns("path").equals(plain.drop_columns("path")) for table in linked)
