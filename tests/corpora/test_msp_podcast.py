"""The MSP-Podcast reader on small synthetic releases: every form of its labels, unknown speakers, Test3, protocols."""

import json

import pyarrow as pa
import pytest

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.protocols import rules
from emodarts.corpora.protocols.folds import make_folds
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from tests.support.layouts import check_folds, folds_of
from tests.support.layouts.audio import write
from tests.support.layouts.msp_podcast import COLUMNS, FORMS, SPEAKERS, write_corpus

ROW = ("MSP-PODCAST_0001_0008.wav", "N", "2.2", "4.0", "2.6", "30", "Male", "Train")


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    root = tmp_path_factory.mktemp("msp_podcast")
    return root, write_corpus(root)


def read(root):
    return corpora.read(CorpusSettings(name="msp_podcast", root=str(root)))


def few(root, text, name="labels_consensus.csv", turns=("MSP-PODCAST_0001_0008", "MSP-PODCAST_0001_0009")):
    """A release with these turns, read: rows by the turn's name, reasons by path."""
    (root / "Labels").mkdir(parents=True, exist_ok=True)
    (root / "Labels" / name).write_text(text)
    for turn in turns:
        write(root / f"Audios/{turn}.wav")
    corpus = read(root)
    return {row["utterance"].removeprefix("msp_podcast/"): row for row in corpus.utterances.to_pylist()}, {
        row["path"]: row["reason"] for row in corpus.dropped.to_pylist()
    }


def table(*rows):
    return "".join(",".join(cells) + "\n" for cells in (COLUMNS, *rows))


class TestReader:
    @pytest.mark.parametrize("form", FORMS)
    def test_everything_on_disk_is_a_row_or_a_drop(self, tmp_path, form):
        write_corpus(tmp_path, form).assert_matches(read(tmp_path))

    @pytest.mark.parametrize("folders", [("labels", "Audio"), ("label", "Audios")])
    def test_older_names(self, tmp_path, folders):
        form = "labels_concensus.csv"
        write_corpus(tmp_path, form, folders=folders, dev="Validation").assert_matches(read(tmp_path))

    def test_root_may_hold_the_release(self, tmp_path):
        write_corpus(tmp_path / "MSP-PODCAST-Publish-1.11", junk=False)
        rows = read(tmp_path).utterances.to_pylist()
        assert {row["speaker"] for row in rows} == {f"msp_podcast/{s}" for ids in SPEAKERS.values() for s in ids}
        write_corpus(tmp_path / "MSP-PODCAST-Publish-1.12", junk=False)
        with pytest.raises(EmodartsError, match="several releases"):
            read(tmp_path)

    def test_the_consensus_goes_before_the_other_forms(self, tmp_path):
        write_corpus(tmp_path, "labels.txt", junk=False)
        (tmp_path / "Labels" / "labels_consensus.csv").write_text(table(("MSP-PODCAST_0002_0000.wav", *ROW[1:])))
        corpus = read(tmp_path)
        assert corpus.utterances["perceived"].to_pylist() == ["N"]  # labels.txt says A

    def test_two_spellings_that_differ(self, tmp_path):
        (tmp_path / "Labels").mkdir()
        (tmp_path / "Labels" / "labels_concensus.csv").write_text(table((ROW[0], "S", *ROW[2:])))
        with pytest.raises(EmodartsError, match=r"labels_concensus\.csv and .*labels_consensus\.csv .* differ"):
            few(tmp_path, table(ROW))

    def test_unknown_speakers_are_grouped_by_podcast(self, layout):
        _, labels, (fold,) = folds_of("msp_podcast", layout[0])
        unknown = [u for u in fold.train if fold.speakers[u] is None]
        assert sorted(fold.labels[u] for u in unknown) == ["angry", "happy", "neutral", "sad"]
        assert {fold.groups[u] for u in unknown} == {"msp_podcast/unknown/0002"}
        assert "O" in labels.left_out

    def test_labels_txt_without_its_neighbours_says_what_is_missing(self, tmp_path):
        line = "MSP-PODCAST_0001_0008.wav; N; A:2.4; V:4.0; D:2.8;\n"
        rows, dropped = few(tmp_path, line, "labels.txt", turns=("MSP-PODCAST_0001_0008",))
        assert rows["MSP-PODCAST_0001_0008"]["speaker"] is None
        assert rows["MSP-PODCAST_0001_0008"]["arousal"] == pytest.approx(2.4)
        assert set(dropped) == {"Speaker_ids.txt", "Partitions.txt"}

    def test_no_labels(self, tmp_path):
        write(tmp_path / "Audios/MSP-PODCAST_0001_0008.wav")
        with pytest.raises(EmodartsError, match="no folder Labels"):
            read(tmp_path)
        (tmp_path / "Labels").mkdir()
        with pytest.raises(EmodartsError, match=r"none of labels_consensus\.csv"):
            read(tmp_path)


