"""SAVEE: the released and the flat layout, codes of one and of two letters, and a man each as test part."""

import pytest

from emodarts import corpora
from emodarts.corpora.labels import label_utterances
from emodarts.corpora.settings import CorpusSettings
from tests.support.contracts import CorpusContract
from tests.support.layouts import check_folds, folds_of, savee


@pytest.fixture(scope="module", params=["nested", "flat"])
def folder(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    return root, savee.write_corpus(root, flat=request.param == "flat")


class TestSavee(CorpusContract):
    @pytest.fixture
    def corpus(self, folder):
        return corpora.read(CorpusSettings(name="savee", root=str(folder[0])))

    def test_rows_and_drops(self, corpus, folder):
        folder[1].assert_matches(corpus)

    def test_sadness_and_surprise_are_no_others(self, corpus):
        labels = label_utterances(corpus.utterances, CorpusSettings(name="savee", class_set="full"))
        assert labels.by_utterance["savee/KL_sa01"] == "sad"
        assert labels.by_utterance["savee/KL_su01"] == "surprised"
        assert labels.by_utterance["savee/KL_a01"] == "angry"

    def test_speaker4(self, folder):
        _, labels, folds = folds_of("savee", folder[0])
        check_folds(folds, labels)
        roles = [
            ({fold.speakers[u][-2:] for u in fold.tests["savee/test"]}, {fold.speakers[u][-2:] for u in fold.dev})
            for fold in folds
        ]
        assert roles == [({"DC"}, {"JE"}), ({"JE"}, {"JK"}), ({"JK"}, {"KL"}), ({"KL"}, {"DC"})]


def test_both_layouts_make_the_same_folds(tmp_path):
    savee.write_corpus(tmp_path / "flat", flat=True, junk=False)
    savee.write_corpus(tmp_path / "nested", junk=False)
    hashes = [[fold.hash for fold in folds_of("savee", tmp_path / kind)[2]] for kind in ("flat", "nested")]
    assert hashes[0] == hashes[1]


def test_the_folder_of_one_man_is_enough(tmp_path):
    savee.write_corpus(tmp_path, junk=False)
    corpus = corpora.read(CorpusSettings(name="savee", root=str(tmp_path / "AudioData" / "JE")))
    assert set(corpus.utterances["speaker"].to_pylist()) == {"savee/JE"}
    assert corpus.dropped.num_rows == 0
