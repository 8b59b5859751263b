"""The MSP-IMPROV reader on a small synthetic copy: speakers, inverted activation, oddities, protocols."""

import pytest

from emodarts import corpora
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from tests.support.layouts import check_folds, folds_of
from tests.support.layouts.audio import write
from tests.support.layouts.msp_improv import line, write_corpus


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    root = tmp_path_factory.mktemp("msp_improv")
    return root, write_corpus(root)


def read(root):
    return corpora.read(CorpusSettings(name="msp_improv", root=str(root)))


def few(root, text, turns=("S01A-F02-R-FF01", "S01A-F02-R-MF01")):
    """A copy with these turns, read: rows by the turn's name, reasons by path."""
    (root / "Evalution.txt").write_bytes(text.encode("latin-1"))
    for turn in turns:
        write(root / f"Audio/MSP-IMPROV-{turn}.wav")
    corpus = read(root)
    return {row["utterance"].removeprefix("msp_improv/MSP-IMPROV-"): row for row in corpus.utterances.to_pylist()}, {
        row["path"]: row["reason"] for row in corpus.dropped.to_pylist()
    }


class TestReader:
    @pytest.mark.parametrize(
        ("folders", "labels"),
        [
            ("nested", "Evalution.txt"),
            ("all_sessions", "Evaluation.txt"),
            ("flat", "EVALUTION.TXT"),
            ("nested", "All_human/labels/evaluation.txt"),
        ],
    )
    def test_everything_on_disk_is_a_row_or_a_drop(self, tmp_path, folders, labels):
        write_corpus(tmp_path, folders=folders, labels=labels).assert_matches(read(tmp_path))

    def test_the_speaker_comes_from_the_last_token_not_from_the_target(self, layout):
        rows = {row["utterance"]: row for row in read(layout[0]).utterances.to_pylist()}
        for turn, speaker, gender in (
            ("S05H-F01-S-MF01", "M1", "male"),  # a dialog whose target is the woman; the man speaks
            ("S05H-F01-S-FM01", "F1", "female"),
            ("S09H-M02-P-MF01", "M2", "male"),
            ("S01A-F03-R-MF01", "M3", "male"),
        ):
            assert rows[f"msp_improv/MSP-IMPROV-{turn}"]["speaker"] == f"msp_improv/{speaker}"
            assert rows[f"msp_improv/MSP-IMPROV-{turn}"]["gender"] == gender
        by_target = [r for u, r in rows.items() if r["speaker"] != f"msp_improv/{u.split('-')[3].replace('0', '')}"]
        assert len(by_target) > len(rows) / 3  # token 4 would give these a wrong speaker
        assert len({row["speaker"] for row in rows.values()}) == 12

    def test_activation_is_turned_round(self, tmp_path):
        rows, _ = few(tmp_path, line("S01A-F02-R-FF01", "A", "3.333333", "2.333333", "3.000000"))
        row = rows["S01A-F02-R-FF01"]
        assert row["arousal"] == pytest.approx(2.666667)  # what is published for this turn
        assert row["valence"] == pytest.approx(2.333333)
        assert row["dominance"] == 3

    def test_the_letter_in_the_name_is_intended_alone(self, layout):
        rows = {row["utterance"]: row for row in read(layout[0]).utterances.to_pylist()}
        row = rows["msp_improv/MSP-IMPROV-S05H-F01-S-MF01"]
        assert (row["intended"], row["perceived"]) == ("H", "A")
        _, perceived, _ = folds_of("msp_improv", layout[0])
        _, intended, _ = folds_of("msp_improv", layout[0], source="intended")
        assert perceived.by_utterance[row["utterance"]] == "angry"
        assert intended.by_utterance[row["utterance"]] == "happy"
        assert {"O", "X"} <= set(perceived.left_out)

    def test_only_target_turns_have_the_sentence_as_text(self, layout):
        rows = read(layout[0]).utterances.to_pylist()
        assert {(row["scenario"], row["text"] is None) for row in rows} == {
            ("R", False),
            ("T", False),
            ("S", True),
            ("P", True),
        }