class TestLabelFiles:
    def test_two_labels_of_one_turn(self, tmp_path):
        with pytest.raises(EmodartsError, match=r"labels_consensus\.csv:2 and .*csv:4 .*0001_0008 \(N, .*; H, "):
            few(tmp_path, table(ROW, ("MSP-PODCAST_0001_0009.wav", *ROW[1:]), (ROW[0], "H", *ROW[2:])))

    def test_two_speakers_of_one_turn(self, tmp_path):
        with pytest.raises(EmodartsError, match=r"30, Male, Train; .*39, Male, Train"):
            few(tmp_path, table(ROW, (*ROW[:5], "39", *ROW[6:])))

    def test_the_same_line_twice(self, tmp_path):
        rows, dropped = few(tmp_path, table(ROW, ROW), turns=("MSP-PODCAST_0001_0008",))
        assert list(rows) == ["MSP-PODCAST_0001_0008"]
        assert "says the same" in dropped["Labels/labels_consensus.csv:3"]

    def test_a_column_that_is_missing(self, tmp_path):
        with pytest.raises(EmodartsError, match=r"labels_consensus\.csv:1: the column spkrid is not there"):
            few(tmp_path, table(ROW).replace("SpkrID", "Speaker"))

    def test_json_that_is_broken(self, tmp_path):
        with pytest.raises(EmodartsError, match=r"labels_consensus\.json:2: no JSON at column"):
            few(tmp_path, '{"MSP-PODCAST_0001_0008.wav":\n {"EmoClass" "N"}}', "labels_consensus.json")

    def test_json_that_says_a_turn_twice(self, tmp_path):
        record = json.dumps(dict(zip(COLUMNS[1:], ROW[1:], strict=True)))
        text = f'{{"{ROW[0]}": {record}, "{ROW[0]}": {record.replace(chr(78), "H")}}}'
        with pytest.raises(EmodartsError, match="say different things of MSP-PODCAST_0001_0008"):
            few(tmp_path, text, "labels_consensus.json")

    def test_a_turn_with_an_unreadable_vote_gets_no_label(self, tmp_path):
        votes = "FileName,Workers,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom\n" + "".join(
            f"MSP-PODCAST_0001_000{turn}.wav,w{worker},{word},,3,4,5\n"
            for turn in (8, 9)
            for worker, word in enumerate(("Happy", "Happy", "Sxd" if turn == 9 else "Sad"))
        )
        rows, dropped = few(tmp_path, votes, "labels_detailed.csv")
        assert {name: row["perceived"] for name, row in rows.items()} == {"MSP-PODCAST_0001_0008": "H"}
        assert "cannot be read" in dropped["Labels/labels_detailed.csv:7"]
        assert "no label" in dropped["Audios/MSP-PODCAST_0001_0009.wav"]

    def test_the_side_files_contradict_themselves(self, tmp_path):
        (tmp_path / "Partitions.txt").write_text("Train; MSP-PODCAST_0001_0008.wav\nTest1; MSP-PODCAST_0001_0008.wav\n")
        with pytest.raises(EmodartsError, match=r"Partitions\.txt:1 and Partitions\.txt:2 .*Train; Test1"):
            few(tmp_path, "MSP-PODCAST_0001_0008.wav; N; A:2.4; V:4.0; D:2.8;\n", "labels.txt")


