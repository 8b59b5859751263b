"""The IEMOCAP reader on a small synthetic copy: speakers, oddities, contradictions, protocols."""

import pytest

from emodarts import corpora
from emodarts.corpora.protocols import rules
from emodarts.corpora.settings import CorpusSettings
from emodarts.errors import EmodartsError
from tests.support.layouts import check_folds, folds_of
from tests.support.layouts.audio import write
from tests.support.layouts.iemocap import HEADER, line, write_corpus


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    root = tmp_path_factory.mktemp("iemocap")
    return root, write_corpus(root)


def read(root):
    return corpora.read(CorpusSettings(name="iemocap", root=str(root)))


def one_dialog(root, text, dialog="Ses01F_impro01", turns=("F000", "M000")):
    """A copy with one dialog, read."""
    labels = root / f"Session{dialog[4]}/dialog/EmoEvaluation/{dialog}.txt"
    labels.parent.mkdir(parents=True, exist_ok=True)
    labels.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    for turn in turns:
        write(root / f"Session{dialog[4]}/sentences/wav/{dialog}/{dialog}_{turn}.wav")
    corpus = read(root)
    return {row["utterance"]: row for row in corpus.utterances.to_pylist()}, {
        row["path"]: row["reason"] for row in corpus.dropped.to_pylist()
    }


class TestReader:
    def test_everything_on_disk_is_a_row_or_a_drop(self, layout):
        root, written = layout
        written.assert_matches(read(root))

    @pytest.mark.parametrize("above", ["IEMOCAP", "."])
    def test_folders_above_the_sessions(self, tmp_path, above):
        written = write_corpus(tmp_path, junk=False, above=above)
        assert len(written.rows) == 80
        written.assert_matches(read(tmp_path))

    def test_root_may_be_the_release_itself(self, tmp_path):
        write_corpus(tmp_path, junk=False)
        assert read(tmp_path / "IEMOCAP_full_release").utterances.num_rows == 80

    def test_the_speaker_is_that_of_the_turn_not_of_the_dialog(self, layout):
        rows = {row["utterance"]: row for row in read(layout[0]).utterances.to_pylist()}
        for turn, speaker, gender in (
            ("Ses01F_impro01_M000", "Ses01M", "male"),  # the woman wore the markers, the man speaks
            ("Ses01F_impro01_F000", "Ses01F", "female"),
            ("Ses03M_impro05a_F000", "Ses03F", "female"),
            ("Ses05M_script01_1b_F000", "Ses05F", "female"),
        ):
            assert rows[f"iemocap/{turn}"]["speaker"] == f"iemocap/{speaker}"
            assert rows[f"iemocap/{turn}"]["gender"] == gender
        by_prefix = [row for name, row in rows.items() if row["speaker"] != f"iemocap/{name[8:14]}"]
        assert len(by_prefix) > len(rows) / 3  # the prefix would give these a wrong speaker
        assert len({row["speaker"] for row in rows.values()}) == 10

    def test_the_order_in_the_file_is_valence_activation_dominance(self, tmp_path):
        rows, _ = one_dialog(tmp_path, HEADER + line("Ses01F_impro01_F000", values="1.0000, 2.0000, 3.0000"))
        row = rows["iemocap/Ses01F_impro01_F000"]
        assert (row["valence"], row["arousal"], row["dominance"]) == (1, 2, 3)

    def test_the_scale_stands_in_the_metadata(self, layout):
        assert read(layout[0]).utterances.schema.metadata[b"attribute_scale"] == b"1 to 5"

    def test_scripted_turns_share_their_script_over_sessions(self, layout):
        rows = read(layout[0]).utterances.to_pylist()
        texts = {row["recording"]: row["text"] for row in rows}
        assert texts["Ses02F_script03_2"] == texts["Ses03F_script03_2"] == "script03_2"
        assert texts["Ses05M_script01_1b"] == texts["Ses01M_script01_1"] == "script01_1"
        assert texts["Ses03M_impro05a"] is None