class TestLabelLines:
    def test_two_label_files_that_differ(self, tmp_path):
        (tmp_path / "Evaluation.txt").write_text(line("S01A-F02-R-FF01", "S"), "latin-1")
        with pytest.raises(EmodartsError, match=r"Evaluation\.txt and .*Evalution\.txt .* differ"):
            few(tmp_path, line("S01A-F02-R-FF01", "A"))

    def test_two_label_files_that_are_equal(self, tmp_path):
        (tmp_path / "Evaluation.txt").write_text(line("S01A-F02-R-FF01", "A"), "latin-1")
        rows, _ = few(tmp_path, line("S01A-F02-R-FF01", "A"))
        assert rows["S01A-F02-R-FF01"]["perceived"] == "A"

    def test_two_labels_of_one_turn(self, tmp_path):
        text = line("S01A-F02-R-FF01", "A") + line("S01A-F02-R-FF01", "H")
        with pytest.raises(EmodartsError, match=r"Evalution\.txt:1 and Evalution\.txt:6 .*FF01 \(A, .*; H, "):
            few(tmp_path, text)

    def test_audio_names_in_the_label_file(self, tmp_path):
        text = line("S01A-F02-R-FF01", "A").replace("UTD-", "MSP-").replace(".avi", ".wav")
        rows, _ = few(tmp_path, text)
        assert rows["S01A-F02-R-FF01"]["perceived"] == "A"

    def test_no_label_file(self, tmp_path):
        write(tmp_path / "Audio/MSP-IMPROV-S01A-F02-R-FF01.wav")
        with pytest.raises(EmodartsError, match=r"labels in Evalution\.txt"):
            read(tmp_path)


class TestProtocols:
    def test_session6_has_whole_sessions(self, layout):
        corpus, labels, folds = folds_of("msp_improv", layout[0])
        check_folds(folds, labels)
        sessions = dict(zip(*(corpus.utterances[name].to_pylist() for name in ("utterance", "session")), strict=True))
        roles = [
            ("".join({sessions[u] for u in fold.tests["msp_improv/test"]}), "".join({sessions[u] for u in fold.dev}))
            for fold in folds
        ]
        assert roles == [("4", "3"), ("3", "2"), ("2", "1"), ("1", "6"), ("6", "5"), ("5", "4")]
        assert sorted(u for fold in folds for u in fold.tests["msp_improv/test"]) == sorted(labels.by_utterance)

    def test_speaker12_has_the_partner_as_dev(self, layout):
        _, labels, folds = folds_of("msp_improv", layout[0], protocol="speaker12")
        check_folds(folds, labels)
        assert len(folds) == 12
        for fold in folds:
            (test,) = {fold.speakers[u].removeprefix("msp_improv/") for u in fold.tests["msp_improv/test"]}
            partner = {"F": "M", "M": "F"}[test[0]] + test[1]
            assert {fold.speakers[u] for u in fold.dev} == {f"msp_improv/{partner}"}
            assert len({fold.speakers[u] for u in fold.train}) == 10

    def test_emodarts_takes_read_turns_by_intended_label(self, layout):
        corpus, labels, folds = folds_of("msp_improv", layout[0], protocol="emodarts", source="intended")
        check_folds(folds, labels)
        rows = {row["utterance"]: row for row in corpus.utterances.to_pylist()}
        tests = [{rows[u]["session"] for u in fold.tests["msp_improv/test"]} for fold in folds]
        assert tests == [{"1"}, {"2"}, {"3"}, {"5"}]
        assert {rows[u]["scenario"] for fold in folds for u in fold.train} == {"R"}
        assert {rows[u]["session"] for fold in folds for u in fold.train} == {"1", "2", "3", "5", "6"}

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"protocol": "emodarts"}, r"defined for corpus\.source=intended"),
            ({"protocol": "session5"}, "choose one of msp_improv/session6"),
            ({"protocol": "speaker2"}, "does not fit msp_improv"),
        ],
    )
    def test_settings_that_do_not_fit(self, layout, settings, said):
        with pytest.raises(EmodartsError, match=said):
            folds_of("msp_improv", layout[0], **settings)