class TestProtocols:
    def test_official_has_three_test_sets(self, layout):
        corpus, labels, folds = folds_of("msp_podcast", layout[0])
        check_folds(folds, labels)
        (fold,) = folds
        splits = dict(zip(*(corpus.utterances[name].to_pylist() for name in ("utterance", "split")), strict=True))
        assert {splits[u] for u in fold.train} == {"Train"}
        assert {splits[u] for u in fold.dev} == {"Development"}
        for name, ids in fold.tests.items():
            assert {splits[u] for u in ids} == {name.removeprefix("msp_podcast/").capitalize()}
        assert list(fold.tests) == ["msp_podcast/test1", "msp_podcast/test2", "msp_podcast/test3"]
        assert not {*fold.labels} & {*fold.tests["msp_podcast/test3"]}

    def test_official_without_test3(self, tmp_path):
        write_corpus(tmp_path, junk=False)
        _, labels, folds = folds_of("msp_podcast", tmp_path)
        check_folds(folds, labels)
        assert list(folds[0].tests) == ["msp_podcast/test1", "msp_podcast/test2"]

    @pytest.mark.parametrize("protocol", ["speaker5", "speaker4"])
    def test_a_podcast_of_several_speakers_stays_in_one_role(self, layout, protocol):
        """Each turn of a second speaker moves into the podcast of another one: a host and a guest."""
        settings = CorpusSettings(name="msp_podcast", root=str(layout[0]), protocol=protocol)
        corpus = corpora.read(settings)
        rows = corpus.utterances.to_pylist()
        known = sorted({row["speaker"] for row in rows if row["speaker"]})
        guests = dict(zip(known[::2], known[1::2], strict=False))
        for row in rows:
            if row["speaker"] in guests and row["utterance"].endswith(("0000", "0001")):
                row["recording"] = next(r["recording"] for r in rows if r["speaker"] == guests[row["speaker"]])
        table = pa.Table.from_pylist(rows, corpus.utterances.schema)
        labels = label_utterances(table, settings)
        folds = make_folds(settings, table, labels)
        recordings = {row["utterance"]: row["recording"] for row in rows}
        tested = [u for fold in folds for u in fold.tests["msp_podcast/test"]]
        assert (
            len(tested)
            == len(set(tested))
            == sum(bool(r["speaker"]) for r in rows if r["utterance"] in labels.by_utterance)
        )
        assert any(rules.SHARED_RECORDING in fold.left_out.values() for fold in folds)
        for fold in folds:
            train, dev, test = ({recordings[u] for u in part} for part in (fold.train, fold.dev, fold.test_ids))
            assert not train & dev
            assert not (train | dev) & test

    def test_speaker5_is_balanced_and_unknown_speakers_only_train(self, layout):
        _, labels, folds = folds_of("msp_podcast", layout[0], protocol="speaker5")
        check_folds(folds, labels)
        sizes = [len(fold.tests["msp_podcast/test"]) for fold in folds]
        assert len(folds) == 5
        assert max(sizes) - min(sizes) <= 16  # the largest speaker
        for fold in folds:
            held_out = [*fold.dev, *fold.tests["msp_podcast/test"]]
            assert all(fold.speakers[u] for u in held_out)
            assert not {u for u in held_out if "test3" in u}
        tested = {u for fold in folds for u in fold.tests["msp_podcast/test"]}
        assert tested == {u for u in labels.by_utterance if folds[0].speakers.get(u) or u in tested}

    def test_emodarts_groups_speakers_in_string_order(self, layout):
        corpus, labels, folds = folds_of("msp_podcast", layout[0], protocol="emodarts")
        check_folds(folds, labels)
        splits = dict(zip(*(corpus.utterances[name].to_pylist() for name in ("utterance", "split")), strict=True))
        known = sorted({f"msp_podcast/{s}" for name in ("Train", "Test1", "Test2") for s in SPEAKERS[name]})
        assert known.index("msp_podcast/100") < known.index("msp_podcast/2")
        tests = [sorted({fold.speakers[u] for u in fold.tests["msp_podcast/test"]}) for fold in folds]
        assert [s for group in tests for s in group] == known
        assert {splits[u] for fold in folds for u in fold.train} == {"Train", "Test1", "Test2"}

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"source": "intended"}, "perceived labels alone"),
            ({"protocol": "speaker99"}, "choose one of msp_podcast/official"),
            ({"class_set": "angry,bored"}, "too few utterances of bored"),
        ],
    )
    def test_settings_that_do_not_fit(self, layout, settings, said):
        with pytest.raises(EmodartsError, match=said):
            folds_of("msp_podcast", layout[0], **settings)