class TestLabelLines:
    def test_two_labels_of_one_turn(self, tmp_path):
        text = HEADER + line("Ses01F_impro01_F000", "sad") + line("Ses01F_impro01_F000", "ang")
        with pytest.raises(EmodartsError, match=r"impro01\.txt:3 and .*impro01\.txt:11 .*F000 \(sad.*; ang"):
            one_dialog(tmp_path, text)

    def test_one_label_twice(self, tmp_path):
        rows, dropped = one_dialog(tmp_path, HEADER + line("Ses01F_impro01_F000", "sad") * 2, turns=("F000",))
        assert rows["iemocap/Ses01F_impro01_F000"]["perceived"] == "sad"
        assert dropped == {
            "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt:11": "says the same as "
            "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt:3"
        }

    def test_a_turn_of_another_dialog(self, tmp_path):
        text = HEADER + line("Ses01F_impro01_F000") + line("Ses01F_impro02_M000")
        rows, dropped = one_dialog(tmp_path, text)
        assert list(rows) == ["iemocap/Ses01F_impro01_F000"]
        assert "another dialog" in dropped["Session1/dialog/EmoEvaluation/Ses01F_impro01.txt:11"]
        assert "no line" in dropped["Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav"]

    def test_unknown_words_are_dropped_with_the_known_ones(self, tmp_path):
        text = HEADER + line("Ses01F_impro01_F000") + line("Ses01F_impro01_M000", "joy")
        _, dropped = one_dialog(tmp_path, text)
        reason = dropped["Session1/dialog/EmoEvaluation/Ses01F_impro01.txt:11"]
        assert "'joy'" in reason
        assert "hap" in reason

    def test_a_folder_without_labels_says_what_was_looked_for(self, tmp_path):
        write(tmp_path / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav")
        with pytest.raises(EmodartsError, match="EmoEvaluation"):
            read(tmp_path)

    def test_the_same_turn_in_two_places(self, tmp_path):
        write_corpus(tmp_path, junk=False)
        write(tmp_path / "copy" / "Ses01F_impro01_F000.wav")
        with pytest.raises(EmodartsError, match="are both utterance iemocap/Ses01F_impro01_F000"):
            read(tmp_path)


class TestProtocols:
    def test_session5_has_whole_sessions(self, layout):
        corpus, labels, folds = folds_of("iemocap", layout[0])
        check_folds(folds, labels)
        sessions = dict(zip(*(corpus.utterances[name].to_pylist() for name in ("utterance", "session")), strict=True))
        roles = [({sessions[u] for u in fold.tests["iemocap/test"]}, {sessions[u] for u in fold.dev}) for fold in folds]
        assert roles == [({"4"}, {"5"}), ({"3"}, {"4"}), ({"2"}, {"3"}), ({"1"}, {"2"}), ({"5"}, {"1"})]
        assert {fold.protocol for fold in folds} == {"iemocap/session5"}
        tested = [u for fold in folds for u in fold.tests["iemocap/test"]]
        assert sorted(tested) == sorted(labels.by_utterance)

    def test_excited_is_happy_or_left_out(self, layout):
        _, merged, _ = folds_of("iemocap", layout[0])
        _, dropped, _ = folds_of("iemocap", layout[0], excited="drop")
        assert sum(name == "happy" for name in merged.by_utterance.values()) == 20
        assert sum(name == "happy" for name in dropped.by_utterance.values()) == 10
        assert dropped.left_out["exc"] == 10
        assert {"xxx", "fru", "oth", "sur", "dis", "fea"} <= set(merged.left_out)

    def test_random_dev_says_that_it_shares_speakers(self, layout):
        _, labels, folds = folds_of("iemocap", layout[0], protocol="session5-random-dev")
        check_folds(folds, labels)
        assert len(folds) == 5
        assert all(fold.protocol_caveat == rules.SHARED_DEV for fold in folds)
        assert all(0.15 < len(fold.dev) / len(fold.dev + fold.train) < 0.25 for fold in folds)

    def test_speaker10_has_the_session_partner_as_dev(self, layout):
        _, labels, folds = folds_of("iemocap", layout[0], protocol="iemocap/speaker10")
        check_folds(folds, labels)
        assert len(folds) == 10
        for fold in folds:
            (test,) = {fold.speakers[u] for u in fold.tests["iemocap/test"]}
            assert {fold.speakers[u] for u in fold.dev} == {test[:-1] + {"F": "M", "M": "F"}[test[-1]]}
            assert len({fold.speakers[u] for u in fold.train}) == 8

    def test_emodarts_takes_improvised_turns_without_excited(self, layout):
        corpus, labels, folds = folds_of("iemocap", layout[0], protocol="emodarts", excited="drop")
        check_folds(folds, labels)
        tests = [{fold.speakers[u][-3:] for u in fold.tests["iemocap/test"]} for fold in folds]
        assert tests == [{"01M", "02F"}, {"02M", "03F"}, {"03M", "04F"}, {"04M", "05F"}, {"05M", "01F"}]
        rows = {row["utterance"]: row for row in corpus.utterances.to_pylist()}
        used = {u for fold in folds for u in (*fold.train, *fold.tests["iemocap/test"])}
        assert {rows[u]["scenario"] for u in used} == {"improvised"}
        assert {rows[u]["perceived"] for u in used} == {"ang", "hap", "neu", "sad"}

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"protocol": "emodarts-no-dev"}, r"defined for corpus\.excited=drop"),
            ({"source": "intended"}, "perceived labels alone"),
            ({"protocol": "session6"}, "choose one of iemocap/session5"),
            ({"protocol": "speaker11"}, "does not fit iemocap"),
        ],
    )
    def test_settings_that_do_not_fit(self, layout, settings, said):
        with pytest.raises(EmodartsError, match=said):
            folds_of("iemocap", layout[0], **settings)
